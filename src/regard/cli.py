"""The command line: one command is one public call and a print."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from regard.commands.compare import compare
from regard.commands.explore import explore
from regard.commands.finetune import check, finetune, init, search
from regard.commands.help import Spoken, spoken
from regard.commands.look import look
from regard.commands.predict import evaluate, export, predict
from regard.commands.push import push
from regard.commands.shared import DEBUG, guarded, keep_memory, sentences

app = typer.Typer(
    cls=Spoken,
    help="Fine-tune attention encoders on your own files, trust the result, and look at what it attends to.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line.

    Idle threads shall spin shortly, then sleep: next to other programs on few cores, long spinning makes PyTorch
    several times slower, and sleeping at once costs a third of the speed on an idle machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    keep_memory()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with sentences():
        spoken(app)()


def _print_version(wanted: bool) -> None:
    if wanted:
        from regard import __version__

        typer.echo(f"regard {__version__}")
        raise typer.Exit


@app.callback()
def regard(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"also print the traceback of what goes wrong, as {DEBUG}=1 does")
    ] = False,
) -> None:
    """Fine-tune attention encoders on your own files, trust the result, and look at what it attends to."""
    if debug:
        os.environ[DEBUG] = "1"


for _command in (finetune, search, check, predict, evaluate, compare, export, push, look, explore, init):
    app.command()(guarded(_command))


if __name__ == "__main__":
    main()
