"""What is asked of a map beside its tiles: one row or column, the strongest places, shares from band to band."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from regard.errors import OutOfRangeError
from regard.exploring import maps
from regard.exploring.atlas import Atlas, Name, hide

_AT_ONCE = 1 << 21  # weights


def line(atlas: Atlas, name: Name, axis: str, at: int, stopped: Callable[[], bool]) -> np.ndarray:
    """All weights of one query, `(S,)`, or on one key, `(T,)`; NaN where masked."""
    queries, keys = atlas.shape(name)
    most = queries if axis == "query" else keys
    if at >= most:
        raise OutOfRangeError(f"explore: need a {axis} from 0 to {most - 1}; got {at}; choose one.")
    rows = range(at, at + 1) if axis == "query" else range(queries)
    columns = range(keys) if axis == "query" else range(at, at + 1)
    weights, seen = cells(atlas, name, rows, columns, stopped)
    return np.where(seen, weights, math.nan).reshape(-1)


def cells(
    atlas: Atlas, name: Name, rows: range, keys: range, stopped: Callable[[], bool]
) -> tuple[np.ndarray, np.ndarray]:
    """The weights of some rows and keys, and which are seen."""
    weights: Any = np.zeros((len(rows), len(keys)), np.float32)
    seen: Any = np.zeros((len(rows), len(keys)), bool)
    for share, place in name.heads:
        here, there = atlas.head(place).weights(rows, keys, atlas.whole(place, stopped)[1].parts)
        weights, seen = weights + share * here, seen | there
    if name.apart:
        for array in (weights, seen):
            hide(array, keys, atlas.apart(name))
    return weights, seen


def strongest(
    atlas: Atlas, name: Name, count: int, band: int, apart: bool, stopped: Callable[[], bool]
) -> list[tuple[int, int, float]]:
    """The largest weights, at most one in each rectangle of a 256th of the map: query, key and weight, largest first.

    Those within `band` positions of the diagonal are left out, and with `apart` the keys that are set apart. The
    largest weight of each rectangle says where to look; within it each weight is looked at.
    """
    name = Name(name.heads, apart)
    queries, keys = atlas.shape(name)
    levels = maps.base(queries, maps.SIDE), maps.base(keys, maps.SIDE)
    height, width = 1 << levels[0], 1 << levels[1]
    largest = np.abs(atlas.blocks(name, range(queries), range(keys), levels, True, stopped).maxima)
    found: list[tuple[int, int, float]] = []
    for place in np.argsort(-largest, axis=None, kind="stable"):
        row, column = divmod(int(place), largest.shape[1])
        maps.require_waiting(stopped)
        if (len(found) >= count and largest[row, column] <= abs(found[count - 1][2])) or not largest[row, column]:
            break
        rows = range(row * height, min((row + 1) * height, queries))
        columns = range(column * width, min((column + 1) * width, keys))
        away = _distances(rows, columns, queries, keys)
        if away.max() <= band:
            continue
        weights, _ = cells(atlas, name, rows, columns, stopped)
        size = np.where(away > band, np.abs(weights), 0)
        best = int(size.argmax())
        query, key = best // len(columns), best % len(columns)
        if size[query, key] > 0:
            found.append((rows[query], columns[key], float(weights[query, key])))
            found.sort(key=lambda each: (-abs(each[2]), each[0], each[1]))
    return found[:count]


def _distances(rows: range, columns: range, queries: int, keys: int) -> np.ndarray:
    return np.abs(np.arange(columns.start, columns.stop) - np.arange(rows.start, rows.stop)[:, None] - (keys - queries))


def divergence(atlas: Atlas, name: Name, stopped: Callable[[], bool]) -> np.ndarray:
    """The Jensen-Shannon divergence of each row between the two sides of a difference, in nats, `(T,)`."""
    queries, keys = atlas.shape(name)
    found = np.zeros(queries)
    sides = [Name(tuple((abs(s), p) for s, p in name.heads if (s < 0) == sign)) for sign in (False, True)]
    for rows in _rows(queries, keys):
        one, two = (cells(atlas, side, rows, range(keys), stopped)[0].astype(np.float64) for side in sides)
        middle = (one + two) / 2
        found[rows.start : rows.stop] = (_entropy(middle) - (_entropy(one) + _entropy(two)) / 2).clip(min=0)
        maps.require_waiting(stopped)
    return found


def _entropy(weights: np.ndarray) -> Any:
    return -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1)


def _rows(queries: int, keys: int) -> Iterator[range]:
    height = max(_AT_ONCE // max(keys, 1), 1)
    for start in range(0, queries, height):
        yield range(start, min(start + height, queries))


def shares(atlas: Atlas, name: Name, band: str, stopped: Callable[[], bool]) -> np.ndarray:
    """The mean share of attention that the queries of each part give to the keys of each, `(parts, parts)`."""
    queries, keys = atlas.shape(name)
    of_queries, of_keys = (atlas.bands(name, band, axis) for axis in (0, 1))
    given = np.zeros((len(of_queries), len(of_keys)))
    owner = np.full(keys, -1)
    for number, (_, start, stop) in enumerate(of_keys):
        owner[start:stop] = number
    into = (owner[:, None] == np.arange(len(of_keys))).astype(np.float32)
    for rows in _rows(queries, keys):
        mass = cells(atlas, name, rows, range(keys), stopped)[0] @ into
        for number, (_, start, stop) in enumerate(of_queries):
            low, high = max(start, rows.start), min(stop, rows.stop)
            if low < high:
                given[number] += mass[low - rows.start : high - rows.start].sum(0)
        maps.require_waiting(stopped)
    return given / np.array([max(stop - start, 1) for _, start, stop in of_queries])[:, None]
