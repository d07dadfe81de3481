"""Write scikit-learn's scanned digits as people keep pictures: a folder for each class with PNG files in it.

    python examples/generation/get_data.py [FOLDER]       # default: data/digits

writes FOLDER/train (1,437 pictures of 8 x 8 grey pixels) and FOLDER/test (360). Needs no network.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main(folder: Path) -> None:
    known = load_digits()
    parts = train_test_split(known.images, known.target, test_size=0.2, random_state=0, stratify=known.target)
    for name, pictures, labels in (("train", parts[0], parts[2]), ("test", parts[1], parts[3])):
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            place = folder / name / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((picture * 15.9).astype(np.uint8)).save(place / f"{number:04}.png")
        print(f"{folder / name}: {len(labels)} pictures of {len(set(labels.tolist()))} classes")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/digits"))
