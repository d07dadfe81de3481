"""The pictures of gallery.md, from real runs of examples/. `make gallery` runs it; names choose some of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"


class Shown(NamedTuple):
    """A program of examples/, what it is told, and which of the files that it leaves is shown."""

    program: str
    arguments: tuple[str, ...]
    picture: str


GALLERY = {
    "article": Shown("article.py", (), "attention.png"),
    "digits": Shown("digits/look.py", ("runs",), "runs/digits-look.png"),
    "entropy": Shown("sentiment/look.py", ("runs",), "runs/entropy.png"),
    "rollout": Shown("sentiment/look.py", ("runs",), "runs/rollout.png"),
    "lengths": Shown("keras/lengths.py", ("--output", "runs"), "runs/attention.png"),
    "accuracy": Shown("keras/lengths.py", ("--output", "runs"), "runs/accuracy.png"),
}


def draw(names: list[str]) -> None:
    """Run what is chosen, each program once, in a folder that is gone afterwards; data that are there are used."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (ROOT / "data").mkdir(exist_ok=True)
        (folder / "data").symlink_to(ROOT / "data")
        for shown in dict.fromkeys((GALLERY[name].program, GALLERY[name].arguments) for name in names):
            program, arguments = shown
            command = [sys.executable, str(ROOT / "examples" / program), *arguments]
            print("python examples/" + " ".join((program, *arguments)), flush=True)
            subprocess.run(command, cwd=folder, env={**os.environ, "MPLBACKEND": "Agg"}, check=True)
            for name in names:
                if GALLERY[name][:2] == shown:
                    copyfile(folder / GALLERY[name].picture, IMAGES / f"gallery-{name}.png")


if __name__ == "__main__":
    draw(sys.argv[1:] or [*GALLERY])
