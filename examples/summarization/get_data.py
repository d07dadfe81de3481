"""Fetch what Debian's packages say of themselves: a description, and the line that sums it up.

They are in Debian's package index, which apt downloads and whose signature it checks; it is kept here and changes
nothing of the system. On a machine without `apt-get`, take any table of your own texts and summaries.

    python examples/summarization/get_data.py [FOLDER]        # default: data/summarization

writes `train.jsonl`, `validation.jsonl` and `test.jsonl` with the columns `description` and `synopsis`.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from _descriptions import Package, index, packages

WORDS = range(20, 81)
"""How many words a description may have that measures."""
LEARNED = range(10, 101)
"""How many words a description may have that is learned from."""
SAME = 12
"""Descriptions that share a paragraph of so many words, or a synopsis, are relatives."""
RELATIVES = 4
"""Of so many relatives is learned at most; none of them is a relative of what measures."""
SIZES = {"test": 1000, "validation": 500}  # the rest is for training
SEED = 7

Row = tuple[str, str]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in split([found for _, found in packages(index(folder, "en"), "en")]).items():
        write(folder / f"{name}.jsonl", rows)
        print(f"{folder / name}.jsonl: {len(rows)} descriptions")


def split(found: list[Package]) -> dict[str, list[Row]]:
    """Measure on packages of different families, shuffled with a fixed seed; learn from what is no relative of them."""
    singles = choose(found, WORDS, 1, Counter())
    random.Random(SEED).shuffle(singles)
    parts, taken = {}, Counter[str]()
    for name, size in SIZES.items():
        measured, singles = singles[:size], singles[size:]
        parts[name] = [row(package) for package in measured]
        taken.update({mark: RELATIVES for package in measured for mark in marks(package)})
    return {"train": [row(package) for package in choose(found, LEARNED, RELATIVES, taken)], **parts}


def choose(found: list[Package], words: range, relatives: int, taken: Counter[str]) -> list[Package]:
    """Keep packages with so many words, of relatives the first ones; `taken` counts how often each mark was met."""
    kept = []
    for package in found:
        description, synopsis = row(package)
        fits = len(description.split()) in words and len(synopsis.split()) >= 3
        shared = marks(package)
        if fits and all(taken[mark] < relatives for mark in shared):
            kept.append(package)
        taken.update(shared)
    return kept


def row(package: Package) -> Row:
    """Return description and synopsis."""
    synopsis, paragraphs = package
    return "\n".join(paragraphs), synopsis


def marks(package: Package) -> set[str]:
    """Return what makes relatives of packages that share it."""
    synopsis, paragraphs = package
    long = [text for text in paragraphs if len(text.split()) >= SAME]
    return {likeness(text) for text in (*long, "\n".join(paragraphs), synopsis)}


def likeness(text: str) -> str:
    """Return what texts share that differ in case, digits and punctuation alone."""
    return re.sub(r"[\W\d_]+", " ", text).casefold().strip()


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for description, synopsis in rows:
            file.write(json.dumps({"description": description, "synopsis": synopsis}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/summarization"]))
