"""What a page asks, and what it is answered: frames of a few names and numbers, the same by a server and in a notebook.

A frame is its length, the length of its JSON, the JSON, and float32 numbers, whose names and shapes the JSON has.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from regard._spoken import language
from regard.errors import OutOfRangeError
from regard.exploring import maps, places
from regard.exploring.atlas import Atlas, Name
from regard.exploring.views import COLUMNS, View, numbers

SMALL = 64
"""Rectangles a side of the small maps of all heads."""
_MOST = {"tiles": 512, "heads": 4096}
Stop = Callable[[], bool]


def frame(facts: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> bytes:
    """One frame; numbers of `facts` that are not finite become null."""
    arrays = {name: np.ascontiguousarray(array, "<f4") for name, array in (arrays or {}).items()}
    facts = {**facts, "arrays": [[name, *array.shape] for name, array in arrays.items()]}
    head = json.dumps(finite(facts), allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")
    head += b" " * (-len(head) % 4)  # numbers begin at a multiple of four
    body = b"".join(array.tobytes() for array in arrays.values())
    return struct.pack("<II", 4 + len(head) + len(body), len(head)) + head + body


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def about(atlas: Atlas) -> dict[str, Any]:
    """What a page shows before any map."""
    told = [_told_of(view) for view in atlas.views]
    views, words = told[: atlas.given], told[atlas.given :]
    shown = {"views": views, "words": words, "begin": atlas.begin, "side": maps.SIDE, "columns": COLUMNS}
    return shown if language() == "en" else {**shown, "language": language()}


def _told_of(view: View) -> dict[str, Any]:
    return {
        "title": view.title,
        "kind": view.kind,
        "axes": [{"labels": axis.labels, "special": axis.special, "bands": axis.bands} for axis in view.axes],
        "layers": [
            {
                "name": layer.name,
                "heads": int(layer.weights.shape[0]),
                "shape": [int(size) for size in layer.weights.shape[-2:]],
                "base": [maps.base(int(size)) for size in layer.weights.shape[-2:]],
                "queries": layer.queries,
                "keys": layer.keys,
            }
            for layer in view.layers
        ],
        "apart": view.apart,
        "media": view.media,
    }


def answered(atlas: Atlas, what: str, asked: dict[str, Any], stopped: Stop) -> Iterator[bytes]:
    """The frames that answer a question.

    Raises:
        OutOfRangeError: There is no such question, or what it is about is not there.
    """
    if what not in _ANSWERS:
        raise OutOfRangeError("explore: need a question of the page's; got another; reload the page.")
    yield from _ANSWERS[what](atlas, asked, stopped)


def _tiles(atlas: Atlas, asked: dict, stopped: Stop) -> Iterator[bytes]:
    name, reduce = Name.read(str(asked["map"])), _one_of(asked["reduce"], ("mean", "max", "sum"))
    for number, (down, across, row, column) in enumerate(_few(asked["tiles"], "tiles")):
        levels = (_level(down), _level(across))
        values = atlas.tile(name, reduce, levels, (_whole(row), _whole(column)), stopped)
        yield frame({"number": number}, {"values": values})


def _heads(atlas: Atlas, asked: dict, stopped: Stop) -> Iterator[bytes]:
    """The numbers of heads, and small maps of them."""
    for source, layer, head in _few(asked["heads"], "heads"):
        place = (_whole(source), _whole(layer), _whole(head))
        blocks, told = atlas.small(place, SMALL, stopped)
        view = atlas.views[place[0]]
        found = numbers(told, view.axes[view.layers[place[1]].keys].special)
        arrays = {"mean": blocks.values("mean"), "max": blocks.values("max")}
        yield frame({"head": list(place), "numbers": found}, arrays)


def _tracks(atlas: Atlas, asked: dict, stopped: Stop) -> Iterator[bytes]:
    name = Name.read(str(asked["map"]))
    told = atlas.told(name, stopped)
    arrays = {"received": told.received, "entropy": told.entropy, "largest": told.largest}
    if name.is_difference:
        arrays["divergence"] = places.divergence(atlas, name, stopped)
    yield frame({"map": asked["map"]}, arrays)


def _profile(atlas: Atlas, asked: dict, stopped: Stop) -> Iterator[bytes]:
    """All weights of one query, or on one key."""
    name, axis = Name.read(str(asked["map"])), _one_of(asked["axis"], ("query", "key"))
    values = places.line(atlas, name, axis, _whole(asked["at"]), stopped)
    yield frame({"axis": axis, "at": asked["at"]}, {"values": values})


def _cell(atlas: Atlas, asked: dict, stopped: Stop) -> Iterator[bytes]:
    """One weight, and its rank in its row."""
    name, query, key = Name.read(str(asked["map"])), _whole(asked["query"]), _whole(asked["key"])
    values = places.line(atlas, name, "query", query, stopped)
    if key >= len(values):
        raise OutOfRangeError(f"explore: need a key from 0 to {len(values) - 1}; got {key}; choose one.")
    masked = bool(np.isnan(values[key]))
    rank = 0 if masked else int((values > values[key]).sum()) + 1
    facts = {"query": query, "key": key, "weight": float(values[key]), "masked": masked, "rank": rank}
    yield frame({**facts, "of": int((~np.isnan(values)).sum())})


def _strongest(atlas: Atlas, asked: dict, stopped: Stop) -> Iterator[bytes]:
    found = places.strongest(
        atlas, Name.read(str(asked["map"])), min(_whole(asked.get("count", 20)), 100),
        _whole(asked.get("band", 2)), bool(asked.get("apart", True)), stopped,
    )  # fmt: skip
    yield frame({"places": [vars(place) for place in found]})


def _shares(atlas: Atlas, asked: dict, stopped: Stop) -> Iterator[bytes]:
    """The share of attention from band to band."""
    name = Name.read(str(asked["map"]))
    yield frame({"band": asked["band"]}, {"values": places.shares(atlas, name, str(asked["band"]), stopped)})


_ANSWERS = {
    "tiles": _tiles, "heads": _heads, "tracks": _tracks, "profile": _profile, "cell": _cell,
    "strongest": _strongest, "shares": _shares,
}  # fmt: skip


def _few(given: Any, what: str) -> list:
    if not isinstance(given, list) or len(given) > _MOST[what]:
        raise OutOfRangeError(f"explore: need at most {_MOST[what]} {what} at once; got others; ask for fewer.")
    return given


def _one_of(given: Any, known: tuple[str, ...]) -> str:
    if given not in known:
        raise OutOfRangeError(f"explore: need one of {', '.join(known)}; got another; choose one.")
    return str(given)


def _whole(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < 1 << 31:
        raise OutOfRangeError("explore: need a whole number from 0 on; got another; choose one.")
    return given


def _level(given: Any) -> int:
    level = _whole(given)
    if level > 24:
        raise OutOfRangeError(f"explore: need a level from 0 to 24; got {level}; choose one.")
    return level
