"""Objects in pictures: their boxes as people write them, read from COCO's files, and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.finetuning.data.headers import each_once, require_own_names
from regard.finetuning.tasks import Part, input_files
from regard.inspection.report.content import Finding

Box = list[float]
Object = dict[str, Any]
"""`label`, and `box`: left edge, top edge, width and height in pixels."""

FORMS: dict[str, Callable[[Box], Box]] = {
    "xywh": lambda b: list(b),
    "xyxy": lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]],
    "cxcywh": lambda b: [b[0] - b[2] / 2, b[1] - b[3] / 2, b[2], b[3]],
}
"""What the four numbers of a box can mean -> what makes left, top, width and height of them."""
ROUNDING = 1.0
"""Pixels that a box may reach beyond its picture without a word: people round."""


def from_coco(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the pictures of a COCO file, as the columns `image` and `objects`."""
    content = _read_coco(path)
    _require_fields(content, path)
    for name in ("images", "categories"):
        require_own_names([each["id"] for each in content[name]], path, f"id in '{name}'")
    used = {each["category_id"] for each in content["annotations"]}
    require_own_names([c["name"] for c in content["categories"] if c["id"] in used], path, "name in 'categories'")
    names = {each["id"]: each["name"] for each in content["categories"]}
    found: dict[Any, list[Object]] = {each["id"]: [] for each in content["images"]}
    for number, each in enumerate(content["annotations"], start=1):
        _require_id(each, "category_id", names, path, number)
        _require_id(each, "image_id", found, path, number)
        if str(each.get("iscrowd") or 0) in ("0", "0.0"):
            found[each["image_id"]].append({"label": str(names[each["category_id"]]), "box": each.get("bbox")})
    for each in content["images"]:
        yield {"image": _beside(path, each["file_name"]), "objects": found[each["id"]]}


def _read_coco(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=each_once)
    except DataError as error:
        raise DataError(f"{path}: {str(error).partition(': ')[2]}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: need JSON; got '{error}'; write it again.") from None
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        got = ", ".join(f"'{key}'" for key in content) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DataError(f"{path}: need COCO's lists {', '.join(lists)}; got {got}; convert it, or name a table.")
    return content


FIELDS = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ("image_id", "category_id")}
"""What is read of each entry of COCO's lists: numbers and texts."""


def _require_fields(content: dict[str, Any], path: Path) -> None:
    """Raise DataError unless each entry of COCO's lists says what it must."""
    for name, keys in FIELDS.items():
        for number, each in enumerate(content[name], start=1):
            lacking = [k for k in keys if not isinstance(each, dict) or not isinstance(each.get(k), str | int)]
            if lacking or (name == "images" and not isinstance(each["file_name"], str)):
                raise DataError(
                    f"{path}: need {' and '.join(keys)} in each entry of '{name}', numbers or texts; got "
                    f"{', '.join(map(repr, lacking)) or 'a number'} missing or of another kind in entry {number}; "
                    "correct it."
                )


def _require_id(annotation: dict[str, Any], key: str, known: Any, path: Path, number: int) -> None:
    if annotation.get(key) not in known:
        where = {"category_id": "categories", "image_id": "images"}[key]
        raise DataError(
            f"{path}: need a {key} that is in '{where}'; got {annotation.get(key)!r} in annotation {number}; correct "
            "it or drop the annotation."
        )


def _beside(path: Path, name: str) -> str:
    """Return where a picture lies from its list: beside it, in `images`, or in a folder named as the list."""
    folders = ("", "images", path.stem, path.stem.removeprefix("instances_"), f"../{path.stem}", "../images")
    places = (Path(folder, name) for folder in folders)
    return str(next((place for place in places if (path.parent / place).is_file()), Path(name)))


def own_parts(path: Path) -> dict[str, Part]:
    """Find COCO's files for train, validation and test: one in a folder of each, or `instances_train*.json`."""
    found: dict[str, Path] = {}
    for part, names in (input_files.PARTS if path.is_dir() else {}).items():
        for name in names:
            files = [*path.glob(f"{name}/_annotations*.json"), *path.glob(f"annotations/instances_{name}*.json")]
            if files and part not in found:
                found[part] = min(files)
    return {part: Part(file, partial(from_coco, file)) for part, file in found.items()} if "train" in found else {}


def objects_of(cell: Any, form: str, where: str, scale: tuple[float, float] = (1, 1)) -> list[Object]:
    """Return the objects of a row with their boxes as left, top, width and height.

    Args:
        cell: a list of `label` (or `category`) and `box` (or `bbox`), a dictionary of the two as lists, either as
            JSON, or None for no object.
        form: what the numbers of a `box` mean, of `FORMS`.
        where: the row, for messages.
        scale: what the numbers of a `box` are multiplied by: the picture's width and height if they are fractions.
    """
    cell = _parsed(cell, where)
    if isinstance(cell, dict):
        keys = [key for key, value in cell.items() if isinstance(value, list)]
        cell = [dict(zip(keys, values, strict=True)) for values in zip(*(cell[key] for key in keys), strict=True)]
    return [_object(each, form, where, scale) for each in cell]


