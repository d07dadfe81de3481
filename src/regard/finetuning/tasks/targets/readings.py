"""How people write the labels of a text: one name, or several in a list, a text, or places of 0 and 1."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from regard.errors import ConfigError, DataError
from regard.finetuning.data.columns import is_spread
from regard.finetuning.tasks.targets import classes
from regard.inspection.report.content import Finding

SEPARATORS = {"|": 0.5, ";": 0.5, ",": 0.8}
"""What may stand between labels -> the share of the parts that must stand elsewhere too. Names hold commas of their
own: 'Paris, France' is no set, while 'drama, comedy' is, where 'comedy, action' occurs."""
QUOTED = r"""(?:'[^']*'|"[^"]*")"""
NUMPY = re.compile(rf"\[\s*{QUOTED}(?:\s+{QUOTED})*\s*\]|\[\s*[\d.]+(?:\s+[\d.]+)*\s*\]")
"""An array as NumPy prints it, without commas; Python would join its texts to one."""
WRAPPED = re.compile(r"(?:array|set|frozenset)\((.*?)(?:,\s*dtype=.*)?\)", re.DOTALL)
PLACES = re.compile(r"[01](?:[ ,;|][01]){2,}|0[01]{2,}|1[01]{2,}")
"""A vector of 0 and 1 as a text."""
DECIMAL = re.compile(r"-?\d+(?:,\d+)?")

Reading = dict[str, Any]
"""`form`, and what else must be known: `separator`, or `names` of the places."""


def find(cells: Sequence[Any], kind: str, separator: str, names: Sequence[str]) -> Reading:
    """Tell how labels are written; empty for one plain name a cell.

    Args:
        cells: of the training rows.
        kind: `auto`, `single` or `multi`.
        separator: what stands between labels, or `auto`.
        names: of the places of vectors, if they have any.

    Raises:
        ConfigError: there are names for no vectors, or too few or too many.
    """
    values = [parsed(cell) for cell in cells]
    texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    nested = [value for value in values if isinstance(value, list | dict)]
    size = _places(nested, texts, kind)
    if names and len(names) != size:
        got = f"vectors of {size}" if size else "labels with names of their own"
        raise ConfigError(
            f"options.names: need a name for each place of vectors of 0 and 1; got {len(names)} and {got}; correct it."
        )
    if size:
        return {"form": "places", "names": list(names) or [str(place) for place in range(size)]}
    if texts and all(text[0] == "[" and text[-1] == "]" for text in texts):
        return {"form": "separator", "separator": ","}
    if nested:
        return {"form": "names" if all(isinstance(value, dict) for value in nested) else "lists"}
    if kind == "single" or (kind == "auto" and separator == "auto" and all(map(DECIMAL.fullmatch, texts))):
        return {}
    chosen = separator if separator != "auto" else _separator(texts, sure=kind == "multi")
    if kind == "multi":
        return {"form": "separator", "separator": chosen}
    return {"form": "separator", "separator": chosen} if chosen and any(chosen in text for text in texts) else {}


def parsed(cell: Any) -> Any:
    """Return the list or the dictionary that a cell is or writes out, else the cell."""
    if isinstance(cell, str):
        found = _literal(cell.strip())
        return found if _is_flat(found) else cell
    return cell


def _literal(text: str) -> Any:
    wrapped = WRAPPED.fullmatch(text)
    text = wrapped[1] or "[]" if wrapped else text
    if text[:1] not in ("[", "(", "{"):
        return None
    if NUMPY.fullmatch(text):
        return [part.strip("'\"") for part in re.findall(rf"{QUOTED}|[\d.]+", text)]
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return sorted(found, key=str) if isinstance(found, set) else list(found) if isinstance(found, tuple) else found
    return None


def _is_flat(found: Any) -> bool:
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [[]]
    return all(value is None or isinstance(value, str | int | float) for value in inner)


def _places(nested: Sequence[Any], texts: Sequence[str], kind: str) -> int:
    """Return how many places vectors of 0 and 1 have, 0 if there are none."""
    if nested:
        vectors = nested if not texts and all(isinstance(value, list) for value in nested) else []
        least = 2
    else:
        vectors = [_digits(text) for text in texts if PLACES.fullmatch(text)]
        glued = all(text.isdecimal() for text in texts)  # '100' may be a number
        unsure = glued and not any(text.startswith("0") for text in texts)
        vectors = [] if len(vectors) < len(texts) or kind == "single" or (unsure and kind != "multi") else vectors
        least = 3
    sizes = {len(vector) for vector in vectors}
    whole = len(sizes) == 1 and all(_bit(value) is not None for vector in vectors for value in vector)
    return max(sizes) if whole and max(sizes) >= least else 0


def _digits(text: str) -> list[str]:
    return re.findall("[01]", text)


def _bit(value: Any) -> bool | None:
    """Return what 0 or 1 says, None of anything else."""
    return {
        "0": False,
        "1": True,
        "False": False,
        "True": True,
        "0.0": False,
        "1.0": True,
        "0.": False,
        "1.": True,
    }.get(str(value).strip())


