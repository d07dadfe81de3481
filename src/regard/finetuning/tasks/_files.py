"""What the tasks whose inputs are files share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from regard.errors import DataError


def require_file(cell: Any, path: str, number: int, what: str) -> None:
    """Raise DataError unless a cell of a table, in the row of this number, names a file."""
    if not isinstance(cell, str) or not Path(cell).is_file():
        got = f"no file '{cell}'" if isinstance(cell, str) else f"a {type(cell).__name__}"
        raise DataError(
            f"{path}: need the file of a {what} in each row; got {got} in row {number}; correct it or drop the row."
        )


def digest(file: str) -> bytes:
    """Return what two files share that are the same."""
    return hashlib.sha256(Path(file).read_bytes()).digest()
