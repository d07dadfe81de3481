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
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

INDEX = "*_main_i18n_Translation-en*"
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
Package = tuple[str, list[str]]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in split(list(packages(index(folder)))).items():
        write(folder / f"{name}.jsonl", rows)
        print(f"{folder / name}.jsonl: {len(rows)} descriptions")


def index(folder: Path) -> str:
    """Return the English index; only the first call needs the network."""
    kept = folder / "Translation-en"
    if not kept.is_file():
        if not shutil.which("apt-get"):
            sys.exit("get_data: need apt-get, as on Debian and Ubuntu; got none; use a table of your own instead.")
        print("Downloading Debian's package index (31 MB, once).", flush=True)
        state = (folder / "apt").resolve()
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        places = [f"Dir::State::lists={state}/lists", f"Dir::Cache={state}", "Acquire::Languages=en"]
        options = [part for place in places for part in ("-o", place)]
        if subprocess.run(["apt-get", "-qq", *options, "update"], stderr=subprocess.DEVNULL).returncode:
            sys.exit("get_data: apt-get could not download the index; connect to a Debian mirror once, then run again.")
        largest = max((state / "lists").glob(INDEX), key=lambda path: path.stat().st_size)
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", largest], capture_output=True, check=True).stdout
        kept.write_bytes(text)
        shutil.rmtree(state)
    return kept.read_text(encoding="utf-8")


def packages(text: str) -> Iterator[Package]:
    """Yield the synopsis and the paragraphs of each package, in the order of their names."""
    for entry in text.split("\n\n"):
        _, found, told = entry.partition("Description-en: ")
        if found:
            synopsis, *lines = told.split("\n")
            blocks = "\n".join(line[1:] for line in lines if line.startswith(" ")).split("\n.\n")
            yield synopsis.strip(), [" ".join(block.split()) for block in blocks if block.strip()]


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
