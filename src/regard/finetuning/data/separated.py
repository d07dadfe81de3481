"""Tables of texts, row by row: CSV, TSV and workbooks."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from regard.errors import DataError
from regard.finetuning.data.headers import with_own_names
from regard.finetuning.data.spreadsheets import SHEET, read_spreadsheet

if TYPE_CHECKING:
    pass
from regard.finetuning.data.columns import require_few
from regard.finetuning.data.lines import kind_of, read_lines


def text_rows(path: Path, sheet: str | None = None) -> Iterator[list[str]]:
    """Yield the rows of a table of texts, the header first."""
    rows = read_spreadsheet(path, sheet) if path.suffix.lower() == SHEET else _separated(path)
    header: list[str] = next(rows, [])
    require_few(len(header), path)
    yield from with_own_names(itertools.chain([header], rows), path)


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


def _delimiter(path: Path, header: str) -> str:
    """Return a tab for TSV, else whichever the first line holds most of."""
    if kind_of(path).startswith(".tsv"):
        return "\t"
    return max(",;\t", key=header.count)
