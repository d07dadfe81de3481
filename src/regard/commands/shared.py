"""What commands share: arguments, one sentence for an error, what is printed, and quiet libraries."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from regard._escapes import as_json, half, is_control, printable
from regard._files import naming
from regard._spoken import tell
from regard.errors import ConfigError, RegardError

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="what to do; 'regard init TASK' writes one")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="a run directory")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="put another value in the configuration")
]
Sheet = Annotated[str | None, typer.Option("--sheet", metavar="NAME", help="the sheet of a workbook to read")]
REFUSED, FAULT, INTERRUPTED = 2, 70, 130
"""Exit codes: what was asked for cannot be done, Regard has a fault, and Ctrl-C."""
DEBUG = "REGARD_DEBUG"
"""The variable of the environment that asks for tracebacks."""
MALLOC = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
"""glibc's variables, and the numbers that `mallopt` knows them by (malloc.h)."""
KEPT = 1 << 30
WORDS = ("", "measure")
"""What stands over words of ours, in a table's first column; elsewhere may be somebody's labels."""
OUTPUT, ERRORS = Path("standard output"), Path("standard error")


def keep_memory() -> None:
    """Let glibc keep what is freed, in this process and its children.

    It gives memory back to the system after each step, and takes it again page by page: a tenth of a training step's
    processor time, for the same memory at its peak. What the environment says of it stays.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in MALLOC):
        return
    allocator = ctypes.CDLL(None)
    for name, number in MALLOC.items():
        allocator.mallopt(number, KEPT)
        os.environ[name] = str(KEPT)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end with a sentence and an exit code, whatever happens; see `sentences`."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        with sentences():
            command(*args, **options)

    return run


@contextmanager
def sentences() -> Iterator[None]:
    """Turn what is raised into one sentence and an exit code; with REGARD_DEBUG set, the traceback is before it."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as interrupt:
        _tell(str(interrupt) or "interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _close_output()
        raise SystemExit(1) from None
    except Exception as error:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            say(traceback.format_exc(), err=True)
        told = told_of(error)
        _tell(told or _fault(error))
        _close_output()
        raise SystemExit(REFUSED if told else FAULT) from None


def told_of(error: Exception) -> str | None:
    """Return what a person can do something about as a sentence, None for a fault of our own."""
    if isinstance(error, RegardError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        reason = error.strerror or " ".join(str(error).split())[:200]
        return f"{where}need files that can be read and written; got '{reason}'; check the path, its rights and room."
    if isinstance(error, ModuleNotFoundError):
        return f"need the package {error.name}; got an environment without it; pip install 'regard[finetune]'."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
        return "need more memory than there is; lower train.batch_size, train.max_tokens or the size of the model."
    if isinstance(error, UnicodeDecodeError):
        return f"need text in UTF-8; got byte 0x{error.object[error.start]:02x}; save the file as UTF-8."
    if isinstance(error, UnicodeEncodeError) and (lone := half(error.object)):
        return f"need names and texts in UTF-8; got half of a surrogate pair ({lone}); correct or rename it."
    return None


def _fault(error: Exception) -> str:
    """Name a fault of ours, and where it is."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return (
        f"this is a fault of regard's, not of what it was given ({told}; {os.path.basename(place.filename)}, line "
        f"{place.lineno}); set {DEBUG}=1 to see the traceback, and report it."
    )


def _tell(error: str) -> None:
    """Print an error, once where several processes have the same one."""
    from regard.finetuning.runs.processes import is_first

    if is_first():
        say(f"regard: {printable(tell(error))}", err=True)


def _close_output() -> None:
    """Let nothing more be written to an output that takes nothing, also not when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, err: bool = False) -> None:
    """Print in the reader's language, with the control characters of other people's texts written out."""
    with naming(ERRORS if err else OUTPUT):
        typer.echo(printable(tell(text), keep="\n\t"), err=err)


def print_json(values: Any) -> None:
    """Print JSON for other programs, which a terminal shows as it is, too."""
    text = as_json(values, indent=2)
    with naming(OUTPUT):
        typer.echo("".join(f"\\u{ord(sign):04x}" if is_control(sign) and sign != "\n" else sign for sign in text))


def load(config: str, overrides: list[str] | None) -> Any:
    """Read a configuration with what `--set` puts in it."""
    from regard.finetuning.configure import load_config, parse_override

    return load_config(config, dict(map(parse_override, overrides or [])))


def silence() -> None:
    """Keep libraries from filling the terminal; errors still come through as exceptions."""
    import logging
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", message="plots: ")  # of fonts that are missing
    warnings.showwarning = lambda message, *_, **__: say(str(message), err=True)
    for name in ("transformers", "datasets", "accelerate", "torch", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


def compile_once(what: str = "what answers questions about attention", quiet: bool = False) -> None:
    """Compile the loops, where that is to be done yet, and say so, and what for."""
    from regard._compiled import store
    from regard.finetuning.runs.processes import is_first

    if store.waiting():
        if is_first() and not quiet:
            say(f"compiling {what}: some seconds, once on this machine", err=True)
        store.compile()


def print_table(title: str, header: list[str], rows: list[list[str]], styles: dict[str, str] | None = None) -> None:
    """Print rows under a header in the reader's language; where nobody looks, none is folded."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(tell(name, word=True), overflow="fold")
    for row in rows:
        told = [tell(row[0], word=header[0] in WORDS), *(tell(cell, word=header[0] in WORDS) for cell in row[1:])]
        table.add_row(*(Text(printable(cell)) for cell in told), style=(styles or {}).get(row[0]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    with naming(OUTPUT):
        console.print(Text(printable(tell(title))), table)


def require_workbook(table: Path, sheet: str | None) -> None:
    """Raise ConfigError for a sheet that was asked for of a table that has none."""
    if sheet is not None and table.suffix.lower() != ".xlsx":
        raise ConfigError(f"--sheet: need a workbook (.xlsx) to read the sheet of; got '{table}'; leave it out.")


def warn_of_sheets(table: Path, sheet: str | None) -> None:
    """Say which sheets of a workbook are left out, if there are such."""
    from regard.finetuning.data.spreadsheets import told_of_sheets

    if told := told_of_sheets(table, sheet):
        say(f"regard: {told}; --sheet names another", err=True)


def warn_of_empty(name: str, rows: list[int]) -> None:
    """Say how many texts are empty, of which nothing can be said."""
    if rows:
        told = f"{name}: {len(rows)} texts are empty (first in row {rows[0]})"
        say(f"regard: {printable(told)}; what is predicted of them means nothing", err=True)


def warn_of_cuts(cut: int, rows: int) -> None:
    """Say how many texts were cut."""
    if cut:
        say(f"regard: {cut} of {rows} texts are longer than the model reads; their ends were cut", err=True)
