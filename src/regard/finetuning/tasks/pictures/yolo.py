"""YOLO's data sets: pictures beside texts with their boxes, and a data.yaml that names classes and parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from regard.errors import DataError
from regard.finetuning.configure import load_yaml, yaml_problem
from regard.finetuning.data.headers import require_own_names
from regard.finetuning.data.lines import read_lines
from regard.finetuning.tasks import Part, input_files
from regard.finetuning.tasks.pictures.boxes import FORMS, Object
from regard.looking.pictures import PICTURES, picture_size

ABOVE = 4
"""Folders above the pictures where the names of their classes are looked for."""


def from_yolo(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the pictures in a folder with `images` and `labels`, as the columns `image` and `objects`.

    A picture's text has a line for each object: the number of its class, then the centre, width and height in
    fractions of the picture; without a text, the picture shows none.
    """
    root = path if (path / "images").is_dir() else next((p.parent for p in path.parents if p.name == "images"), None)
    root = path.parent if root is None and path.name == "images" else root
    if root is None or not (root / "labels").is_dir():
        raise DataError(
            f"{path}: need the folders 'images' and 'labels' in it; got none; name their parent, or a file."
        )
    yield from _rows([root / "images" if path == root else path], _class_names(root))


def own_parts(path: Path) -> dict[str, Part]:
    """Find the parts that a data.yaml names, or the folders train, validation and test with `images` in them.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        DataError: it names places where nothing is.
    """
    if path.is_dir():
        described = next((file for file in sorted(path.glob("*.y*ml")) if "train" in _described(file)), None)
    else:
        described = path if path.suffix.lower() in (".yaml", ".yml") else None
    if described is not None:
        return _named_parts(described)
    inside = path / "images"
    return input_files.own_parts(path, from_yolo, "images/**/*.*") or input_files.own_parts(inside, from_yolo, "**/*.*")


PLACES = [key for keys in input_files.PARTS.values() for key in keys]


def _described(file: Path) -> dict[str, Any]:
    try:
        found = load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: need YAML; got {yaml_problem(error)}; correct it.") from None
    found = found if isinstance(found, dict) else {}
    for key, kinds in {"path": str, "names": list | dict, **dict.fromkeys(PLACES, str | list)}.items():
        if found.get(key) is not None and not isinstance(found[key], kinds):
            raise DataError(f"{file}: need another kind of value for '{key}'; got {found[key]!r}; correct it.")
    return found


def _named_parts(file: Path) -> dict[str, Part]:
    content = _described(file)
    names = _names_in(content, file) or _class_names(file.parent)
    parts = {}
    for part, keys in input_files.PARTS.items():
        value = next((content[key] for key in keys if content.get(key)), None)
        listed = [value] if isinstance(value, str) else value or []
        places = [place for each in listed if (place := _place(file, content, each, part)) is not None]
        if places:
            parts[part] = Part(places[0] if len(places) == 1 else file, partial(_rows, places, names))
    if "train" not in parts:
        raise DataError(f"{file}: need the key 'train', with the pictures to learn from; got none; add it.")
    return parts


def _place(file: Path, content: dict[str, Any], value: str, part: str) -> Path | None:
    """Return where pictures lie that a data.yaml names: from its `path`, from beside it, or, as exported, below it."""
    roots = [Path(content["path"]), file.parent / content["path"]] if content.get("path") else []
    below = re.sub(r"^(?:\.\./)+", "", value)
    tried = [root / each for root in (*roots, file.parent) for each in (value, below)]
    found = next((place for place in tried if place.exists()), None)
    if found is None and part != "test":  # which many name and do not bring
        raise DataError(f"{file}: need the pictures that '{part}' names; got nothing at '{value}'; correct the path.")
    return found


def _rows(places: Sequence[Path], names: list[str]) -> Iterator[dict[str, Any]]:
    for file in (file for place in places for file in _pictures(place)):
        text = _text_of(file)
        yield {"image": str(file.absolute()), "objects": _read(text, file, names) if text.is_file() else []}


def _pictures(place: Path) -> list[Path]:
    """Return the pictures of a folder and those in it, or those that a text lists."""
    if place.is_dir():
        return sorted(file for file in place.rglob("*") if file.suffix.lower() in PICTURES)
    lines = [line.strip() for line in read_lines(place) if line.strip()]
    return [place.parent / line for line in lines]


def _text_of(picture: Path) -> Path:
    """Return where the boxes of a picture are: in `labels` for `images`, else beside it."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _class_names(root: Path) -> list[str]:
    """Return the classes in the order of their numbers, from data.yaml or classes.txt, here or above."""
    for folder in [root, *root.absolute().parents][: ABOVE + 1]:
        for file in sorted(folder.glob("*.y*ml")):
            if names := _names_in(_described(file), file):
                return names
        if (folder / "classes.txt").is_file():
            names = [line.strip() for line in read_lines(folder / "classes.txt") if line.strip()]
            require_own_names(names, folder / "classes.txt", "class")
            return names
    raise DataError(f"{root}: need the names of the classes in data.yaml or classes.txt; got neither; write one.")


def _names_in(content: dict[str, Any], file: Path) -> list[str]:
    """Return the classes that a data.yaml names, each once and none left out, for their places are their numbers."""
    names = content.get("names") or []
    if isinstance(names, dict):
        if {str(number) for number in names} != {str(number) for number in range(len(names))}:
            raise DataError(
                f"{file}: need numbers from 0 on before the names of the classes; got {[*names][:3]}; correct them."
            )
        names = [names[number] for number in sorted(names, key=int)]
    if not all(isinstance(name, str | int | float) for name in names):
        raise DataError(f"{file}: need a name for each class; got a value of another kind; correct it.")
    if names and isinstance(content.get("nc"), int) and content["nc"] != len(names):
        raise DataError(f"{file}: need a name for each of nc = {content['nc']} classes; got {len(names)}; correct it.")
    require_own_names([str(name) for name in names], file, "class")
    return [str(name) for name in names]


def _read(text: Path, picture: Path, names: list[str]) -> list[Object]:
    width, height = picture_size(picture)
    found = []
    for number, line in enumerate(read_lines(text), start=1):
        cells, shown = line.split(), line[:60].strip()
        if not cells:
            continue
        try:
            label, (x, y, w, h) = names[_class(cells[0])], map(float, cells[1:5])
        except (ValueError, IndexError):
            raise DataError(
                f"{text}: need a class from 0 to {len(names) - 1} and four numbers in each line; got '{shown}' at line "
                f"{number}; correct it."
            ) from None
        if max(x, y, w, h) > 1.5:
            raise DataError(
                f"{text}: need fractions of the picture; got pixels ('{shown}' at line {number}); divide by its "
                "width and height."
            )
        found.append({"label": label, "xywh": FORMS["cxcywh"]([x * width, y * height, w * width, h * height])})
    return found


def _class(cell: str) -> int:
    number = int(cell)
    if number < 0:
        raise ValueError(cell)
    return number
