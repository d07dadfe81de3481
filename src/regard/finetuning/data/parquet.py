"""Parquet, refused where it is damaged or two columns share a name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import DataError
from regard.finetuning.data.headers import require_own_names

if TYPE_CHECKING:
    from datasets import Dataset
from regard.finetuning.data.columns import require_few


def read_parquet(path: Path) -> Dataset:
    from datasets import Dataset

    with open_parquet(path) as file, parquet_faults(path):
        table = file.read()
        table.validate(full=True)
        try:
            return Dataset(table)
        except (ValueError, TypeError, NotImplementedError) as error:  # of kinds that datasets does not know
            told = " ".join(str(error).split())[:100]
            raise DataError(
                f"{path}: need columns of kinds that are read; got another ({told}); drop it, or write it as text."
            ) from None


def open_parquet(path: Path) -> Any:
    import pyarrow.parquet

    with parquet_faults(path):
        file = pyarrow.parquet.ParquetFile(path)
        require_few(len(file.schema_arrow.names), path)
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
def parquet_faults(path: Path) -> Iterator[None]:
    """Raise DataError where a Parquet file is damaged."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk
            raise
        told = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: need a Parquet file; got one that cannot be read ({told}); write it again.") from None
