"""Text files as they lie on a disk: packed or not, line by line, in UTF-8."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from regard.errors import DataError

if TYPE_CHECKING:
    pass


PACKED = ".gz"


def kind_of(path: Path) -> str:
    """Return what a file's name ends in, such as `.csv` or `.csv.gz`."""
    suffix = path.suffix.lower()
    return f"{Path(path.stem).suffix.lower()}{suffix}" if suffix == PACKED else suffix


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
