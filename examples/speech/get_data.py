"""Fetch ten spoken sentences with their words: five read from a novel, five of playing cards, 16 kHz.

They are in Debian's package `pocketsphinx-testdata` (BSD-2), which is downloaded and unpacked here without root; it is
not installed. Without `apt-get` and `dpkg-deb`, take any WAV file of your own.

    python examples/speech/get_data.py [FOLDER]        # default: data/speech

writes `*.wav` and `transcripts.csv` with the columns `audio` and `text`.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from _packages import from_debian

PACKAGE = "pocketsphinx-testdata"
INSIDE = "usr/share/pocketsphinx/test/data"
SHA256 = "7df291e7ead4da64ad8b400d5af0dbb61ecdfabd4fd4035670e3181b29b3db7f"


def main(folder: Path) -> None:
    source = from_debian(PACKAGE, INSIDE, SHA256, folder, "use WAV files of your own instead.")
    rows = [row for part in ("librivox", "cards") for row in transcripts(source / part)]
    for audio, _ in rows:
        shutil.copy(audio, folder / audio.name)
    with (folder / "transcripts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["audio", "text"])
        writer.writerows((audio.name, text) for audio, text in rows)
    print(f"{folder / 'transcripts.csv'}: {len(rows)} sentences")


def transcripts(folder: Path) -> list[tuple[Path, str]]:
    """Lines such as `<s> he was not an ill disposed young man </s> (name)`."""
    [lines] = [
        path for path in folder.iterdir() if path.name.startswith("transcription") or path.suffix == ".transcription"
    ]
    found = []
    for line in lines.read_text().splitlines():
        told = re.fullmatch(r"(?:<s> )?(.*?)(?: </s>)? \((.*)\)", line.strip())
        if told and (folder / f"{told[2]}.wav").is_file():
            found.append((folder / f"{told[2]}.wav", told[1].strip()))
    return found


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/speech"]))
