"""One writer at a time: who writes a run, a file of predictions or an export holds a lock until it is done."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from regard._files import naming
from regard.errors import ConfigError

LOCK = ".lock"
"""The lock of a run, in its directory."""


@contextmanager
def alone(path: Path, lock: Path | None = None) -> Iterator[None]:
    """Be the only one, among processes and threads, that writes to a path while the block runs.

    The operating system lets go of the lock of a process that dies.

    Args:
        path: what is written.
        lock: the lock's file; beside `path` if left out.

    Raises:
        ConfigError: another one writes to it; says which process on which host.
    """
    lock = lock or path.with_name(f".{path.name}{LOCK}")
    held = FileLock(lock, timeout=0)
    try:
        with naming(path, lock):
            held.acquire()
    except Timeout:
        raise ConfigError(
            f"{path}: need to be the only one that writes there; got {_holder(lock)} that does; wait for it, or name "
            "another output."
        ) from None
    try:
        with naming(path, lock):
            lock.write_text(f"process {os.getpid()} on host {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        lock.unlink(missing_ok=True)  # whoever has opened it sees that it lost its name, and begins anew
        held.release()


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
