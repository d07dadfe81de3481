"""What files hold: sizes and SHA-256, written down when they are made, and compared when they are read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from regard._files import reach_the_disk, read_json, write_json
from regard.errors import DataError

SEAL = "checkpoint.json"
"""What a checkpoint holds, and of which run it is; written last."""

Described = dict[str, dict[str, Any]]
"""A file's name, from the folder that they are in -> its `bytes` and its `sha256`."""


def describe(folder: Path, files: Iterable[Path]) -> Described:
    """Say what files in a folder hold."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": digest(path)} for path in files
    }


def fault(folder: Path, described: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Say what is wrong with files that were described earlier."""
    for name, before in described.items():
        path = folder / name
        if not is_inside(name):
            return f"the name '{name}', which leads out of it"
        found = _differs(path, before)
        if found and not ("before" in before and _is_as(path, before["before"])):  # it was about to be written anew
            return f"{found}{name}"
    return None


def _differs(path: Path, before: Mapping[str, Any]) -> str | None:
    if not path.is_file():
        return "one without "
    if path.stat().st_size != before["bytes"]:
        return f"{path.stat().st_size} of the {before['bytes']} bytes of "
    return "other bytes in " if digest(path) != before["sha256"] else None


def _is_as(path: Path, before: Mapping[str, Any] | None) -> bool:
    return not path.exists() if before is None else _differs(path, before) is None


def seal(folder: Path, run: str | None) -> None:
    """Write down the run that a checkpoint is of and what it holds, once all of it has reached the disk."""
    reach_the_disk(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    write_json(folder / SEAL, {"run": run, "files": describe(folder, files)})


def broken_seal(folder: Path, run: str | None) -> str | None:
    """Say what is wrong with a checkpoint."""
    if not (folder / SEAL).is_file():
        return f"one without {SEAL}"
    try:
        sealed = read_json(folder / SEAL)
    except DataError:
        return f"one whose {SEAL} is no JSON"
    return "one of another run" if sealed.get("run") != run else fault(folder, sealed.get("files", {}))


def is_inside(name: str) -> bool:
    """Tell whether a name stays in the folder that it is joined to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_own(path: Path) -> None:
    """Make sure that a run does not refer to what lies outside of its directory.

    Raises:
        DataError: a link in it does.
    """
    home = path.resolve()
    for folder, folders, files in os.walk(home):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink() and not entry.resolve().is_relative_to(home):
                raise DataError(
                    f"{path}: need a run without links to what lies outside of it; got one at "
                    f"{entry.relative_to(home)}; put what it points to in its place."
                )
