"""What the command line itself says, in the reader's language: its help, and what is wrong with its options."""

from __future__ import annotations

import gettext
import os
from typing import Any

import typer

from regard._spoken import CATALOGUES, language, tell


def spoken(app: typer.Typer) -> Any:
    """Return the command of an app, with its help in the reader's language."""
    command = typer.main.get_command(app)
    if language() != "en":
        _bind(CATALOGUES[language()])
        for each in (command, *getattr(command, "commands", {}).values()):
            for part in (each, *each.params):
                if getattr(part, "help", None):
                    part.help = tell(part.help)
    return command


def _bind(catalogue: str) -> None:
    """Let Typer find its words, which it asks gettext for, where ours are."""
    from regard._catalogue import LOCALE

    os.environ["LANGUAGE"] = catalogue
    gettext.bindtextdomain("regard", LOCALE)
    gettext.textdomain("regard")
