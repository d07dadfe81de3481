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
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "pocketsphinx-testdata"
INSIDE = "usr/share/pocketsphinx/test/data"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        sys.exit(f"get_data: need apt-get and dpkg-deb for Debian's {PACKAGE}; use WAV files of your own instead.")
    with tempfile.TemporaryDirectory() as temporary:
        print(f"Downloading {PACKAGE} (1.8 MB).")
        subprocess.run(["apt-get", "-qq", "download", PACKAGE], cwd=temporary, check=True, stderr=subprocess.DEVNULL)
        [package] = Path(temporary).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, temporary], check=True)
        rows = [row for part in ("librivox", "cards") for row in transcripts(Path(temporary) / INSIDE / part)]
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
