"""BLAS of NumPy with one thread in each of ours, as long as ours run."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any


@functools.cache
def blas() -> Any:
    """What limits BLAS to one thread a block, if threadpoolctl is installed; its own threads wait for each other.

    Two blocks of 256 rows on two cores are twice as fast as one after the other on a BLAS of two threads.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


class Limited:
    """A context in which BLAS has one thread; the number that it had comes back when the last of several leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1
        self._limiter: Any = None

    def threads(self) -> int:
        """How many threads BLAS has outside of this; 1 where nothing can limit it."""
        with self._lock:
            if self._inside or blas() is None:
                return self._before
            found = [each.num_threads for each in blas().lib_controllers if each.user_api == "blas"]
            return max(found, default=1)

    def __enter__(self) -> None:
        threads = self.threads()
        with self._lock:
            if not self._inside and blas() is not None:
                self._before, self._limiter = threads, blas().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restored()

    def forget(self) -> None:
        """In a forked process nobody is inside."""
        self._lock, self._inside = threading.Lock(), 0
        self._restored()

    def _restored(self) -> None:
        if self._limiter is not None:
            self._limiter.restore_original_limits()
        self._limiter, self._before = None, 1


limited = Limited()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=limited.forget)
