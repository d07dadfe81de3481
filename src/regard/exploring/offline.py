"""One page that brings its maps with it and needs no server: all heads, each as fine as there is room."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from regard._files import whole
from regard.errors import TooLargeError
from regard.exploring import maps
from regard.exploring.answers import about, finite
from regard.exploring.atlas import Atlas
from regard.exploring.views import View, numbers

MOST = 2048
"""Tokens of a page."""
ROOM = 24 << 20
"""Bytes of all its maps, before they are written as text."""
MODULES = (
    "words.js", "colour.js", "source.js", "tiles.js", "layout.js", "keep.js", "edges.js", "map.js", "overview.js",
    "asking.js", "media.js", "app.js", "offline.js", "packed.js",
)  # fmt: skip
_IMPORT = re.compile(r"^import [^;]*? from \"\./[\w.]+\";$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export (?:\{[^}]*\};?$|(?=(?:async )?(?:function|class|const)))", re.MULTILINE)


def write_page(views: Sequence[View], path: Path) -> None:
    """Write one page, whole or not at all.

    Raises:
        TooLargeError: More than 2,048 queries or keys.
    """
    page = render(views).encode("utf-8", "replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as aside:
        aside.write_bytes(page)


def render(views: Sequence[View]) -> str:
    """The page as HTML: it runs its own script and no other, and loads nothing."""
    packed = finite(_packed(views))
    leaflet, script = page_text("leaflet.js"), joined()
    hashes = " ".join(f"'sha256-{_hash(each)}'" for each in (leaflet, script))
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
    # "<" is written by its number: no text of the input can end the script that it stands in.
    data = json.dumps(packed, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Regard · explore</title>\n'
        f"<style>{page_text('leaflet.css')}</style>\n<style>{page_text('style.css')}</style>\n</head>\n<body>\n"
        f'<div id="explorer" data-packed="yes"></div>\n<script type="application/json" id="packed">{data}</script>\n'
        f'<script>{leaflet}</script>\n<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def page_text(name: str) -> str:
    """One of the page's files."""
    return (files("regard.exploring") / "page" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def joined(names: Sequence[str] = MODULES) -> str:
    """The page's modules as one script: each name is used once in all of them, so that imports can go."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", page_text(name))) for name in names)


def _packed(views: Sequence[View]) -> dict[str, Any]:
    atlas = Atlas(views)
    shapes = {tuple(map(int, layer.weights.shape[-2:])) for view in views for layer in view.layers}
    if max(max(shape) for shape in shapes) > MOST:
        raise TooLargeError(
            f"explore: need at most {MOST:,} tokens for a page without a server; got {max(map(max, shapes)):,}; leave "
            "out --output, or cut the text."
        )
    places = [
        (source, number, head)
        for source, view in enumerate(views)
        for number, layer in enumerate(view.layers)
        for head in range(int(layer.weights.shape[0]))
    ]
    side = _side(shapes, len(places))
    facts = {**about(atlas), "words": [], "begin": {}}
    for source, view in enumerate(views):
        for number, layer in enumerate(view.layers):
            levels = [maps.base(int(size), side) for size in layer.weights.shape[-2:]]
            facts["views"][source]["layers"][number]["least"] = levels
    heads = {".".join(map(str, place)): _head(atlas, place, side) for place in places}
    return {"facts": {**facts, "offline": True}, "heads": heads}


def _side(shapes: set[tuple[int, ...]], heads: int) -> int:
    """Rectangles a side that all heads have room for."""
    side = MOST
    while side > 64 and heads * max(min(side, rows) * min(side, keys) for rows, keys in shapes) * 4 > ROOM:
        side //= 2
    return side


def _head(atlas: Atlas, place: tuple[int, int, int], side: int) -> dict[str, Any]:
    source, layer, head = place
    blocks, told = atlas.small(place, side)
    view = atlas.views[source]
    queries, keys = view.shape(layer, head)
    levels = [maps.base(queries, side), maps.base(keys, side)]
    return {
        "shape": list(blocks.sums.shape),
        "cells": [queries, keys],
        "levels": levels,
        "mean": _halves(blocks.values("mean")),
        "max": _halves(blocks.values("max")) if any(levels) else None,
        "received": _halves(told.received),
        "entropy": _halves(told.entropy),
        "numbers": numbers(told, view.axes[view.layers[layer].keys].special),
    }


def _halves(array: np.ndarray) -> str:
    with np.errstate(over="ignore", under="ignore"):
        return base64.b64encode(np.ascontiguousarray(array, "<f2").tobytes()).decode("ascii")
