"""The shorter of the prompts that examples/speech/get_prompts.py fetches, as a voice learns them: at most 2.5 seconds.

    python examples/synthesis/get_data.py [FOLDER]        # default: data/synthesis

writes `train.csv`, `validation.csv` and `test.csv` with the columns `audio` and `text`, and `learned.csv`, forty rows
of the first. Prompts with the same words are in the same table; what is left of them out of training was never heard.
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "speech"))
from get_prompts import prompts, split, write

SECONDS = 2.5
SHARES = {"test": 0.1, "validation": 0.05, "train": 1.0}
LEARNED = 40


def main(folder: Path) -> None:
    rows = [(file, text) for file, text in prompts(folder) if seconds(file) <= SECONDS]
    tables = split(rows, SHARES)
    step = max(len(tables["train"]) // LEARNED, 1)
    write(folder, tables | {"learned": tables["train"][::step][:LEARNED]})


def seconds(file: Path) -> float:
    with wave.open(str(file)) as sound:
        return sound.getnframes() / sound.getframerate()


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/synthesis"]))
