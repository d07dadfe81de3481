"""Fetch the paragraphs of LibreOffice's help in English and German, aligned, and split them.

They are in Debian's packages `libreoffice-help-en-us` and `libreoffice-help-de` (MPL-2.0), which are downloaded and
unpacked here without root; they are not installed. Without `apt-get` and `dpkg-deb`, take any table of your own pairs.

    python examples/translation/get_data.py [FOLDER]        # default: data/translation

writes `train.tsv`, `validation.tsv` and `test.tsv` with the columns `en` and `de`.
"""

from __future__ import annotations

import csv
import random
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from _help import ENGLISH, GERMAN, paragraphs
from _packages import from_debian

WORDS = range(3, 31)
"""How many words a paragraph may have on each side."""
SIZES = {"test": 1000, "validation": 500}  # the rest is for training
SEED = 7

Pair = tuple[str, str]


def main(folder: Path) -> None:
    texts = {
        language: paragraphs(from_debian(package, inside, sha256, folder, "use pairs of your own instead."))
        for language, (package, inside, sha256) in {"en": ENGLISH, "de": GERMAN}.items()
    }
    shared = sorted(texts["en"].keys() & texts["de"].keys())
    for name, pairs in split(choose([(texts["en"][key], texts["de"][key]) for key in shared])).items():
        write(folder / f"{name}.tsv", pairs)
        print(f"{folder / name}.tsv: {len(pairs)} pairs")


def choose(pairs: list[Pair]) -> list[Pair]:
    """Leave out what is short, long or not translated, and all that is on either side like something before."""
    seen: set[tuple[int, str]] = set()
    kept = []
    for pair in pairs:
        keys = {(side, likeness(text)) for side, text in enumerate(pair)}
        fits = all(len(text.split()) in WORDS for text in pair) and likeness(pair[0]) != likeness(pair[1])
        if fits and not keys & seen:
            seen |= keys
            kept.append(pair)
    return kept


def likeness(text: str) -> str:
    """Return what texts share that differ in case, digits and punctuation alone."""
    return re.sub(r"[\W\d_]+", " ", text).casefold().strip()


def split(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Shuffle with a fixed seed and deal out."""
    random.Random(SEED).shuffle(pairs)
    parts: dict[str, list[Pair]] = {}
    for name, size in SIZES.items():
        parts[name], pairs = pairs[:size], pairs[size:]
    return {"train": pairs, **parts}


def write(path: Path, pairs: list[Pair]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([("en", "de"), *pairs])


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/translation"]))
