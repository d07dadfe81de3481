"""What is there more than once: in one split, and in two."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    pass


def repeats(name: str, keys: Sequence[Hashable | None], labels: Sequence[str], what: str) -> list[Finding]:
    """Find what is there more than once, and where its labels disagree.

    Args:
        name: of the split.
        keys: equal for rows that are the same to a model; None for rows that shall not count.
        labels: of the rows.
        what: one of the inputs, in words.
    """
    rows: dict[Hashable, list[int]] = {}
    for number, key in enumerate(keys):
        if key is not None:
            rows.setdefault(key, []).append(number)
    repeated = [numbers for numbers in rows.values() if len(numbers) > 1]
    if not repeated:
        return []
    torn = [numbers for numbers in repeated if len({labels[n] for n in numbers}) > 1]
    first, second = repeated[0][:2]
    told = f"{name}: {len(repeated)} {what}s are there more than once (first in rows {first + 1} and {second + 1})"
    findings = [Finding("warning", f"{told}; they count more than once")]
    if torn:
        first, second = (
            next(n for n in torn[0] if labels[n] == label) for label in sorted({labels[n] for n in torn[0]})[:2]
        )
        told = f"{name}: {len(torn)} {what}s carry different labels (first in rows {first + 1} and {second + 1})"
        findings.append(Finding("warning", f"{told}; no model can learn both"))
    return findings


def leaks(keys: Mapping[str, Sequence[Hashable | None]], what: str) -> list[Finding]:
    """Find inputs of one split in another; `keys` as in `repeats`, for each split."""
    first_row = {name: _first_rows(values) for name, values in keys.items()}
    names = list(keys)
    findings = []
    for held, other in ((b, a) for i, a in enumerate(names) for b in names[i + 1 :]):
        shared = [key for key in first_row[held] if key in first_row[other]]
        if shared:
            rows = f"row {first_row[held][shared[0]]} of {held} is row {first_row[other][shared[0]]} of {other}"
            told = f"{held}: {len(shared)} {what}s are in {other} too (first: {rows})"
            findings.append(
                Finding("warning", f"{told}; the score on {held} is too good to be true until they are removed")
            )
    return findings or [Finding("ok", f"no {what} is in more than one of {', '.join(names)}")]


def _first_rows(keys: Sequence[Hashable | None]) -> dict[Hashable, int]:
    rows: dict[Hashable, int] = {}
    for number, key in enumerate(keys, start=1):
        if key is not None:
            rows.setdefault(key, number)
    return rows
