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
from collections.abc import Iterator
from pathlib import Path

INDEX = "*_main_i18n_Translation-en*"
WORDS = range(20, 81)
"""How many words a description may have."""
SAME = 12
"""Descriptions that share a paragraph of so many words are of one family: one of them is kept."""
SIZES = {"test": 1000, "validation": 500}  # the rest is for training
SEED = 7

Row = tuple[str, str]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in split(choose(packages(index(folder)))).items():
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


def packages(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the synopsis and the paragraphs of each package, in the order of their names."""
    for entry in text.split("\n\n"):
        _, found, told = entry.partition("Description-en: ")
        if found:
            synopsis, *lines = told.split("\n")
            blocks = "\n".join(line[1:] for line in lines if line.startswith(" ")).split("\n.\n")
            yield synopsis.strip(), [" ".join(block.split()) for block in blocks if block.strip()]


def choose(found: Iterator[tuple[str, list[str]]]) -> list[Row]:
    """Keep one of each family, and no synopsis twice."""
    seen: set[str] = set()
    kept = []
    for synopsis, paragraphs in found:
        description = "\n".join(paragraphs)
        marks = {likeness(p) for p in paragraphs if len(p.split()) >= SAME} | {likeness(synopsis)}
        if len(description.split()) in WORDS and len(synopsis.split()) >= 3 and not marks & seen:
            kept.append((description, synopsis))
        seen |= marks
    return kept


def likeness(text: str) -> str:
    """Return what texts share that differ in case, digits and punctuation alone."""
    return re.sub(r"[\W\d_]+", " ", text).casefold().strip()


def split(rows: list[Row]) -> dict[str, list[Row]]:
    """Shuffle with a fixed seed and deal out."""
    random.Random(SEED).shuffle(rows)
    parts: dict[str, list[Row]] = {}
    for name, size in SIZES.items():
        parts[name], rows = rows[:size], rows[size:]
    return {"train": rows, **parts}


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for description, synopsis in rows:
            file.write(json.dumps({"description": description, "synopsis": synopsis}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/summarization"]))
