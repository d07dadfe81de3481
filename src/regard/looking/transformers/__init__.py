"""Models of transformers, shown one input."""
