"""Ctrl-C in training: the first one saves and stops, the second one stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and saved; it can be resumed.

    Attributes:
        path: the run directory.
        step: the optimizer steps done.
        steps: the optimizer steps planned.
    """

    def __init__(self, path: Path, step: int, steps: int) -> None:
        super().__init__(f"{path}: interrupted after step {step} of {steps}; saved, and ready to be resumed")
        self.path, self.step, self.steps = path, step, steps


@contextmanager
def saving_on_interrupt(watcher: Any) -> Iterator[None]:
    """Turn the first Ctrl-C into `watcher.interrupted`, a request to save and stop; the second interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: Any) -> None:
        if watcher.interrupted:
            raise KeyboardInterrupt
        watcher.interrupted = True

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
