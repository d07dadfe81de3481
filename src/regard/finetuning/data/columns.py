"""The columns of a table: which a task takes, under which name, and what a cell may be."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard import _language
from regard.errors import DataError
from regard.finetuning.words import nearest, quoted

if TYPE_CHECKING:
    from datasets import Dataset


MOST_COLUMNS = 10_000


FILES = {"image", "audio"}
"""The tasks' columns that hold names of files."""


GROUP = "group"
"""What the column is called in a table of a task that says which rows belong together."""


def take_columns(
    table: Dataset, columns: Mapping[str, str | list[str]], path: str | Path, group: str | None = None
) -> Dataset:
    """Keep the named columns alone and call them by the task's names.

    Args:
        table: the table.
        columns: the task's name -> the table's name; several, or a pattern such as `genre_*`, become one column of
            lists: the names of those that hold a 1.
        path: where the table came from, for the message.
        group: the column that says which rows belong together, if one does.

    Raises:
        DataError: a column does not exist, or the table has no rows.
    """
    names = table.column_names
    if not names:
        raise DataError(f"{path}: need rows to work on; got a table without any; choose another file.")
    spread = {role: found for role, column in columns.items() if (found := _spread(column, names, path, role))}
    plain = {role: column for role, column in columns.items() if role not in spread and isinstance(column, str)}
    for role, column in plain.items():
        require_column(names, column, path, f"data.columns.{role}")
    if group is not None:
        require_column(names, group, path, "data.group")
    shared = [column for column, count in Counter(plain.values()).items() if count > 1]
    if shared:
        roles = " and ".join(f"data.columns.{role}" for role, column in plain.items() if column == shared[0])
        raise DataError(f"{path}: need a column of its own for each of {roles}; got '{shared[0]}' twice; name another.")
    if not len(table):
        raise DataError(f"{path}: need rows to work on; got a table without any; choose another file.")
    taken = table.select_columns(list(plain.values())).rename_columns({c: r for r, c in plain.items() if c != r})
    for role, sources in spread.items():
        taken = taken.add_column(role, _marked(table, sources, path))
    if group is not None:
        taken = taken.add_column(GROUP, list(table[group]))
    for role in FILES.intersection(taken.column_names):
        taken = put_column(taken, role, [locate(cell, path) for cell in taken[role]])
    return taken


def put_column(table: Dataset, name: str, cells: Sequence[Any]) -> Dataset:
    """Return a table with other cells in a column."""
    return table.add_column("put", list(cells)).remove_columns(name).rename_column("put", name)


def is_spread(column: str | list[str]) -> bool:
    """Tell whether a name of a column stands for several."""
    return not isinstance(column, str) or any(sign in column for sign in "*?[")


def _spread(column: str | list[str], names: Sequence[str], path: str | Path, role: str) -> dict[str, str]:
    """Return the names that columns stand for -> the columns; none if `column` is one."""
    if isinstance(column, list):
        for each in column:
            require_column(names, each, path, f"data.columns.{role}")
        return {each: each for each in column}
    if column in names or not is_spread(column):
        return {}
    found = fnmatch.filter(names, column)
    if not found:
        raise DataError(
            f"{path}: need columns that match '{column}'; got {quoted(names)}; correct data.columns.{role}."
        )
    before, after = re.split(r"[*?\[]", column)[0], re.split(r"[*?\]]", column)[-1]
    return {each.removeprefix(before).removesuffix(after) or each: each for each in found}


MARKS = {"1": True, "1.0": True, "true": True, "yes": True, "x": True}
MARKS |= {"0": False, "0.0": False, "false": False, "no": False, "": False, "none": False}


def _marked(table: Dataset, sources: dict[str, str], path: str | Path) -> list[list[str]]:
    """Return for each row the names of the columns that hold a 1."""
    rows: list[list[str]] = [[] for _ in range(len(table))]
    for name, column in sources.items():
        for number, cell in enumerate(table[column]):
            mark = MARKS.get(str(cell).strip().lower())
            if mark is None:
                raise DataError(
                    f"{path}: need 0 or 1 in the column '{column}' of a label; got another {type(cell).__name__} in "
                    f"row {number + 1}; correct it, or name one column in data.columns.label."
                )
            if mark:
                rows[number].append(name)
    return rows


def locate(cell: Any, path: str | Path) -> Any:
    """Return where the file that a cell of a table names lies: as it says, else beside the table."""
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return str(folder / cell) if isinstance(cell, str) else cell


def require_column(names: Sequence[str], column: str, path: str | Path, key: str) -> None:
    """Raise DataError if a table of these columns lacks the one that `key` of the configuration names."""
    if column not in names:
        raise DataError(
            f"{path}: need the column '{column}'; got {quoted(names)}; set {key} to one of "
            f"them{_perhaps(column, names)}."
        )


def normalize(value: Any) -> Any:
    """Return what two texts share that differ in case or spaces alone."""
    return _language.joined(value.casefold().split()) if isinstance(value, str) else value


def require_few(columns: int, path: Path) -> None:
    if columns > MOST_COLUMNS:
        raise DataError(f"{path}: need at most {MOST_COLUMNS:,} columns; got {columns:,}; leave some out.")


def _perhaps(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names)
    return f", perhaps '{near}'" if near else ""
