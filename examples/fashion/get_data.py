"""Write Fashion-MNIST as people keep pictures: a folder for each class with PNG files in it.

    python examples/fashion/get_data.py [FOLDER] [--rows N]       # default: data/fashion, all

writes FOLDER/train (60,000 pictures) and FOLDER/test (10,000), or the first N of each. Only the first call needs the
network; see examples/_fashion.py for where the photographs come from.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))
from _fashion import CLOTHES, clothes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("data/fashion"))
    parser.add_argument("--rows", type=int, help="take so many of each part")
    arguments = parser.parse_args()
    for name, part in (("train", "train"), ("test", "t10k")):
        pictures, labels = (array[: arguments.rows] for array in clothes(part))
        write(arguments.folder / name, pictures, labels)
        print(f"{arguments.folder / name}: {len(labels)} pictures of {len(set(labels.tolist()))} classes")


def write(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    for label in CLOTHES:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        Image.fromarray(picture).save(folder / CLOTHES[label] / f"{number:05}.png")


if __name__ == "__main__":
    main()
