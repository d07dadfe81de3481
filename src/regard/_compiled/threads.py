"""Work shared out to threads: as many as the framework has, each with one thread of BLAS.

The threads are kept, so that what BLAS keeps for each is kept too. A call that finds them busy with another's work has
its own done as they come free. A forked process has none of them, and makes its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

_pools: dict[tuple[str, int], ThreadPoolExecutor] = {}
_making = threading.Lock()
_here = threading.local()  # `works` in the threads of pools, which would wait for themselves


def each(xp: Any, work: Callable[[Any], Any], units: Iterable[Any]) -> None:
    """Does all the work: with one thread or one unit here, and so in a thread that does such work already; else in
    threads, which stop if this is interrupted.
    """
    units = list(units)
    threads = min(xp.threads(), len(units))
    if threads < 2 or getattr(_here, "works", False):
        for unit in units:
            work(unit)
        return
    stopped = threading.Event()
    left = iter(units)
    taking = threading.Lock()

    def taken() -> None:
        _here.works = True
        while not stopped.is_set():
            with taking:
                unit = next(left, None)
            if unit is None:
                return
            work(unit)

    with xp.one_thread_each():
        _finished([_pool(xp, threads).submit(taken) for _ in range(threads)], stopped)


def _finished(futures: list[Future], stopped: threading.Event) -> None:
    """Waits for all; an error in one of them, and an interrupt here, stop the others at their next unit."""
    try:
        for future in futures:
            future.result()
    finally:
        stopped.set()
        for future in futures:
            future.cancel()
        wait([future for future in futures if not future.cancelled()])


def _pool(xp: Any, threads: int) -> ThreadPoolExecutor:
    with _making:
        found = _pools.get((xp.name, threads))
        if found is None:
            found = _pools[xp.name, threads] = ThreadPoolExecutor(threads, f"regard-{xp.name}")
            xp.settle(found, threads)
        return found


def _forget() -> None:
    global _making
    _pools.clear()
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
