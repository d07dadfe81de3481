"""Tables: read from files, parted, written."""
