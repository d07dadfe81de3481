"""The table of architectures, from the rows of `compare`."""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter
from typing import Any

# What one of an architecture's runs gives; of several, the first of these counts.
VERDICTS = {
    "wrong": "something differs, and nothing says so",
    "crash": "ends with an error that is not ours",
    "partial": "exact in what is seen; `seen.unseen` names the rest",
    "refused": "a sentence says why, and what helps",
    "unsupported": "transformers does not let the attention be chosen",
    "none": "no attention goes through transformers' interface: what `\"regard\"` runs is the model's own",
    "exact": "outputs and every attention's weights equal eager attention's",
}
WAYS = ("watch", "regard")


def verdict(row: dict[str, Any], way: str) -> tuple[str, str]:
    """The worst of an architecture's runs, and what it says."""
    found = row.get(way)
    if not found:
        return ("not made", row["made"]) if "made" in row else ("no attention", "")
    name = min(found, key=lambda run: list(VERDICTS).index(found[run][0]))
    return found[name][0], found[name][1]


def verdicts(row: dict[str, Any]) -> str:
    return ", ".join(f"{way} {verdict(row, way)[0]}" for way in WAYS)


def page(rows: list[dict[str, Any]]) -> str:
    """The page of the documentation."""
    rows = sorted(rows, key=lambda row: row["type"])
    shown = [row for row in rows if "attentions" in row]
    without = [row["type"] for row in rows if "attention" in row]
    unmade = [row["type"] for row in rows if "made" in row]
    counts = {way: Counter(verdict(row, way)[0] for row in shown) for way in WAYS}
    lines = [
        "# Architectures",
        "",
        f"A small model of each architecture of transformers {importlib.metadata.version('transformers')}, with random "
        "weights whose scores have unit size, runs with padding at the right, at the left and without a mask, and "
        'generates with a cache where it can: watched as it is by default, and on `"regard"`. Each attention is '
        "compared with eager attention, or with plain arithmetic in float64 where that gives no weights; outputs too. "
        "`make architectures` makes this page. It is kept by hand; a sample of it is among the slow tests.",
        "",
        f'| of {len(shown)} | `regard.watch` | `"regard"` | |',
        "|---|---|---|---|",
        *(
            f"| {name} | {counts['watch'][name]} | {counts['regard'][name]} | {meaning} |"
            for name, meaning in reversed(VERDICTS.items())
            if counts["watch"][name] or counts["regard"][name]
        ),
        "",
        f"Left out: {len(without)} without an attention that is a softmax ({', '.join(without)}), and {len(unmade)} of "
        f"which this tool makes no small model or no inputs ({', '.join(unmade)}).",
        "",
        '| architecture | model | inputs | `regard.watch` | `"regard"` |',
        "|---|---|---|---|---|",
        *(_line(row) for row in shown),
    ]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    inputs = ", ".join(name for name in row["inputs"] if "mask" not in name)
    cells = [row["type"], row["class"], inputs, *(_cell(*verdict(row, way)) for way in WAYS)]
    return f"| {' | '.join(cells)} |"


def _cell(name: str, said: str) -> str:
    """A verdict, with what helps of a refusal's sentence."""
    if name in ("exact", "none", "unsupported"):
        return name
    said = re.sub(r"^watch: .*?; saw none; ", "", said).replace("|", "\\\\|")
    return f"{name}: {said}"
