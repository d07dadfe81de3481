"""One input shown to a model: what it attends to, what it answers."""
