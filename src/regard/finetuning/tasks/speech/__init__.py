"""Tasks whose inputs or results are sounds."""
