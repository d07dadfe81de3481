"""What is asked of a map beside its tiles: one row or column, the strongest places, shares from band to band."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from regard.errors import OutOfRangeError
from regard.exploring import maps
from regard.exploring.atlas import Atlas, Name, hide

_AT_ONCE = 1 << 21  # weights
_GAP = 2  # how far apart two weights of one block may be


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


@dataclass(frozen=True)
class Place:
    """A block of strong weights.

    Attributes:
        query, key: Where its largest weight is.
        weight: That weight.
        queries, keys: Its extent: the first, and the one behind the last.
        count: How many weights are in it; others within its extent may not be.
        total: Their sum.
    """

    query: int
    key: int
    weight: float
    queries: tuple[int, int]
    keys: tuple[int, int]
    count: int
    total: float


def strongest(atlas: Atlas, name: Name, count: int, band: int, apart: bool, stopped: Callable[[], bool]) -> list[Place]:
    """The strongest blocks, the one with the largest weight first.

    A block is the largest weight that is in none before it, with all that are at least half as large, of its sign, and
    touch it or one another, directly or with one weight between. Those within `band` positions of the diagonal are in
    none, nor with `apart` the keys that are set apart. The largest weight of each rectangle of a 256th of a side says
    where to look; there each weight is looked at.
    """
    search = _Search(atlas, Name(name.heads, apart), band, stopped)
    found: list[Place] = []
    while len(found) < count and (place := search.next()):
        found.append(place)
    return found


class _Search:
    """What is left to find of a map: for each rectangle a number that no weight left in it is larger than."""

    def __init__(self, atlas: Atlas, name: Name, band: int, stopped: Callable[[], bool]) -> None:
        self.atlas, self.name, self.band, self.stopped = atlas, name, band, stopped
        self.queries, self.keys = atlas.shape(name)
        levels = maps.base(self.queries, maps.SIDE), maps.base(self.keys, maps.SIDE)
        self.height, self.width = 1 << levels[0], 1 << levels[1]
        blocks = atlas.blocks(name, range(self.queries), range(self.keys), levels, True, stopped)
        self.bounds = np.nan_to_num(np.abs(blocks.maxima))
        self.taken: list[tuple[range, range, np.ndarray]] = []

    def next(self) -> Place | None:
        """The block of the largest weight that is left."""
        known: tuple[int, int, float] | None = None  # in the rectangle that was looked at last
        while (bound := self.bounds.max(initial=0)) > 0:
            maps.require_waiting(self.stopped)
            if known is not None and abs(known[2]) >= bound:
                return self._around(*known)
            row, column = divmod(int(self.bounds.argmax()), self.bounds.shape[1])
            rows = range(row * self.height, min((row + 1) * self.height, self.queries))
            columns = range(column * self.width, min((column + 1) * self.width, self.keys))
            weights = self._left(rows, columns)
            best = int(np.abs(weights).argmax())
            query, key = best // len(columns), best % len(columns)
            self.bounds[row, column] = abs(weights[query, key])
            known = rows[query], columns[key], float(weights[query, key])
        return None

    def _left(self, rows: range, columns: range) -> np.ndarray:
        """The weights that may begin a block; 0 for others."""
        weights, _ = cells(self.atlas, self.name, rows, columns, self.stopped)
        weights = np.where(_distances(rows, columns, self.queries, self.keys) > self.band, np.nan_to_num(weights), 0)
        for above, left, within in self.taken:
            down, across = _shared(rows, above), _shared(columns, left)
            if down and across:
                here = weights[_within(down, rows), _within(across, columns)]
                here[within[_within(down, above), _within(across, left)]] = 0
        return weights

    def _around(self, query: int, key: int, weight: float) -> Place:
        """The block of a weight, in a window that grows as long as the block comes to its edge."""
        spans = [_window(query, query + 1, self.queries), _window(key, key + 1, self.keys)]
        while True:
            weights = self._left(*spans)
            strong = weights * np.sign(weight) >= abs(weight) / 2
            block = _connected(strong, query - spans[0].start, key - spans[1].start)
            extents = [_extent(block.any(axis), span) for axis, span in zip((1, 0), spans, strict=True)]
            wider = [
                _window(extent.start, extent.stop, most) if _at_edge(extent, span, most) else span
                for extent, span, most in zip(extents, spans, (self.queries, self.keys), strict=True)
            ]
            if wider == spans or len(wider[0]) * len(wider[1]) > _AT_ONCE:
                break
            spans = wider
        rows, columns = extents
        total = float(weights[block].sum(dtype=np.float64))
        block = block[_within(rows, spans[0]), _within(columns, spans[1])]
        self.taken.append((rows, columns, block))
        extent = (rows.start, rows.stop), (columns.start, columns.stop)
        return Place(query, key, weight, *extent, int(block.sum()), total)


def _shared(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))


def _within(part: range, span: range) -> slice:
    return slice(part.start - span.start, part.stop - span.start)


def _window(start: int, stop: int, most: int) -> range:
    """A span with as much around it again, of an axis."""
    around = max(stop - start, 16)
    return range(max(start - around, 0), min(stop + around, most))


def _extent(there: Any, span: range) -> range:
    places = np.flatnonzero(there)
    return range(span.start + int(places[0]), span.start + int(places[-1]) + 1)


def _at_edge(extent: range, span: range, most: int) -> bool:
    """Whether more of a block may be beyond a window."""
    return 0 < span.start >= extent.start - _GAP or most > span.stop <= extent.stop - 1 + _GAP


def _connected(strong: np.ndarray, row: int, column: int) -> np.ndarray:
    """What can be reached from a place by steps to what is strong, over at most one weight that is not."""
    wide = np.zeros(np.add(strong.shape, 1), bool)  # twice as high and wide, what is two apart touches
    for down in (0, 1):
        for across in (0, 1):
            wide[down : down + strong.shape[0], across : across + strong.shape[1]] |= strong
    numbers, _ = ndimage.label(wide, np.ones((3, 3), bool))
    return strong & (numbers[:-1, :-1] == numbers[row, column])


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