def _parsed(cell: Any, where: str) -> Any:
    try:
        cell = json.loads(cell, object_pairs_hook=each_once) if isinstance(cell, str) else cell
    except DataError as error:
        raise DataError(f"{where}: {str(error).partition(': ')[2]}") from None
    except (ValueError, RecursionError) as error:
        told = getattr(error, "msg", None) or str(error).split("; ")[0]
        raise DataError(f"{where}: need the objects as JSON; got '{told}'; correct it.") from None
    if cell is None:
        return []
    if not isinstance(cell, list | dict):
        raise DataError(f"{where}: need a list of objects; got a {type(cell).__name__}; write [] for none.")
    return cell


def _object(given: Any, form: str, where: str, scale: tuple[float, float]) -> Object:
    given = given if isinstance(given, dict) else {}
    label = next((given[key] for key in ("label", "category", "categories") if given.get(key) is not None), None)
    if label is None or not str(label).strip():
        raise DataError(f"{where}: need a label for each object; got none; fill it in or drop the object.")
    if given.get("xywh"):
        form, scale = "xywh", (1, 1)
    box = next((given[key] for key in ("xywh", "box", "bbox") if given.get(key) is not None), None)
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(x) for x in box):
        raise DataError(f"{where}: need four numbers for each box; got {box!r}; correct it or drop the object.")
    box = [float(x) * by for x, by in zip(box, (*scale, *scale), strict=True)]
    return {"label": str(label), "box": FORMS[form](box), "given": box, "form": form}


def _is_finite(x: Any) -> bool:
    return isinstance(x, int | float) and math.isfinite(x)


Row = tuple[tuple[int, int], list[Object]]
"""Width and height of a picture, and its objects."""


def require_fitting(rows: Sequence[Row], path: str) -> None:
    """Raise DataError if boxes are in fractions, or fit their pictures only when read in another form."""
    given = [(size, each) for size, objects in rows for each in objects]
    if given and all(max(each["box"]) <= 1.5 and min(size) > 2 for size, each in given):
        raise DataError(
            f"{path}: need boxes in pixels; got fractions of the pictures, none above {_largest(given):.3g}; set "
            "options.units: fractions."
        )
    bad = [number for number, (size, objects) in enumerate(rows, 1) if not all(_fits(o["box"], size) for o in objects)]
    if not bad:
        return
    for form in FORMS:
        if all(_fits(FORMS[form](each["given"]), size) for size, each in given) and form != given[0][1]["form"]:
            raise DataError(
                f"{path}: need boxes inside their pictures; got {len(bad)} pictures with others, read as "
                f"{given[0][1]['form']}, while all fit as {form}; set options.boxes: {form}."
            )
    for number, (size, objects) in enumerate(rows, 1):
        for each in objects:
            if not _touches(each["box"], size):
                raise DataError(
                    f"{path}: need boxes inside their pictures; got {_shown(each['box'])} (left, top, width, height) "
                    f"in row {number}, whose picture has {size[0]} x {size[1]} pixels; correct it or drop the object."
                )


def _largest(given: Sequence[tuple[tuple[int, int], Object]]) -> float:
    return max(max(each["box"]) for _, each in given)


def _shown(box: Box) -> str:
    return ", ".join(f"{x:g}" for x in box)


def _fits(box: Box, size: tuple[int, int]) -> bool:
    x, y, w, h = box
    inside = x >= -ROUNDING and y >= -ROUNDING and x + w <= size[0] + ROUNDING and y + h <= size[1] + ROUNDING
    return inside and w >= 0 and h >= 0


def _touches(box: Box, size: tuple[int, int]) -> bool:
    x, y, w, h = box
    return w >= 0 and h >= 0 and x < size[0] and y < size[1] and x + w > 0 and y + h > 0


def cut_to_pictures(name: str, rows: Sequence[Row]) -> tuple[list[list[Object]], list[Finding]]:
    """Cut boxes at the edges of their pictures and leave out the empty ones; say how many."""
    kept, beyond, empty = [], 0, 0
    for size, objects in rows:
        inside = [{"label": each["label"], "box": cut(each["box"], size)} for each in objects]
        beyond += sum(not _fits(each["box"], size) for each in objects)
        empty += sum(not all(each["box"][2:]) for each in inside)
        kept.append([each for each in inside if all(each["box"][2:])])
    findings = []
    if beyond:
        findings.append(Finding("warning", f"{name}: {beyond} boxes reach beyond their pictures; cut at the edges"))
    if empty:
        findings.append(Finding("warning", f"{name}: {empty} boxes are empty, without width or height; left out"))
    return kept, findings


def cut(box: Box, size: tuple[int, int]) -> Box:
    """Return the part of a box that is in its picture."""
    x, y, w, h = box
    left, top = min(max(x, 0.0), size[0]), min(max(y, 0.0), size[1])
    return [left, top, max(min(x + w, size[0]) - left, 0.0), max(min(y + h, size[1]) - top, 0.0)]
