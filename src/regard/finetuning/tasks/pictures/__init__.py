"""Tasks whose inputs or results are pictures."""
