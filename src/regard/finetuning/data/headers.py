"""What columns are called: each by a name of its own, for of two that share one the last would win unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.finetuning.words import listed


def require_own_names(names: Sequence[Any], where: str | Path, what: str = "column") -> None:
    """Raise DataError if a name is there twice, or none that every library keeps as it is."""
    if any("\0" in str(name) for name in names):
        raise DataError(f"{where}: need names without null characters; got a {what} with one; rename it.")
    twice = [f"'{name}'" for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{where}: need each {what} once; got {listed(twice)} several times; rename or drop all but one."
        )


def with_own_names(rows: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    """Yield the rows of a table, the header first, without columns that have no name and nothing in them.

    Raises:
        DataError: two columns share a name, or have none although something is in them.
    """
    header = next(rows, [])
    nameless = [place for place, name in enumerate(header) if not name.strip()]
    if len(nameless) < 2:
        require_own_names(header, path)
        yield header
        yield from rows
        return
    kept = [place for place in range(len(header)) if place not in set(nameless)]
    require_own_names([header[place] for place in kept], path)
    yield [header[place] for place in kept]
    for number, row in enumerate(rows, start=1):
        if filled := [place for place in nameless if row[place].strip()]:
            raise DataError(
                f"{path}: need a name for each column with something in it; got {len(nameless)} without one, of which "
                f"column {filled[0] + 1} holds something in row {number}; name it in the first row, or drop it."
            )
        yield [row[place] for place in kept]


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, whose reader this is a hook of.

    Raises:
        DataError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        require_own_names([key for key, _ in pairs], "JSON", "key")
    return found
