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
    left = [row for row in rows if "attentions" not in row]
    without = sum("attention" in row for row in left)
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
        f"{without} others have no attention that is a softmax, and {len(left) - without} are not compared: "
        "[they and why](#left-out).",
        "",
        '| architecture | model | inputs | `regard.watch` | `"regard"` |',
        "|---|---|---|---|---|",
        *(_line(row) for row in shown),
        "",
        "## Left out",
        "",
        "| architecture | |",
        "|---|---|",
        *(f"| {row['type']} | {reason(row)} |" for row in left),
    ]
    return "\n".join(lines) + "\n"


# What an error says of why there is no small model or no inputs, in a few words; the first that fits.
REASONS = [
    (r"requires the (\w+) library", r"needs {}, which is not installed"),
    (r'missing the required "forward" function', "has no forward: its parts run by themselves while it generates"),
    (r"'inference_session'", "reads a session of a video, which is no batch of tensors"),
    (r"(\d+) million parameters", "its smallest model has {} million parameters: not compared"),
    (r"ended or took more than", "takes too long"),
    (r"no inputs", "no inputs that it takes"),
    (r"", "no small configuration that fits"),
]


def reason(row: dict[str, Any]) -> str:
    """Why an architecture is left out."""
    if "made" not in row:
        return "no attention that is a softmax"
    found = ((re.search(pattern, row["made"]), words) for pattern, words in REASONS)
    return next(words.format(*match.groups()) for match, words in found if match)


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
