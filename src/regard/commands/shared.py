"""What commands share: arguments, one sentence for an error, tables, and quiet libraries."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from regard.errors import RegardError

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="what to do; 'regard init TASK' writes one")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="a run directory")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="put another value in the configuration")
]
INTERRUPTED = 130


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn our own errors into one sentence and exit code 2, and Ctrl-C into exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except RegardError as error:
            _tell(f"regard: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as interrupt:
            _tell(f"regard: {str(interrupt) or 'interrupted'}")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return run


def _tell(error: str) -> None:
    """Print an error, once where several processes have the same one."""
    from regard.finetuning.processes import is_first

    if is_first():
        typer.echo(error, err=True)


def load(config: str, overrides: list[str] | None) -> Any:
    from regard.finetuning.config import Config, parse_override

    return Config.load(config, dict(map(parse_override, overrides or [])))


def silence() -> None:
    """Keep libraries from filling the terminal; errors still come through as exceptions."""
    import logging
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.simplefilter("ignore")
    for name in ("transformers", "datasets", "accelerate", "torch", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


def print_table(title: str, header: list[str], rows: list[list[str]], styles: dict[str, str] | None = None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row), style=(styles or {}).get(row[0]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    console.print(Text(title), table)


def warn_of_cuts(cut: int, rows: int) -> None:
    if cut:
        typer.echo(f"regard: {cut} of {rows} texts are longer than the model reads; their ends were cut", err=True)
