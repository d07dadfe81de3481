"""What the command line itself says, in the reader's language: its help, and what is wrong with its options."""

from __future__ import annotations

import gettext
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from regard._spoken import CATALOGUES, language, tell


class Spoken(TyperGroup):
    """Commands whose mistakes are told in the reader's language."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _told():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _told():
            return super().invoke(ctx)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):
            said = tell(error.format_message(), word=True)
            error.format_message = lambda: said
        raise


def spoken(app: typer.Typer) -> Any:
    """Return the command of an app, with its help in the reader's language."""
    command = typer.main.get_command(app)
    if language() != "en":
        _bind(CATALOGUES[language()])
        for each in (command, *getattr(command, "commands", {}).values()):
            _tell_help_option(each)
            for part in (each, *each.params):
                if getattr(part, "help", None):
                    part.help = tell(part.help)
    return command


def _tell_help_option(command: Any) -> None:
    """Typer makes this option when it is asked for."""
    make = command.get_help_option

    def made(context: Any) -> Any:
        option = make(context)
        if option:
            option.help = tell(option.help)
        return option

    command.get_help_option = made


def _bind(catalogue: str) -> None:
    """Let Typer find its words, which it asks gettext for, where ours are."""
    from regard._catalogue import LOCALE

    os.environ["LANGUAGE"] = catalogue
    gettext.bindtextdomain("regard", LOCALE)
    gettext.textdomain("regard")
