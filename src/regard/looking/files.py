"""Files that an input lies in."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from regard.errors import DataError


def require_regular(path: str | Path | BinaryIO) -> None:
    """Raise DataError for pipes and devices, which nobody shall wait for; what is not there is not looked at."""
    try:
        mode = Path(path).stat().st_mode if isinstance(path, str | Path) else stat.S_IFREG
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path}: need a file or a folder; got a pipe or a device; name another.")
