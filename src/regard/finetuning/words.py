"""What messages say of names and small numbers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

NEAR = 0.6
"""How like a name must be to be called what was meant: `sentense` is, `foo` is like nothing."""
LISTED = 12
"""Names that a message lists at most."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the name that is meant by one that does not exist, None if none is near."""
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=NEAR)
    return names[near[0]] if near else None


def listed(names: Sequence[str]) -> str:
    """Return names in a row, of many the first alone."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def quoted(names: Sequence[str]) -> str:
    """Return names in a row, each in quotes."""
    return listed([f"'{name}'" for name in names]) or "none"


def setting(value: object) -> str:
    """Return the value of a setting with the digits that matter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
