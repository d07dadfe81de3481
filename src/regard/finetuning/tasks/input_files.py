"""What the tasks whose inputs are files share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from regard.errors import DataError

if TYPE_CHECKING:
    pass


import hashlib
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

from regard.finetuning.tasks import Part


def require_file(cell: Any, path: str, number: int, what: str) -> None:
    """Raise DataError unless a cell of a table, in the row of this number, names a file."""
    if not isinstance(cell, str) or not Path(cell).is_file():
        got = f"no file '{cell}'" if isinstance(cell, str) else f"a {type(cell).__name__}"
        raise DataError(
            f"{path}: need the file of a {what} in each row; got {got} in row {number}; correct it or drop the row."
        )


def is_hidden(file: Path, folder: Path) -> bool:
    """Tell whether a file in a folder, or a folder on the way to it, is one that people do not see."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def digest(file: str) -> bytes:
    """Return what two files share that are the same."""
    state = Path(file).stat()
    return _digest(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _digest(file: str, size: int, changed: int) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


def alike(cell: Any) -> Any:
    """Return what two cells share that name the same file, or equal ones."""
    return digest(cell) if isinstance(cell, str) and Path(cell).is_file() else cell


PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The part's name -> what people call its folder."""


def own_parts(path: Path, reader: Callable[[Path], Iterator[dict[str, Any]]], pattern: str) -> dict[str, Part]:
    """Find the folders that a data set calls train, validation and test.

    Args:
        path: the folder of the data set.
        reader: what yields the rows of such a folder.
        pattern: what every such folder must hold: a class may be called `train`, too.
    """
    if not path.is_dir():
        return {}
    folders = {folder.name.lower(): folder for folder in sorted(path.iterdir()) if folder.is_dir()}
    found = {
        part: folders[name]
        for part, names in PARTS.items()
        for name in names
        if name in folders and next(folders[name].glob(pattern), None)
    }
    if "train" not in found:
        return {}
    return {part: Part(folder, partial(reader, folder)) for part, folder in found.items()}


def text_of(value: Any, where: str) -> str:
    """Return a cell that must be a text."""
    if not isinstance(value, str):
        raise DataError(f"{where}: need a text; got {type(value).__name__}; correct the column or name another.")
    return value
