"""Read tables as people keep them: CSV, TSV, JSON lines, Parquet or plain lines, with their own column names."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from regard._escapes import as_json
from regard._files import as_path, require_no_link, sweep, whole
from regard.errors import DataError
from regard.finetuning.headers import each_once, require_own_names, with_own_names
from regard.finetuning.locks import alone
from regard.finetuning.spreadsheets import SHEET, read_spreadsheet
from regard.finetuning.words import listed, nearest

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""What tables are written as."""
PACKED = ".gz"
TABLES = (*SUFFIXES, SHEET, *(f"{suffix}{PACKED}" for suffix in SUFFIXES[:3]))
"""What tables are read from."""
MOST_COLUMNS = 10_000
FILES = {"image", "audio"}
"""The tasks' columns that hold names of files."""

Reader = Callable[[Path], Iterator[dict[str, Any]]]
Formats = dict[str, Reader]
"""A file's ending, or "" for a folder -> what yields its rows."""
GROUP = "group"
"""What the column is called in a table of a task that says which rows belong together."""


@dataclass(frozen=True)
class Part:
    """A part that a data set names its own: where it lies, and what yields its rows."""

    path: Path
    rows: Callable[[], Iterator[dict[str, Any]]]


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
        ".parquet": _read_parquet,
    }
    return readers[kind_of(path).removesuffix(PACKED)](path)


def kind_of(path: Path) -> str:
    """Return what a file's name ends in, such as `.csv` or `.csv.gz`."""
    suffix = path.suffix.lower()
    return f"{Path(path.stem).suffix.lower()}{suffix}" if suffix == PACKED else suffix


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
    spread = {role: found for role, column in columns.items() if (found := _spread(column, names, path, role))}
    plain = {role: column for role, column in columns.items() if role not in spread and isinstance(column, str)}
    for role, column in plain.items():
        require_column(names, column, path, f"data.columns.{role}")
    if group is not None:
        require_column(names, group, path, "data.group")
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
            f"{path}: need columns that match '{column}'; got {_quote(names)}; correct data.columns.{role}."
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
            f"{path}: need the column '{column}'; got {_quote(names)}; set {key} to one of "
            f"them{_perhaps(column, names)}."
        )


def normalize(value: Any) -> Any:
    """Return what two texts share that differ in case or spaces alone."""
    return " ".join(value.casefold().split()) if isinstance(value, str) else value


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    with whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(as_json(row) + "\n")


