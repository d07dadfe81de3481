"""What the parts of a model's attention are worth: what a score loses without them."""
