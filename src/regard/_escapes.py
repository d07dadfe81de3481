"""Texts of other people, written so that they are read and nothing else: by terminals, Markdown and JSON."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

_TURNING = {*"\u061c\u200e\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
"""Signs that turn the direction of what is beside them."""
_MARKED = re.compile(r"[\\`*_\[\]#|~<>&$!]|:(?=//)|^\s*[-+=]|^\s*\d+(?=[.)](?:\s|$))")
"""What Markdown, or the HTML in it, takes for more than itself."""


def printable(text: object, keep: str = "") -> str:
    r"""Return a text with control characters, halves of surrogate pairs and turning signs written out, as `\x1b`.

    Args:
        text: what comes from elsewhere, such as a label or the name of a file.
        keep: control characters that stay, such as a line feed.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(sign if sign in keep or not is_control(sign) else _written_out(sign) for sign in text)


def is_control(sign: str) -> bool:
    """Tell whether a sign does something to a terminal, or stands for none."""
    return unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in _TURNING


def half(text: str) -> str | None:
    r"""Return the first half of a surrogate pair that stands alone in a text, as `\ud800`; it is no character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return _written_out(text[error.start])
    return None


def _written_out(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def markdown(text: object) -> str:
    r"""Return a text as Markdown that shows it on one line: signs that mean something are escaped."""
    return _MARKED.sub(lambda found: _unmarked(found[0].strip()), printable(text))


def _unmarked(sign: str) -> str:
    if sign in "<>&":
        return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}[sign]
    return f"&#{ord(sign[0])};{sign[1:]}" if sign.isdigit() else f"\\{sign}"


def fenced(text: str, language: str = "") -> str:
    """Return a block of code, in a fence that is longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(text, keep=chr(10)).strip()}\n{fence}"


def as_json(values: Any, **options: Any) -> str:
    """Return values as JSON that every program reads: what is no finite number is null, and any character is kept."""
    options = {"ensure_ascii": False, **options}
    try:
        return json.dumps(values, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(values), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
