"""What is compiled: kept in Numba's cache on disk, once for a machine.

A mark beside it says that all is there, so that it is known without importing Numba, which takes a third of a second.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path

import numpy as np

from regard.errors import UnsupportedError

HERE = Path(__file__).parent
TYPES = ("float32", "float64")
_loaded: set[str] = set()


@functools.cache
def installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def ready(dtype: str) -> bool:
    """Whether the loops for a type are compiled, here or on disk."""
    if dtype not in _loaded and _mark(dtype).is_file():
        _loaded.add(dtype)
    return dtype in _loaded


def compile() -> None:
    """Compile the loops that answer questions about attention and those of int8, which takes some seconds, once.

    Numba keeps them on disk. Without this, `regard.attention` goes without them, unless `kernel="compiled"` asks for
    them by name: then those that it needs are compiled on the way. `regard finetune`, `search` and `look` do it by
    themselves, and say so.

    Raises:
        UnsupportedError: Numba is not installed.
    """
    if not installed():
        raise UnsupportedError("compile: need Numba; got none; pip install 'regard[fast]'.")
    from regard._compiled import integers, lines, loops

    for dtype in TYPES:
        if not ready(dtype):
            loops.warm(np.dtype(dtype))
            lines.warm(np.dtype(dtype))
            integers.warm()
            _loaded.add(dtype)
            _remember(_mark(dtype))


def waiting() -> bool:
    """Whether there is something that `compile` would take time for."""
    return installed() and not all(ready(dtype) for dtype in TYPES)


@functools.cache
def _mark(dtype: str) -> Path:
    """A file that is there when the loops for a type are in Numba's cache, for this Python, Numba and source."""
    stamps = [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(HERE.glob("*.py"))]
    of = (stamps, str(HERE), sys.version, importlib.metadata.version("numba"), platform.machine(), platform.processor())
    return _folder() / f"compiled-{dtype}-{hashlib.sha256(repr(of).encode()).hexdigest()[:16]}"


def _folder() -> Path:
    """Where Numba keeps what it compiles, or near it."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"])
    if os.access(HERE, os.W_OK):
        return HERE / "__pycache__"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regard"


def _remember(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        return  # nothing can be kept here: each process compiles for itself
