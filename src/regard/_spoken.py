"""The language that people are spoken to in: English, or one that there is a catalogue of.

Sentences are written in English where they are raised or said, and told in the reader's language when they are shown.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regard._catalogue import Catalogue

VARIABLES = ("REGARD_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
"""Variables of the environment; the first that is set decides, as in gettext."""
CATALOGUES = {"zh": "zh_CN"}


def language() -> str:
    """Return the language that is asked for, such as "zh"; "en" for one that there is no catalogue of."""
    asked = next(filter(None, map(os.environ.get, VARIABLES)), "")
    return next((known for known in CATALOGUES if asked.lower().startswith(known)), "en")


def phrase(message: str) -> str:
    """Return a message of a page in the reader's language: it is in the catalogue as it is."""
    spoken = language()
    return message if spoken == "en" else _catalogue(spoken).gettext(message)


def tell(text: str, word: bool = False) -> str:
    """Return what is said in the reader's language; numbers, names and paths stay, as does what no catalogue holds.

    Args:
        text: a sentence, or lines of some.
        word: it may be a single word, or a few, which is left alone otherwise: it may be somebody's label.
    """
    spoken = language()
    if spoken == "en":
        return text
    return _catalogue(spoken).tell(text, word)


def _catalogue(spoken: str) -> Catalogue:
    from regard._catalogue import catalogue  # with what it needs of the standard library: not where nobody asks for it

    return catalogue(CATALOGUES[spoken])
