"""Tables of spreadsheet programs, read as tables of texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regard.errors import DataError


def read_spreadsheet(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a workbook's first sheet as texts, the header first; rows without anything are left out.

    Raises:
        DataError: it is no workbook, or a row has more cells than the header.
    """
    rows = [row for row in _cells(path) if any(row)]
    columns = max((place for place, cell in enumerate(rows[0], start=1) if cell), default=0) if rows else 0
    for number, row in enumerate(rows, start=1):
        if any(row[columns:]):
            raise DataError(
                f"{path}: need {columns} cells in each row, as in the first; got {len(row)} in row {number}; name each "
                "column in the first row."
            )
        yield row[:columns]


def _cells(path: Path) -> list[list[str]]:
    import pandas

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a sheet has beside its cells
            sheet = pandas.read_excel(path, header=None, dtype=object, keep_default_na=False, engine="openpyxl")
    except ImportError:
        raise DataError(f"{path}: need openpyxl for .xlsx; got an environment without it; pip install it.") from None
    except OSError:
        raise
    except Exception as error:  # whatever a library raises where a file is damaged
        told = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: need an Excel workbook (.xlsx); got another file ({told}); save it again.") from None
    return [[_text(cell) for cell in row] for row in sheet.itertuples(index=False)]


def _text(cell: Any) -> str:
    """Return a cell as CSV would have it: whole numbers without a point, no time where it is midnight."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).removesuffix(" 00:00:00")