def _separator(texts: Sequence[str], sure: bool) -> str | None:
    """Return what parts texts into labels that stand elsewhere too; whatever there is if they are `sure` to be such."""
    shares = {sign: _reuse(texts, sign) for sign in SEPARATORS}
    found = {sign: share for sign, share in shares.items() if share is not None and (sure or share >= SEPARATORS[sign])}
    return max(found, key=lambda sign: found[sign] + (sign != ",")) if found else None


def _reuse(texts: Sequence[str], sign: str) -> float | None:
    """Return the share of the parts of texts with a sign that are in other sets of parts too; None without the sign."""
    sets = {frozenset(_split(text, sign)) for text in texts}
    parts = {part for each in sets if len(each) > 1 for part in each}
    if not parts:
        return None
    return sum(sum(part in each for each in sets) > 1 for part in parts) / len(parts)


def _split(text: str, sign: str | None) -> list[str]:
    inner = text.strip().removeprefix("[").removesuffix("]") if text.strip()[:1] == "[" else text
    return [part.strip().strip("'\"") for part in (inner.split(sign) if sign else [inner]) if part.strip()]


def labels_of(cell: Any, reading: Reading, where: tuple[str, int]) -> list[str] | None:
    """Return the labels of a cell, None if it holds nothing that could be some.

    Args:
        cell: of a table.
        reading: how labels are written.
        where: path and row, for messages.

    Raises:
        DataError: a vector is no vector.
    """
    value = parsed(cell)
    if reading["form"] == "places":
        bits = [_bit(part) for part in (_digits(value) if isinstance(value, str) else value or [])]
        if len(bits) != len(reading["names"]) or None in bits:
            raise DataError(
                f"{where[0]}: need {len(reading['names'])} numbers 0 or 1 in each row, as the training rows have; got "
                f"{'another value' if None in bits else len(bits)} in row {where[1]}; correct it."
            )
        return [name for name, bit in zip(reading["names"], bits, strict=True) if bit]
    if isinstance(value, dict):
        return [name for name, bit in value.items() if bit is not None and _bit(bit)]
    if isinstance(value, list):
        return list(dict.fromkeys(name for name in map(_name, value) if name))
    if isinstance(value, str):
        return list(dict.fromkeys(_split(value, reading.get("separator"))))
    return None if value is None else [_name(value)]


def only(labels: list[str] | None, path: str, number: int) -> str | None:
    """Return the one label of a row, None if it has none.

    Raises:
        DataError: it has several.
    """
    if labels is not None and len(labels) > 1:
        raise DataError(
            f"{path}: need one label in each row; got {len(labels)} in row {number}; correct it, or set options.kind: "
            "multi."
        )
    return labels[0] if labels else None


def _name(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value).strip()


def told(cells: Sequence[Any], reading: Reading, columns: str | list[str]) -> Finding:
    """Say how labels were read, with an example."""
    several = "so a text may have several (options.kind: multi)"
    if is_spread(columns):
        return Finding("ok", f"train: each label has a column of 0 and 1 (data.columns.label), {several}")
    cell, labels = _example(cells, reading)
    if reading["form"] == "lists" and not isinstance(cell, str):
        return Finding("ok", f"train: the labels are lists, {several}")
    sign = reading.get("separator")
    how = {"lists": "lists written as text", "names": "names with 0 or 1", "places": "vectors of 0 and 1"}.get(
        reading["form"], f"separated by {sign!r}" if sign else "names"
    )
    example = f"such as {str(cell)[:60]!r}, read as {classes.quoted(labels) or 'none'}"
    message = f"train: the labels are {how}, {example}, {several}"
    places = [str(place) for place in range(len(reading.get("names", ())))]
    if places and places == reading["names"]:
        return Finding("warning", f"{message}; they are called by their places, 0 to {places[-1]}: set options.names")
    return Finding("ok", message)


def _example(cells: Sequence[Any], reading: Reading) -> tuple[Any, list[str]]:
    """Return a cell with several labels, if there is one, and these."""
    sets = [(cell, labels_of(cell, reading, ("train", number)) or []) for number, cell in enumerate(cells, start=1)]
    return max(sets, key=lambda pair: min(len(pair[1]), 2))


def doubts(cells: Sequence[Any]) -> list[Finding]:
    """Say which labels that are read as one might be several, and which as names that might be numbers."""
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if texts and all(map(DECIMAL.fullmatch, texts)) and any("," in text for text in texts):
        example = next(text for text in texts if "," in text)
        told = f"train: the labels look like numbers with a decimal comma, such as '{example}', and are read as names"
        return [Finding("warning", f"{told}; write a point for numbers, or set options.kind: multi for lists")]
    for sign in SEPARATORS:
        share = _reuse(texts, sign)
        if share is not None:
            with_it = [text for text in texts if sign in text]
            told = f"train: {len(with_it)} labels hold '{sign}', such as {with_it[0][:60]!r}, and are read as one each"
            why = "their parts hardly stand elsewhere" if share else "their parts stand nowhere else"
            level = "warning" if share else "ok"
            return [Finding(level, f"{told}, since {why}; options.kind: multi reads several")]
    return []