def require_writable(path: Path) -> None:
    """Raise DataError unless a table can be written to a path without losing anything."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: need a file of type {', '.join(SUFFIXES)} to write; got '{path.suffix}'; rename it.")
    require_no_link(path)
    if path.exists():
        raise DataError(f"{path}: need a new file to write; got one that exists; name another.")
    if not path.parent.is_dir():
        raise DataError(f"{path}: need a folder to write into; got none at '{path.parent}'; make it.")


class TableWriter:
    """Writes rows as the suffix says, some at a time, to a side; the file has its name once all are written.

    In CSV and TSV a nested value becomes columns; the first rows say which columns there are.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl` or `.parquet` file that does not exist.

    Raises:
        DataError: such a file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        require_writable(path)
        self.path = path
        self._open: Any = None
        self._add: Callable[[Sequence[dict[str, Any]]], None]

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows.

        Raises:
            DataError: they have other columns than those before.
        """
        if self._open is None:
            openers = {".jsonl": self._start_jsonl, ".parquet": self._start_parquet}
            openers.get(self.path.suffix.lower(), self._start_separated)(rows)
        try:
            self._add(rows)
        except (ValueError, TypeError) as error:  # of csv and of pyarrow
            raise DataError(
                f"{self.path}: need the same columns in all rows; got others after the first {len(rows)} ({error}); "
                "write to a .jsonl file."
            ) from None

    def __enter__(self) -> TableWriter:
        with ExitStack() as stack:
            stack.enter_context(alone(self.path))
            require_writable(self.path)  # again, now that nobody else writes it
            sweep(self.path)
            self._aside = stack.enter_context(whole(self.path))
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _close(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None and self._open is None:
            self.write([])
        if self._open is not None:
            self._open.close()

    def _start_jsonl(self, rows: Sequence[dict[str, Any]]) -> None:
        self._open = file = self._aside.open("w", encoding="utf-8")
        self._add = lambda rows: file.writelines(as_json(row) + "\n" for row in rows)

    def _start_parquet(self, rows: Sequence[dict[str, Any]]) -> None:
        import pyarrow.parquet

        schema = pyarrow.Table.from_pylist(list(rows)).schema
        self._open = file = pyarrow.parquet.ParquetWriter(self._aside, schema)
        self._add = lambda rows: file.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema))

    def _start_separated(self, rows: Sequence[dict[str, Any]]) -> None:
        self._open = file = self._aside.open("w", encoding="utf-8", newline="")
        writer = csv.DictWriter(file, list(_flatten(rows[0])) if rows else [], delimiter=_separator(self.path))
        writer.writeheader()
        self._add = lambda rows: writer.writerows(map(_flatten, rows))


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Give each value of a nested dictionary its own column."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {f"{key}_{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


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
        yield from _objects(path)
    elif kind == ".parquet":
        with _open_parquet(path) as file, _parquet_faults(path):
            for batch in file.iter_batches(1000):
                batch.validate(full=True)
                yield from batch.to_pylist()
    elif kind == ".txt":
        yield from ({text_column: line} for text in read_lines(path) for line in text.splitlines() if line.strip())
    else:
        cells = _rows(path, sheet)
        header = next(cells, [])
        yield from (dict(zip(header, row, strict=True)) for row in cells)


def _rows(path: Path, sheet: str | None = None) -> Iterator[list[str]]:
    """Yield the rows of a table of texts, the header first."""
    rows = read_spreadsheet(path, sheet) if path.suffix.lower() == SHEET else _separated(path)
    header = next(rows, [])
    _require_few(len(header), path)
    yield from with_own_names(itertools.chain([header], rows), path)


def _require_few(columns: int, path: Path) -> None:
    if columns > MOST_COLUMNS:
        raise DataError(f"{path}: need at most {MOST_COLUMNS:,} columns; got {columns:,}; leave some out.")


def _separated(path: Path) -> Iterator[list[str]]:
    """Yield the rows of CSV or TSV, the header first."""
    lines = read_lines(path)
    first = next(lines, "")
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(itertools.chain([first], lines), delimiter=_delimiter(path, first), strict=True)
    columns = 0
    try:
        for row in reader:
            if columns and row and len(row) != columns:
                raise DataError(
                    f"{path}: need {columns} cells in each row, as in the first; got {len(row)} at line "
                    f"{reader.line_num}; put texts that hold the separator in double quotes."
                )
            if row:
                columns = columns or len(row)
                yield row
    except csv.Error as error:
        raise DataError(f"{path}: need valid quoting; got '{error}' at line {reader.line_num}; correct it.") from None


def _read_separated(path: Path, sheet: str | None = None) -> Dataset:
    from datasets import Dataset

    rows = list(_rows(path, sheet))
    names, body = (rows[0], rows[1:]) if rows else ([], [])
    columns = zip(*body, strict=True) if body else ([] for _ in names)
    return Dataset.from_dict({name: list(column) for name, column in zip(names, columns, strict=True)})


def _delimiter(path: Path, header: str) -> str:
    """Return a tab for TSV, else whichever the first line holds most of."""
    if kind_of(path).startswith(".tsv"):
        return "\t"
    return max(",;\t", key=header.count)


def _read_lines_of_json(path: Path) -> Dataset:
    return _dataset(list(_objects(path)), path)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield _parse(path, number, line)


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=each_once)
    except DataError as error:
        told = str(error).partition(": ")[2]
        raise DataError(f"{path}, line {number}: {told}") from None
    except (ValueError, RecursionError) as error:  # of what is no JSON, of huge numbers and of deep nesting
        told = getattr(error, "msg", None) or str(error).split("; ")[0]
        raise DataError(f"{path}: need one JSON object a line; got '{told}' at line {number}; correct it.") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}: need one JSON object a line; got {type(row).__name__} at line {number}; correct it.")
    if HALF.search(line):
        _require_whole(row, path, number)
    _require_few(len(row), path)
    return row


HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes half of a surrogate pair."""


def _require_whole(row: dict[str, Any], path: Path, number: int) -> None:
    """Raise DataError for halves of surrogate pairs, which are no characters."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(
            f"{path}: need whole characters; got half of a surrogate pair ({half}) in row {number}; correct it or drop "
            "the row."
        ) from None


def _dataset(rows: Sequence[dict[str, Any]], path: Path) -> Dataset:
    from datasets import Dataset

    names = {name: None for row in rows for name in row}
    _require_few(len(names), path)
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


def _read_parquet(path: Path) -> Dataset:
    from datasets import Dataset

    with _open_parquet(path) as file, _parquet_faults(path):
        table = file.read()
        table.validate(full=True)
        return Dataset(table)


def _open_parquet(path: Path) -> Any:
    import pyarrow.parquet

    with _parquet_faults(path):
        file = pyarrow.parquet.ParquetFile(path)
        _require_few(len(file.schema_arrow.names), path)
        _require_own_fields(file.schema_arrow, path)
        return file


def _require_own_fields(fields: Iterable[Any], path: Path) -> None:
    """Raise DataError if two columns, or two values inside of one, share a name."""
    fields = list(fields)
    require_own_names([field.name for field in fields], path)
    for kind in (field.type for field in fields):
        if hasattr(kind, "field"):  # it is nested
            _require_own_fields((kind.field(number) for number in range(kind.num_fields)), path)


@contextmanager
def _parquet_faults(path: Path) -> Iterator[None]:
    """Raise DataError where a Parquet file is damaged."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk
            raise
        told = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: need a Parquet file; got one that cannot be read ({told}); write it again.") from None


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text with their ends."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}: need text in UTF-8; got byte 0x{line[error.start]:02x} at line {number}, byte "
                    f"{error.start + 1} of it; save the file as UTF-8, for example with 'iconv -f latin1 -t utf-8'."
                ) from None
            text = text.removeprefix("\ufeff") if number == 1 else text
            yield from io.StringIO(text, newline="") if "\r" in text else (text,)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked."""
    try:
        with gzip.open(path) if path.suffix.lower() == PACKED else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: need a file packed by gzip; got another ({error}); pack it again.") from None


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
    return f"'{folder}' holds {_quote(names[:5])}{' and others' if len(names) > 5 else ''}, correct the path."


def _quote(names: Sequence[str]) -> str:
    return listed([f"'{name}'" for name in names]) if names else "none"


def _perhaps(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names)
    return f", perhaps '{near}'" if near else ""
