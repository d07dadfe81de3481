"""JSON lines, object by object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import DataError
from regard.finetuning.data.headers import each_once

if TYPE_CHECKING:
    pass
from regard.finetuning.data.columns import require_few
from regard.finetuning.data.lines import read_lines


def objects(path: Path) -> Iterator[dict[str, Any]]:
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
    require_few(len(row), path)
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
