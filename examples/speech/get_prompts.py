"""Fetch 540 spoken prompts of a telephone exchange with their words: one speaker, 25 minutes, 8 kHz.

The sounds are in Debian's package `asterisk-core-sounds-en-wav` (CC-BY-SA-3.0), which is downloaded and unpacked here
without root; it is not installed. Their words are not in it, but in `core-sounds-en.txt` of every release of Asterisk's
core sounds, of which the smallest is fetched. Where it cannot be reached, name that file.

    python examples/speech/get_prompts.py [FOLDER] [core-sounds-en.txt]        # default: data/prompts

writes `train.csv`, `validation.csv` and `test.csv` with the columns `audio` and `text`. Prompts with the same words
are in the same table.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import sys
import tarfile
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from _packages import from_debian

PACKAGE = "asterisk-core-sounds-en-wav"
INSIDE = "usr/share/asterisk/sounds/en_US_f_Allison"
SHA256 = "e3295e2053fa3ad8bf167b0d6c12bbeed89569a9289a134d38b8fd50ee9a55c5"
RELEASE = "https://downloads.asterisk.org/pub/telephony/sounds/releases/asterisk-core-sounds-en-gsm-1.6.1.tar.gz"
WORDS = "core-sounds-en.txt"
SHARES = {"test": 0.25, "validation": 0.1, "train": 1.0}
"""Of the prompts, one table after the other."""


def main(folder: Path, words: Path | None = None) -> None:
    sounds = from_debian(PACKAGE, INSIDE, SHA256, folder, "use recordings of your own instead.")
    texts = transcripts((words or fetch_words(folder)).read_text(encoding="utf-8"))
    rows = [(file, texts[name]) for name, file in named(sounds).items() if name in texts]
    for table, part in split(rows).items():
        with (folder / f"{table}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["audio", "text"])
            writer.writerows((path.relative_to(folder).as_posix(), text) for path, text in part)
        print(f"{folder / f'{table}.csv'}: {len(part)} prompts")


def fetch_words(folder: Path) -> Path:
    """The file of the words, from Asterisk's release; only the first call needs the network."""
    kept = folder / WORDS
    if kept.is_file():
        return kept
    print("Downloading the words (2.4 MB, once).", flush=True)
    try:
        with urllib.request.urlopen(RELEASE, timeout=60) as answer:
            archive = answer.read()
    except OSError as error:
        sys.exit(
            f"{WORDS}: need {RELEASE}; got '{error}'; fetch it elsewhere, or any other release of Asterisk's core "
            f"sounds in English, and put its {WORDS} at {kept}."
        )
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        [member] = [member for member in opened.getmembers() if Path(member.name).name == WORDS]
        content = opened.extractfile(member)
        kept.write_bytes(content.read() if content else b"")
    return kept


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


def split(rows: list[tuple[Path, str]]) -> dict[str, list[tuple[Path, str]]]:
    """Put each row into a table by a number that its words alone decide."""
    tables: dict[str, list[tuple[Path, str]]] = {name: [] for name in SHARES}
    for path, text in rows:
        key = " ".join(re.findall(r"\w+", text.lower()))
        chance = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
        for name, share in SHARES.items():
            if chance < share:
                tables[name].append((path, text))
                break
            chance -= share
    return tables


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(given[0] if given else Path("data/prompts"), given[1] if len(given) > 1 else None)
