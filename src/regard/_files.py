"""Files and folders that have their names once they are whole, or never."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from regard._escapes import as_json, half
from regard.errors import DataError, RegardError

_MARK = re.compile(r"\.[0-9a-f]{12}\.tmp")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOLD = re.compile(r"(?:os error |errno = |\[errno )(\d+)", re.IGNORECASE)
"""How libraries write the number of an error of the system's: those in Rust, HDF5 and Arrow."""


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a place beside `path` that nobody else writes to, for the block to make a file or a folder there.

    It takes the place of what is at `path` when the block ends, and is gone if the block fails. A process that is
    killed in the block leaves it, under a name that `is_leftover` knows.

    Raises:
        DataError: `path` is a link, which would be written over or through.
        OSError: the disk is full or may not be written, with the name of `path`.
    """
    path = Path(path)
    require_no_link(path)
    aside = beside(path)
    try:
        with naming(path, aside):
            yield aside
            reach_the_disk(aside)
            replace(aside, path)
    finally:
        with suppress(OSError):  # where there is no such folder, or none may write any more
            remove(aside)


@contextmanager
def naming(path: Path, hidden: Path | None = None) -> Iterator[None]:
    """Let an error of the disk name the path that somebody asked for, in place of none or of `hidden`."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or lacks_room(error)
        name = getattr(error, "filename", None)
        ours = hidden is not None and isinstance(name, str) and Path(name).is_relative_to(hidden)
        if not number or not (ours or (name is None and number in (*NO_ROOM, errno.EROFS, errno.EIO))):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def lacks_room(error: BaseException) -> int | None:
    """Return the number of an error that says that a file could not grow, None for any other.

    PyTorch says only that it could not write.
    """
    told = str(error)
    if "PytorchStreamWriter" in told or "unexpected pos" in told:
        return errno.ENOSPC
    found = _TOLD.search(told)
    number = getattr(error, "errno", None) or (int(found[1]) if found else None)
    return number if number in NO_ROOM else None


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a file of one JSON object, whole or not at all."""
    write_text(path, as_json(values, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        DataError: it holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise DataError(f"{path}: need a file with one JSON object; got something else; put back what it was.")
    return values


def as_path(value: Any, who: str, what: str, error: type[RegardError] = DataError) -> Path:
    """Return the path of a file or a folder that somebody gave.

    Args:
        value: what was given.
        who: the argument, for the message.
        what: it stands for.
        error: what is raised.

    Raises:
        DataError: it is no path, or one that no file can have.
    """
    name = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(name, str):
        raise error(f"{who}: need {what}; got {type(value).__name__}; give its path, as str or Path.")
    try:
        nameable = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        nameable = False
    if not nameable:
        raise error(f"{who}: need {what}; got a name that no file can have; correct it.")
    return Path(name)


def as_folder(value: Any, who: str, what: str, error: type[RegardError] = DataError) -> Path:
    """Return the path of a folder that other libraries read and write too, as `as_path` does; they need UTF-8."""
    path = as_path(value, who, what, error)
    if lone := half(str(path)):
        raise error(f"{who}: need {what}; got a name that is no UTF-8 ({lone}); rename it.")
    return path


def beside(path: Path) -> Path:
    """Return a new name in the folder of `path`, hidden, with its suffix."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.tmp{path.suffix}")


def replace(source: Path, target: Path) -> None:
    """Give a file or a folder its name; a folder that has the name goes once it has lost it."""
    if not (source.is_dir() and target.is_dir()):
        source.replace(target)
        return
    former = beside(target)
    target.rename(former)
    source.rename(target)
    remove(former)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if there is one; what a link points to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_leftover(path: Path, of: Path | None = None) -> bool:
    """Tell whether a name is one that `beside` gives, to `of` if that is given."""
    if of is None:
        return path.name.startswith(".") and _MARK.search(path.name) is not None
    return path.parent == of.parent and _MARK.sub("", path.name) == f".{of.name}" != path.name


def sweep(path: Path) -> None:
    """Delete what killed processes left of `path`; for whoever is alone in writing it."""
    for other in path.parent.iterdir():
        if is_leftover(other, path):
            remove(other)


def require_no_link(path: Path) -> None:
    """Raise DataError if a path that is to be written is a link."""
    if path.is_symlink():
        raise DataError(f"{path}: need a file or folder of its own to write; got a link; name what it points to.")


def reach_the_disk(path: Path) -> None:
    """Wait until a file, or all files in a folder, would outlast a loss of power."""
    for each in (path, *path.rglob("*")):
        if each.is_file():
            with each.open("rb") as file:
                os.fsync(file.fileno())
