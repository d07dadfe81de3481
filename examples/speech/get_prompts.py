"""Fetch 540 spoken prompts of a telephone exchange with their words: one speaker, 25 minutes, 8 kHz.

The sounds are in Debian's package `asterisk-core-sounds-en-wav`, their words in the documentation of
`asterisk-core-sounds-en` (CC-BY-SA-3.0); both are downloaded and unpacked here without root, not installed.

    python examples/speech/get_prompts.py [FOLDER] [core-sounds-en.txt]        # default: data/prompts

writes `train.csv`, `validation.csv` and `test.csv` with the columns `audio` and `text`. Prompts with the same words
are in the same table. Without Debian, the words are in every release of Asterisk's core sounds: name the file.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from _packages import from_debian

PACKAGE = "asterisk-core-sounds-en-wav"
INSIDE = "usr/share/asterisk/sounds/en_US_f_Allison"
SHA256 = "e3295e2053fa3ad8bf167b0d6c12bbeed89569a9289a134d38b8fd50ee9a55c5"
WORDS = "asterisk-core-sounds-en", "usr/share/doc/asterisk-core-sounds-en", "core-sounds-en.txt.gz"
WORDS_SHA256 = "b16874a4486c19887ac0b64725d3d5782f646ea0d46e9ec724e1f1ee3df3832c"
SHARES = {"test": 0.25, "validation": 0.1, "train": 1.0}
"""Of the prompts, one table after the other."""


def main(folder: Path, words: Path | None = None) -> None:
    write(folder, split(prompts(folder, words), SHARES))


def prompts(folder: Path, words: Path | None = None) -> list[tuple[Path, str]]:
    """Each sound whose words are known."""
    sounds = from_debian(PACKAGE, INSIDE, SHA256, folder, "use recordings of your own instead.")
    texts = transcripts(words.read_text(encoding="utf-8") if words else fetch_words(folder))
    return [(file, texts[name]) for name, file in named(sounds).items() if name in texts]


def write(folder: Path, tables: dict[str, list[tuple[Path, str]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for table, part in tables.items():
        with (folder / f"{table}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["audio", "text"])
            writer.writerows((os.path.relpath(path, folder), text) for path, text in part)
        print(f"{folder / f'{table}.csv'}: {len(part)} prompts")


def fetch_words(folder: Path) -> str:
    """The table of the words."""
    package, inside, name = WORDS
    kept = from_debian(package, inside, WORDS_SHA256, folder, "name Asterisk's core-sounds-en.txt.")
    return gzip.decompress((kept / name).read_bytes()).decode("utf-8")


def transcripts(table: str) -> dict[str, str]:
    """Lines such as `digits/7: seven`; what is in brackets is not said, and neither are dots for what is left out."""
    found = {}
    for name, colon, text in (line.partition(":") for line in table.splitlines() if not line.startswith(";")):
        said = " ".join(re.sub(r"\[.*?\]|\(.*?\)|<.*?>|\.\.\.", " ", text).split())
        if colon and any(map(str.isalpha, said)):
            found[name.strip().removesuffix(".wav")] = said
    return found


def named(sounds: Path) -> dict[str, Path]:
    return {path.relative_to(sounds).with_suffix("").as_posix(): path for path in sorted(sounds.rglob("*.wav"))}


def split(rows: list[tuple[Path, str]], shares: dict[str, float]) -> dict[str, list[tuple[Path, str]]]:
    """Put each row into a table by a number that its words alone decide."""
    tables: dict[str, list[tuple[Path, str]]] = {name: [] for name in shares}
    for path, text in rows:
        key = " ".join(re.findall(r"\w+", text.lower()))
        chance = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
        for name, share in shares.items():
            if chance < share:
                tables[name].append((path, text))
                break
            chance -= share
    return tables


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(given[0] if given else Path("data/prompts"), given[1] if len(given) > 1 else None)
