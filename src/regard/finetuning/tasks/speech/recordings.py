"""What the tasks on sounds share: recordings with their words, a look into each, and pieces of long ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.data import duplicates
from regard.finetuning.data.lines import read_lines
from regard.finetuning.tasks import BY_LOSS, Part, input_files
from regard.finetuning.tasks.targets import classes
from regard.inspection.report.content import Finding
from regard.looking.sounds import OTHER_SOUNDS, SOUNDS, open_sound

if TYPE_CHECKING:
    from datasets import Dataset

SILENT = 1e-3
"""Loudest value of what is called silent, of 1: 60 dB below the loudest that there can be."""
HIDDEN = ("data.max_length", "train.unpad", "framework", "report.right")
COMMENTS = {"data.columns.audio": "A .wav file of any rate; where it has no folder, beside the table"}
ADDITIONS = {
    "data.train": "or a folder of .wav files, each beside a .txt file of the same name with its words",
    "train.keep": BY_LOSS,
}
"""What templates of these tasks say of keys, and which they leave out; see `Template`."""


def in_folder(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the recordings of a folder and its folders, with the words in the text file of the same name, if any."""
    seen = (file for file in path.rglob("*") if not input_files.is_hidden(file, path))
    files = sorted(file for file in seen if file.suffix.lower() in (*SOUNDS, *OTHER_SOUNDS))
    if not files:
        raise DataError(
            f"{path}: need a folder with recordings ({', '.join(SOUNDS)}), each beside a .txt file of the same name "
            "with its words; got none; name another, or a table."
        )
    for file in files:
        words = file.with_suffix(".txt")
        text = "".join(read_lines(words)).strip() if words.is_file() else None
        yield {"audio": str(file.relative_to(path)), "text": text}


def own_parts(path: Path) -> dict[str, Part]:
    """Find the folders train, validation and test with recordings."""
    return input_files.own_parts(path, in_folder, "**/*.*")


def require_pairs(split: Dataset, path: str) -> None:
    """Raise DataError unless each row has a recording and words."""
    for number, (file, text) in enumerate(zip(split["audio"], split["text"], strict=True), start=1):
        input_files.require_file(file, path, number, "recording")
        if not isinstance(text, str) or not any(map(str.isalnum, text)):
            got = "none" if text is None or not str(text).strip() else f"'{text}'"
            raise DataError(f"{path}: need words in each row; got {got} in row {number}; fill it in or drop the row.")


def inspect_pairs(splits: dict[str, Dataset], config: Config) -> list[Finding]:
    """Look for rows without recording or words, for repeats, and for recordings in two splits."""
    for name, split in splits.items():
        require_pairs(split, classes.where(name, config))
    keys = {name: [input_files.digest(file) for file in split["audio"]] for name, split in splits.items()}
    findings = [
        finding
        for name, split in splits.items()
        for finding in duplicates.repeats(name, keys[name], split["text"], "recording")
    ]
    return findings + duplicates.leaks(keys, "recording")


@dataclass(frozen=True)
class Recording:
    """What must be known of a recording before it is used.

    Attributes:
        seconds: how long it is.
        rate: values a second, in Hz.
        silent: whether there is nothing to hear.
        loudest: its largest value; whole numbers in a file are at most 1.
    """

    seconds: float
    rate: int
    silent: bool
    loudest: float


def look_into(name: str, files: Sequence[str]) -> list[Recording]:
    """Read every recording once; they are read again when they are trained on, since all of them may not fit."""
    found = []
    for number, file in enumerate(files, start=1):
        try:
            sound, rate = open_sound(file)
        except DataError as error:
            raise DataError(f"{name}, row {number}: {error}") from None
        loudest = float(np.abs(sound).max())
        found.append(Recording(len(sound) / rate, rate, loudest < SILENT, loudest))
    return found


def sound_findings(name: str, recordings: Sequence[Recording], rate: int) -> list[Finding]:
    """Say how long recordings are, which are resampled, which are silent, and which are beyond full scale."""
    seconds = [recording.seconds for recording in recordings]
    told = f"{name}: {len(seconds)} recordings, {sum(seconds) / 60:.1f} minutes, of {min(seconds):.1f} to"
    findings = [Finding("ok", f"{told} {max(seconds):.1f} s")]
    others = Counter(recording.rate for recording in recordings if recording.rate != rate)
    if others:
        rates = ", ".join(f"{count} of {found:,} Hz" for found, count in others.most_common())
        lost = "; above half their own rate they hold nothing" if min(others) < rate else ""
        findings.append(Finding("ok", f"{name}: resampled to the {rate:,} Hz that the model reads: {rates}{lost}"))
    silent = [number for number, recording in enumerate(recordings, start=1) if recording.silent]
    if silent:
        told = f"{name}: {len(silent)} recordings are silent (first in row {silent[0]})"
        findings.append(Finding("warning", f"{told}; nobody can hear their words: drop the rows"))
    loud = [number for number, recording in enumerate(recordings, start=1) if recording.loudest > 1]
    if loud:
        most = max(recording.loudest for recording in recordings)
        told = f"{name}: {len(loud)} recordings have values beyond 1, up to {most:.3g} (first in row {loud[0]})"
        findings.append(Finding("warning", f"{told}; they are read as they are: other programs clip them"))
    return findings


def pieces(sound: np.ndarray, most: int, quiet: int = 4800) -> list[np.ndarray]:
    """Cut a sound into pieces of at most `most` values, each at the quietest moment of its last third.

    Args:
        sound: `(n,)`.
        most: values of a piece.
        quiet: values that a moment has; at 16,000 Hz longer than the silence inside of a word, such as before a t.
    """
    found = []
    while len(sound) > most:
        begin = most - most // 3
        loud = np.convolve(sound[begin:most] ** 2, np.ones(min(quiet, most - begin)), "valid")
        cut = begin + int(loud.argmin()) + min(quiet, most - begin) // 2
        found.append(sound[:cut])
        sound = sound[cut:]
    return [*found, sound]
