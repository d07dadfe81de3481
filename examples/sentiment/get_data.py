"""Fetch the movie-review sentences of the sentiment example and split them.

The sentences come inside the source distribution of `vaderSentiment` 0.5 on PyPI: 10,605 snippets of movie reviews,
each with the mean of 20 human ratings from -4 (very negative) to 4 (very positive) (Hutto and Gilbert, ICWSM 2014).
The package is under the MIT licence; the texts belong to their authors, so they are fetched, never redistributed.

    python examples/sentiment/get_data.py [FOLDER]        # default: data/sentiment

writes `train.csv`, `validation.csv` and `test.csv` with the columns `sentence`, `sentiment` and `rating`. The archive
is kept beside them, so a second run needs no network. Needs Python and pip alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ARCHIVE = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
TARBALL = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

CLEAR = 0.5  # sentences rated closer to neutral than this are left out
SIZES = {"test": 1500, "validation": 500}  # the rest is for training
SEED = 20140601

Row = tuple[str, str, float]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = label(read_ratings(fetch(folder / ARCHIVE)))
    for name, part in split(rows).items():
        write(folder / f"{name}.csv", part)
        positive = sum(row[1] == "positive" for row in part)
        print(f"{folder / name}.csv: {len(part)} sentences, {positive} positive, {len(part) - positive} negative")


def fetch(archive: Path) -> Path:
    """Have pip download the archive, unless it is here already; either way it must be the one we know."""
    if not archive.exists():
        print(f"Downloading {archive.name} from the package index (2.4 MB, once).")
        with tempfile.TemporaryDirectory() as temporary:
            download(Path(temporary))
            shutil.move(Path(temporary) / ARCHIVE, archive)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != ARCHIVE_SHA256:
        sys.exit(
            f"get_data: {archive} is not the file this example was made for (sha256 {digest}); delete it, run again."
        )
    return archive


def download(folder: Path) -> None:
    """Run pip, which checks the hash before it looks inside."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"vaderSentiment==0.5 --hash=sha256:{ARCHIVE_SHA256}\n")
    options = ["--quiet", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(wanted)]
    if subprocess.run(command).returncode:
        sys.exit(
            "get_data: pip could not download vaderSentiment 0.5; connect to a package index once, then run again."
        )


def read_ratings(archive: Path) -> dict[str, float]:
    """Return every sentence with its mean rating; of repeated sentences, the first."""
    with zipfile.ZipFile(archive) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(TARBALL))) as inner:
        member = inner.extractfile(RATINGS)
        assert member is not None
        lines = member.read().decode("latin-1").strip().split("\n")
    ratings: dict[str, float] = {}
    seen: set[str] = set()
    for line in lines:
        _, rating, sentence = line.split("\t", 2)
        sentence = " ".join(sentence.split())
        key = "".join(filter(str.isalnum, sentence.casefold()))
        if key and key not in seen:
            seen.add(key)
            ratings[sentence] = float(rating)
    return ratings


def label(ratings: dict[str, float]) -> list[Row]:
    """Name the sign of each clear rating."""
    return [(text, "positive" if r > 0 else "negative", r) for text, r in ratings.items() if abs(r) >= CLEAR]


def split(rows: list[Row]) -> dict[str, list[Row]]:
    """Shuffle with a fixed seed and deal out; no sentence is in two parts, since none is there twice."""
    rows = sorted(rows)
    random.Random(SEED).shuffle(rows)
    parts: dict[str, list[Row]] = {}
    for name, size in SIZES.items():
        parts[name], rows = rows[:size], rows[size:]
    return {"train": rows, **parts}


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "sentiment", "rating"])
        writer.writerows((text, name, f"{rating:.2f}") for text, name, rating in rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/sentiment"))
