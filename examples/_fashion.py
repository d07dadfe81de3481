"""Fashion-MNIST, from Debian: 70,000 photographs of clothing of 28 x 28 grey pixels, in ten classes.

Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747; MIT licence. The package `dataset-fashion-mnist` (31 MB) is downloaded
and unpacked once, without root.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from _packages import from_debian

INSIDE = "usr/share/datasets/fashion-mnist"
SHA256 = "44e35cec8f7b88113672d58f66721a950b73065243664f2fc2f42f276dfc83b1"
ELSEWHERE = "put the four .gz files of github.com/zalandoresearch/fashion-mnist into data/debian/dataset-fashion-mnist."
CLOTHES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def clothes(part: str, elsewhere: str = ELSEWHERE) -> tuple[np.ndarray, np.ndarray]:
    """Pictures `(n, 28, 28)` in 0..255 and the numbers of their classes: 60,000 of "train", 10,000 of "t10k"."""
    folder = from_debian("dataset-fashion-mnist", INSIDE, SHA256, Path("data/debian"), elsewhere)

    def read(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=header)

    pictures = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return pictures, read(f"{part}-labels-idx1-ubyte.gz", 8)
