"""Tables read: whole, or row by row, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard._files import as_path
from regard.errors import DataError
from regard.finetuning.data.spreadsheets import SHEET
from regard.finetuning.words import nearest, quoted

if TYPE_CHECKING:
    from datasets import Dataset
from regard.finetuning.data.columns import require_few
from regard.finetuning.data.headers import require_own_names
from regard.finetuning.data.json_lines import objects
from regard.finetuning.data.lines import PACKED, kind_of, read_lines
from regard.finetuning.data.parquet import open_parquet, parquet_faults, read_parquet
from regard.finetuning.data.separated import text_rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""What tables are written as."""


TABLES = (*SUFFIXES, SHEET, *(f"{suffix}{PACKED}" for suffix in SUFFIXES[:3]))
"""What tables are read from."""


Reader = Callable[[Path], Iterator[dict[str, Any]]]


Formats = dict[str, Reader]
"""A file's ending, or "" for a folder -> what yields its rows."""


def read_table(path: str | Path, formats: Formats | None = None, sheet: str | None = None) -> Dataset:
    """Read a table; the cells of CSV and TSV are texts.

    Args:
        path: a `.csv`, `.tsv` or `.jsonl` file in UTF-8, also with `.gz` behind, a `.parquet` or an `.xlsx` file.
        formats: what else can be read.
        sheet: of a workbook; the first if left out.

    Raises:
        DataError: there is no such file, or it cannot be read; says where in the file.
    """
    path = as_path(path, "data", "a table")
    if reader := _other_reader(path, formats):
        return read_rows(reader(path), path)
    _require_table(path, (*TABLES, *filter(None, formats or {})))
    readers: dict[str, Callable[[Path], Dataset]] = {
        ".csv": _read_separated,
        ".tsv": _read_separated,
        SHEET: partial(_read_separated, sheet=sheet),
        ".jsonl": _read_lines_of_json,
        ".parquet": read_parquet,
    }
    return readers[kind_of(path).removesuffix(PACKED)](path)


def read_rows(rows: Iterable[dict[str, Any]], path: Path) -> Dataset:
    """Return rows as a table; `path` is where they come from, for messages."""
    return _dataset(list(rows), path)


def _other_reader(path: Path, formats: Formats | None) -> Reader | None:
    if not path.exists():
        return None
    return (formats or {}).get("" if path.is_dir() else path.suffix.lower())


def _require_table(path: Path, suffixes: Sequence[str]) -> None:
    if not path.is_file():
        got = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else ""
        if got:
            raise DataError(f"{path}: need a file of type {', '.join(suffixes)}; got {got}; name a file.")
        raise DataError(f"{path}: need a file to read; got nothing there; {neighbours(path)}")
    if kind_of(path) not in suffixes:
        raise DataError(f"{path}: need a file of type {', '.join(suffixes)}; got '{kind_of(path)}'; convert it.")


def stream(
    path: str | Path, text_column: str, formats: Formats | None = None, sheet: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table one by one, so that memory does not grow with the file.

    Args:
        path: what `read_table` reads, or a `.txt` file with one text a line, blank lines left out.
        text_column: what the texts of a `.txt` file are called.
        formats: what else can be read.
        sheet: of a workbook; the first if left out.

    Raises:
        DataError: there is no such file, or it cannot be read; says where in the file.
    """
    path = as_path(path, "data", "a table")
    kind = kind_of(path).removesuffix(PACKED)
    if reader := _other_reader(path, formats):
        yield from reader(path)
        return
    _require_table(path, (*TABLES, ".txt", f".txt{PACKED}", *filter(None, formats or {})))
    if kind == ".jsonl":
        yield from objects(path)
    elif kind == ".parquet":
        with open_parquet(path) as file, parquet_faults(path):
            for batch in file.iter_batches(1000):
                batch.validate(full=True)
                yield from batch.to_pylist()
    elif kind == ".txt":
        lines = (line.rstrip("\r\n") for line in read_lines(path))
        yield from ({text_column: line} for line in lines if line.strip())
    else:
        cells = text_rows(path, sheet)
        header: list[str] = next(cells, [])
        yield from (dict(zip(header, row, strict=True)) for row in cells)


def _read_separated(path: Path, sheet: str | None = None) -> Dataset:
    from datasets import Dataset

    rows = list(text_rows(path, sheet))
    names, body = (rows[0], rows[1:]) if rows else ([], [])
    columns = zip(*body, strict=True) if body else ([] for _ in names)
    return Dataset.from_dict({name: list(column) for name, column in zip(names, columns, strict=True)})


def _read_lines_of_json(path: Path) -> Dataset:
    return _dataset(list(objects(path)), path)


def _dataset(rows: Sequence[dict[str, Any]], path: Path) -> Dataset:
    from datasets import Dataset

    names = {name: None for row in rows for name in row}
    require_few(len(names), path)
    require_own_names(list(names), path)
    columns = {name: [row.get(name) for row in rows] for name in names}
    try:
        return Dataset.from_dict(columns)
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:  # of pyarrow
        raise _mixed(columns, path, error) from None


def _mixed(columns: dict[str, list[Any]], path: Path, error: Exception) -> DataError:
    """Say in which column and row a value is of another kind than those before, or one that no table holds."""
    for name, cells in columns.items():
        first = next((type(cell) for cell in cells if cell is not None), type(None))
        for number, cell in enumerate(cells, start=1):
            huge = isinstance(cell, int) and not -(2**63) <= cell < 2**63
            if (cell is not None and type(cell) is not first) or huge:
                got = "a number of more than 64 bits" if huge else f"{type(cell).__name__} after {first.__name__}"
                return DataError(
                    f"{path}: need values of one kind in the column '{name}'; got {got} in row {number}; write them "
                    "alike."
                )
    told = " ".join(str(error).split())[:100]
    return DataError(f"{path}: need values of one kind in each column; got others ({told}); write them alike.")


def neighbours(path: Path) -> str:
    """Say which files are where one was looked for."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder '{folder}' either, correct the path."
    names = sorted(file.name for file in folder.iterdir() if kind_of(file) in TABLES)
    if not names:
        return f"'{folder}' holds no table, correct the path."
    near = nearest(path.name, names)
    if near:
        return f"did you mean '{folder / near}'?"
    return f"'{folder}' holds {quoted(names[:5])}{' and others' if len(names) > 5 else ''}, correct the path."
