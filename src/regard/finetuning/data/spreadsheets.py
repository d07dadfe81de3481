"""Tables of spreadsheet programs, read as tables of texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.finetuning.words import quoted

SHEET = ".xlsx"


def read_spreadsheet(path: Path, sheet: str | None = None) -> Iterator[list[str]]:
    """Yield the rows of a workbook's sheet as texts, the header first; rows without anything are left out.

    Args:
        path: the workbook.
        sheet: its name; the first if left out.

    Raises:
        DataError: it is no workbook, it has no such sheet, or a row has more cells than the header.
    """
    with _opened(path) as book:
        cells = book.parse(_chosen(path, book, sheet), header=None, dtype=object, keep_default_na=False)
    rows = [row for row in ([_text(cell) for cell in row] for row in cells.itertuples(index=False)) if any(row)]
    columns = max((place for place, cell in enumerate(rows[0], start=1) if cell), default=0) if rows else 0
    for number, row in enumerate(rows, start=1):
        if any(row[columns:]):
            raise DataError(
                f"{path}: need {columns} cells in each row, as in the first; got {len(row)} in row {number}; name each "
                "column in the first row."
            )
        yield row[:columns]


def told_of_sheets(path: Path, sheet: str | None = None) -> str | None:
    """Say which sheet of a workbook is read and which are not, if others hold anything."""
    if path.suffix.lower() != SHEET or not path.is_file():
        return None
    with _opened(path) as book:
        chosen = _chosen(path, book, sheet)
        left = [name for name in book.sheet_names if name != chosen and _holds_anything(book, name)]
    if not left:
        return None
    return f"{path}: sheet '{chosen}' is read; left out: {quoted(left)}"


def _chosen(path: Path, book: Any, sheet: str | None) -> str:
    """Return the name of the sheet to read."""
    names = [str(name) for name in book.sheet_names]
    if sheet is not None and sheet not in names:
        raise DataError(f"{path}: need the sheet '{sheet}'; got {quoted(names)}; name one of them, as data.sheet does.")
    return names[0] if sheet is None else sheet


def _holds_anything(book: Any, name: str) -> bool:
    return any(cell is not None for row in book.book[name].iter_rows(values_only=True) for cell in row)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pandas

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a sheet has beside its cells
            with pandas.ExcelFile(path, engine="openpyxl") as book:
                yield book
    except ImportError:
        raise DataError(f"{path}: need openpyxl for .xlsx; got an environment without it; pip install it.") from None
    except (OSError, DataError):
        raise
    except Exception as error:  # whatever a library raises where a file is damaged
        told = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: need an Excel workbook (.xlsx); got another file ({told}); save it again.") from None


def _text(cell: Any) -> str:
    """Return a cell as CSV would have it: whole numbers without a point, no time where it is midnight."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).removesuffix(" 00:00:00")
