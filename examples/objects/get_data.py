"""Compose scenes of real photographs of clothing, with the box of each piece, as COCO's files.

    python examples/objects/get_data.py [FOLDER] [--train N] [--test N]       # default: data/objects, 30000 and 500

writes FOLDER/train.json and FOLDER/test.json with their pictures in FOLDER/train and FOLDER/test. The photographs are
Fashion-MNIST's; those in the test scenes are in no training scene. **The layout is synthetic**: one to four pieces,
scaled to 18 to 32 pixels, lie where chance puts them on a black canvas of 64 x 64, none over another. Only the first
call needs the network; see examples/_fashion.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))
from _fashion import CLOTHES, clothes

CANVAS, SMALLEST, LARGEST, MOST = 64, 18, 32, 4
DARK = 10  # up to which a pixel of a photograph is background
Box = tuple[int, int, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("data/objects"))
    parser.add_argument("--train", type=int, default=30000, metavar="N", help="scenes to train on")
    parser.add_argument("--test", type=int, default=500, metavar="N", help="scenes to measure on")
    arguments = parser.parse_args()
    for seed, (name, part, count) in enumerate((("train", "train", arguments.train), ("test", "t10k", arguments.test))):
        pieces, labels = clothes(part)
        written = write(arguments.folder, name, pieces, labels, count, np.random.default_rng(seed))
        print(f"{arguments.folder / name}.json: {count} scenes with {written} pieces")


def write(folder: Path, name: str, pieces: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator) -> int:
    (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        canvas, placed = compose(pieces, rng)
        Image.fromarray(canvas).save(folder / name / f"{number:05}.png")
        images.append({"id": number, "file_name": f"{number:05}.png", "width": CANVAS, "height": CANVAS})
        for piece, box in placed:
            known = {"image_id": number, "category_id": int(labels[piece]), "bbox": box, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "area": box[2] * box[3], **known})
    categories = [{"id": label, "name": called} for label, called in enumerate(CLOTHES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return len(annotations)


def compose(pieces: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, Box]]]:
    """A canvas, and the number and box of each piece on it."""
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    placed: list[tuple[int, Box]] = []
    for _ in range(rng.integers(1, MOST + 1)):
        number = int(rng.integers(len(pieces)))
        piece = cut_out(pieces[number], int(rng.integers(SMALLEST, LARGEST + 1)))
        box = find_room(piece.shape, [other for _, other in placed], rng)
        if box is not None:
            x, y, width, height = box
            canvas[y : y + height, x : x + width] = piece
            placed.append((number, box))
    return canvas, placed


def cut_out(photograph: np.ndarray, side: int) -> np.ndarray:
    """A photograph in another size, without the background around what it shows."""
    scaled = np.asarray(Image.fromarray(photograph).resize((side, side), Image.Resampling.BILINEAR))
    rows, columns = np.nonzero(scaled > DARK)
    return scaled[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def find_room(shape: tuple[int, ...], taken: list[Box], rng: np.random.Generator) -> Box | None:
    """A box of this height and width that meets no other, if twenty tries find one."""
    height, width = shape
    for _ in range(20):
        x, y = int(rng.integers(CANVAS - width + 1)), int(rng.integers(CANVAS - height + 1))
        if all(x >= a + w or a >= x + width or y >= b + h or b >= y + height for a, b, w, h in taken):
            return x, y, width, height
    return None


if __name__ == "__main__":
    main()
