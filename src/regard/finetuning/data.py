"""Read tables as people keep them: CSV, TSV, JSON lines, Parquet or plain lines, with their own column names."""

from __future__ import annotations

import csv
import difflib
import io
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import DataError
from regard.models.pictures import PICTURES

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
FILES = {"image"}
"""The tasks' columns that hold names of files."""


def read_table(path: str | Path) -> Dataset:
    """Read a table; the cells of CSV and TSV are texts.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl` or `.parquet` file, the texts in UTF-8; or a folder with a folder of pictures
            for each class, read as the columns `image` and `label`.

    Raises:
        DataError: there is no such file, or it cannot be read; says where in the file.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folders(path)
    if not path.is_file():
        raise DataError(f"{path}: need a file to read; got nothing there; {_neighbours(path)}")
    readers = {
        ".csv": _read_separated,
        ".tsv": _read_separated,
        ".jsonl": _read_lines_of_json,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: need a file of type {', '.join(SUFFIXES)}; got '{path.suffix}'; convert it.")
    return reader(path)


def take_columns(table: Dataset, columns: dict[str, str], path: str | Path) -> Dataset:
    """Keep the named columns alone and call them by the task's names.

    Args:
        table: the table.
        columns: the task's name -> the table's name.
        path: where the table came from, for the message.

    Raises:
        DataError: a column does not exist, or the table has no rows.
    """
    for role, column in columns.items():
        require_column(table, column, path, role)
    if not len(table):
        raise DataError(f"{path}: need rows to work on; got a table without any; choose another file.")
    taken = table.select_columns(list(columns.values())).rename_columns({c: r for r, c in columns.items() if c != r})
    for role in FILES.intersection(taken.column_names):
        cells = [locate(cell, path) for cell in taken[role]]
        taken = taken.remove_columns(role).add_column(role, cells)
    return taken


def locate(cell: Any, path: str | Path) -> Any:
    """Return where the file that a cell of a table names lies: as it says, else beside the table."""
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return str(folder / cell) if isinstance(cell, str) else cell


def require_column(table: Dataset, column: str, path: str | Path, role: str) -> None:
    """Raise DataError if a table lacks the column that holds what the task calls `role`."""
    if column not in table.column_names:
        raise DataError(
            f"{path}: need the column '{column}'; got {_quote(table.column_names)}; set data.columns.{role} to one of "
            f"them{_perhaps(column, table.column_names)}."
        )


def read_texts(path: str | Path) -> list[str]:
    """Read one text a line, blank lines left out."""
    return [line for line in _decode(Path(path)).splitlines() if line.strip()]


def set_aside(table: Dataset, fraction: float, seed: int, key: str) -> tuple[Dataset, Dataset]:
    """Part a table in two at random; rows with an equal `key` stay together.

    Returns:
        The larger part, and about `fraction` of the rows.
    """
    groups: dict[Any, list[int]] = {}
    for row, value in enumerate(table[key]):
        groups.setdefault(normalize(value), []).append(row)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    aside: list[int] = []
    while order and len(aside) < fraction * len(table):
        aside += order.pop()
    rest = sorted(row for group in order for row in group)
    return table.select(rest), table.select(sorted(aside))


def normalize(value: Any) -> Any:
    """Return what two texts share that differ in case or spaces alone."""
    return " ".join(value.casefold().split()) if isinstance(value, str) else value


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as the suffix says; in CSV and TSV a nested value becomes columns."""
    require_writable(path)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        write_jsonl(path, rows)
    elif suffix == ".parquet":
        _dataset(rows).to_parquet(str(path))
    else:
        _write_separated(path, rows)


def require_writable(path: Path) -> None:
    """Raise DataError unless a table can be written to a path without losing anything."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: need a file of type {', '.join(SUFFIXES)} to write; got '{path.suffix}'; rename it.")
    if path.exists():
        raise DataError(f"{path}: need a new file to write; got one that exists; name another.")
    if not path.parent.is_dir():
        raise DataError(f"{path}: need a folder to write into; got none at '{path.parent}'; make it.")


def _write_separated(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    flat = [_flatten(row) for row in rows]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]) if flat else [], delimiter=_separator(path))
        writer.writeheader()
        writer.writerows(flat)


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Give each value of a nested dictionary its own column."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {f"{key}_{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _read_folders(path: Path) -> Dataset:
    files = sorted(file for file in path.glob("*/*") if file.suffix.lower() in PICTURES)
    if not files:
        raise DataError(
            f"{path}: need a folder for each class with pictures in it ({', '.join(PICTURES)}); got none; name their "
            "parent, or a table."
        )
    return _dataset([{"image": str(file.relative_to(path)), "label": file.parent.name} for file in files])


def _read_separated(path: Path) -> Dataset:
    text = _decode(path)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if rows and row and len(row) != len(rows[0]):
                raise DataError(
                    f"{path}: need {len(rows[0])} cells in each row, as in the first; got {len(row)} at line "
                    f"{reader.line_num}; put texts that hold the separator in double quotes."
                )
            if row:
                rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}: need valid quoting; got '{error}' at line {reader.line_num}; correct it.") from None
    return _from_rows(rows)


def _from_rows(rows: list[list[str]]) -> Dataset:
    from datasets import Dataset

    names, body = (rows[0], rows[1:]) if rows else ([], [])
    columns = zip(*body, strict=True) if body else ([] for _ in names)
    return Dataset.from_dict({name: list(column) for name, column in zip(names, columns, strict=True)})


def _delimiter(path: Path, text: str) -> str:
    """Return a tab for TSV, else whichever the first line holds most of."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _read_lines_of_json(path: Path) -> Dataset:
    rows = []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if line.strip():
            rows.append(_parse(path, number, line))
    return _dataset(rows)


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: need one JSON object a line; got '{error.msg}' at line {number}; correct it."
        ) from None
    if not isinstance(row, dict):
        raise DataError(f"{path}: need one JSON object a line; got {type(row).__name__} at line {number}; correct it.")
    return row


def _dataset(rows: Sequence[dict[str, Any]]) -> Dataset:
    from datasets import Dataset

    names = {name: None for row in rows for name in row}
    return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})


def _read_parquet(path: Path) -> Dataset:
    import pyarrow.parquet
    from datasets import Dataset

    try:
        return Dataset(pyarrow.parquet.read_table(path))
    except pyarrow.ArrowInvalid:
        raise DataError(f"{path}: need a Parquet file; got something else; write it again.") from None


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise DataError(
            f"{path}: need text in UTF-8; got byte 0x{data[error.start]:02x} at line {line}, byte {column} of it; save "
            f"the file as UTF-8, for example with 'iconv -f latin1 -t utf-8'."
        ) from None


def _neighbours(path: Path) -> str:
    """Say which files are where one was looked for."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder '{folder}' either, correct the path."
    names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not names:
        return f"'{folder}' holds no table, correct the path."
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{folder / near[0]}'?"
    return f"'{folder}' holds {_quote(names[:5])}{' and others' if len(names) > 5 else ''}, correct the path."


def _quote(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) if names else "none"


def _perhaps(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f", perhaps '{near[0]}'" if near else ""
