"""Tables written: rows as CSV, JSON lines or Parquet, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard._escapes import as_json
from regard._files import require_no_link, sweep, whole
from regard.errors import DataError
from regard.finetuning.locks import alone

if TYPE_CHECKING:
    pass
from regard.finetuning.data.tables import SUFFIXES


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    with whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(as_json(row, default=_as_json) + "\n")


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
        except _UnwritableError as error:
            raise DataError(
                f"{self.path}: need values that JSON holds; got {error}; write to a .parquet file."
            ) from None
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
        self._add = lambda rows: file.writelines(as_json(row, default=_as_json) + "\n" for row in rows)

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


class _UnwritableError(Exception):
    """A value of a kind that JSON does not hold."""


def _as_json(value: Any) -> str:
    """Return what Parquet holds and JSON does not as a text: dates, times and decimal numbers."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    raise _UnwritableError(type(value).__name__)


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Give each value of a nested dictionary its own column."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {f"{key}_{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","
