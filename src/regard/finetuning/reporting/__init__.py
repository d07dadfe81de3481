"""What reports, cards and comparisons say of runs."""
