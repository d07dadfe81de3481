"""What the tasks on pictures share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.models.pictures import PICTURES


def in_folders(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the pictures in the folders of their classes, as the columns `image` and `label`."""
    files = sorted(file for file in path.glob("*/*") if file.suffix.lower() in PICTURES)
    if not files:
        raise DataError(
            f"{path}: need a folder for each class with pictures in it ({', '.join(PICTURES)}); got none; name their "
            "parent, or a table."
        )
    yield from ({"image": str(file.relative_to(path)), "label": file.parent.name} for file in files)
