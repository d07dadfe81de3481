"""One progress bar, of rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from regard._escapes import printable
from regard._spoken import tell

Advance = Callable[..., None]


@contextmanager
def bar(console: Console, label: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Show a bar while the block runs; what it yields takes the steps done, a remark and another total."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn(tell("remaining", word=True)),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task(tell(label, word=True), total=total, completed=done, remark="")

        def advance(steps: int = 1, remark: str | None = None, total: int | None = None) -> None:
            progress.advance(task, steps)
            if remark is not None:
                progress.update(task, remark=printable(tell(remark, word=True)))
            if total is not None:
                progress.update(task, total=total)

        yield advance
