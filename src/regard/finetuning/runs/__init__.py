"""Run directories: how they begin, who writes, what they are made of, and that nothing of it changed."""
