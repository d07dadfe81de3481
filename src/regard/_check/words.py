"""Words that messages share, and what is known of types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from regard._backends.protocol import Backend

WHO = "attention"

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

FLOATS = ("float64", "float32", "float16", "bfloat16")


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of words, or nothing."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(*named: tuple[str, Sequence]) -> str:
    return ", ".join(f"{name} {spelled(shape)}" for name, shape in named)


def spelled(shape: Sequence) -> str:
    shown_sizes = ", ".join(str(size) if isinstance(size, int) else "?" for size in shape)
    return f"({shown_sizes},)" if len(shape) == 1 else f"({shown_sizes})"


def differ(one: Any, two: Any) -> bool:
    """Whether two sizes are known, and not equal."""
    return isinstance(one, int) and isinstance(two, int) and one != two


def and_(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def ours(xp: Backend) -> str:
    return "numpy" if xp.name == "numpy" else f"{xp.name} or numpy"
