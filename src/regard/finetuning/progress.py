"""What a person sees while waiting: a few lines and one progress bar."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from regard._escapes import printable
from regard._spoken import tell
from regard.inspection.progress import Advance, bar


class Display:
    """Prints to the error stream, so that the output stream stays free for results.

    Args:
        quiet: print nothing at all.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line."""
        self.console.print(printable(tell(text, word=True), keep="\n"), style=style, markup=False)

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Show a bar while the block runs; what it yields takes the steps done and a remark."""
        with bar(self.console, label, total, done) as advance:
            yield advance


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from printing load reports and bars; we say ourselves what matters."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


class Clock:
    """Measures the seconds of each phase, on top of those of an earlier part of the run."""

    def __init__(self, before: dict[str, float] | None = None) -> None:
        self.seconds = dict(before or {})

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 1)
