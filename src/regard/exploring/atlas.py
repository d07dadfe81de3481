"""The maps of what is explored, by name, in memory that is bounded in bytes.

A name is heads with signs, each `source.layer.head`: `0.3.5`, the mean `0.3.5+0.3.6`, the difference `0.3.5-1.3.5` (of
the means of both sides); behind it may stand `~distance` (relative to the mean at each distance: divided by it, of a
difference less it) and `~apart` (without the keys that are set apart).
"""

from __future__ import annotations

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.errors import OutOfRangeError
from regard.exploring import maps
from regard.exploring.heads import AnyHead
from regard.exploring.maps import SIDE, Blocks, Levels, Told, never
from regard.exploring.views import View
from regard.exploring.wording import in_words

_NAME = re.compile(r"(\d{1,2}\.\d{1,4}\.\d{1,4}(?:[+-]\d{1,2}\.\d{1,4}\.\d{1,4}){0,1023})(~apart)?(~distance)?")
MEMORY = 192 << 20
"""Bytes of maps that are kept."""


@dataclass(frozen=True)
class Name:
    """What a map is of: heads with the shares that they have in it."""

    heads: tuple[tuple[float, tuple[int, int, int]], ...]
    apart: bool = False
    distance: bool = False

    @property
    def is_difference(self) -> bool:
        return any(share < 0 for share, _ in self.heads)

    @classmethod
    def read(cls, text: str) -> Name:
        """Raise OutOfRangeError for what is no name of a map."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise OutOfRangeError("explore: need the name of a map such as 0.3.5; got another; choose a head.")
        signed = re.findall(r"([+-]?)(\d+)\.(\d+)\.(\d+)", found[1])
        counts = {sign: sum((each[0] == "-") == sign for each in signed) for sign in (False, True)}
        heads = tuple(
            ((-1 if sign == "-" else 1) / counts[sign == "-"], (int(source), int(layer), int(head)))
            for sign, source, layer, head in signed
        )
        return cls(heads, bool(found[2]), bool(found[3]))


class Kept:
    """What was computed last, within so many bytes."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        with self._lock:
            self.bytes -= self._kept.pop(key, (None, 0))[1]
            self._kept[key] = value, size
            self.bytes += size
            while self.bytes > self.most and len(self._kept) > 1:
                self.bytes -= self._kept.popitem(last=False)[1][1]


class Atlas:
    """The maps of one or two views of the same input; behind these, the same views by words."""

    def __init__(self, views: Sequence[View], memory: int = MEMORY, words: bool = False) -> None:
        """`words`: whether a page begins with words instead of their tokens."""
        self.views, self.given = [*views, *in_words(views)], len(views)
        self.begin = {"words": "true"} if words and len(self.views) > self.given else {}
        self._kept = Kept(memory)
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._kept.bytes

    def head(self, place: tuple[int, int, int]) -> AnyHead:
        source, layer, head = place
        if source >= len(self.views):
            raise OutOfRangeError(f"explore: need a source from 0 to {len(self.views) - 1}; got {source}; choose one.")
        return self.views[source].head(layer, head)

    def shape(self, name: Name) -> tuple[int, int]:
        """Queries and keys of a map, whose heads must all have as many."""
        found = {self.views[place[0]].shape(place[1], place[2]) for _, place in name.heads if self.head(place)}
        if len(found) != 1:
            raise OutOfRangeError(f"explore: need heads of one shape; got {sorted(found)}; choose others.")
        return found.pop()

    def base(self, name: Name) -> Levels:
        queries, keys = self.shape(name)
        return maps.base(queries), maps.base(keys)

    def whole(self, place: tuple[int, int, int], stopped: Callable[[], bool] = never) -> tuple[Blocks, Told]:
        """A head's map at its base, and what its rows tell."""
        with self._one_at_a_time(place):
            found = self._kept.get(place)
            if found is None:
                head = self.head(place)
                found = maps.first_pass(head, (maps.base(head.queries), maps.base(head.keys)), stopped)
                self._kept.put(place, found, found[0].nbytes + found[1].nbytes)
            return found

    def small(self, place: tuple[int, int, int], side: int, stopped: Callable[[], bool] = never) -> tuple[Blocks, Told]:
        """A head's map in at most `side` rectangles a side, and what its rows tell."""
        key = (place, "small")
        found = self._kept.get(key)
        if found is None:
            head = self.head(place)
            levels = maps.base(head.queries, side), maps.base(head.keys, side)
            whole = self._kept.get(place)
            if whole is None:
                found = maps.first_pass(head, levels, stopped)
            else:
                least = maps.base(head.queries), maps.base(head.keys)
                by = levels[0] - least[0], levels[1] - least[1]
                found = maps.coarser(whole[0], by), whole[1]
            self._kept.put(key, found, found[0].nbytes + found[1].nbytes)
        return found

    def apart(self, name: Name) -> list[int]:
        """The keys that are set apart in a map that says so."""
        return self.views[name.heads[0][1][0]].apart

    def bands(self, name: Name, band: str, axis: int) -> list[tuple[str, int, int]]:
        """The parts of queries (0) or keys (1), such as sentences."""
        source, layer, _ = name.heads[0][1]
        view = self.views[source]
        found = view.axes[(view.layers[layer].queries, view.layers[layer].keys)[axis]].bands
        if band not in found:
            raise OutOfRangeError(f"explore: need bands of the input, one of {sorted(found)}; got another; choose one.")
        return found[band]

    def _one_at_a_time(self, key: Hashable) -> threading.Lock:
        with self._lock:
            return self._making.setdefault(key, threading.Lock())

    def told(self, name: Name, stopped: Callable[[], bool] = never) -> Told:
        """What rows tell, the mean of the heads; their difference."""
        if len(name.heads) == 1:
            return self.whole(name.heads[0][1], stopped)[1]
        fields = Told.__dataclass_fields__
        total: dict[str, Any] = dict.fromkeys(fields, 0.0)
        for share, place in name.heads:
            told = self.whole(place, stopped)[1]
            with np.errstate(invalid="ignore"):  # of a row that sees nothing, a log-sum-exp of -inf
                total = {each: total[each] + share * getattr(told, each) for each in fields}
        return Told(**total)

    def tile(
        self, name: Name, reduce: str, levels: Levels, place: tuple[int, int], stopped: Callable[[], bool] = never
    ) -> np.ndarray:
        """The values of one tile of 256 x 256 rectangles, less at the map's end; NaN where all is masked."""
        queries, keys = self.shape(name)
        spans = [
            range(number * SIDE << level, min((number + 1) * SIDE << level, size))
            for number, level, size in zip(place, levels, (queries, keys), strict=True)
        ]
        if not all(map(len, spans)):
            raise OutOfRangeError(f"explore: need a tile of the map {queries} x {keys}; got {place} of level {levels}.")
        found = self.blocks(name, spans[0], spans[1], levels, reduce == "max", stopped)
        values = found.values(reduce)
        if name.distance:
            told = self.told(name, stopped)
            expected = expected_sums(told.distances, (queries, keys), spans[0], spans[1], levels)
            values = _beyond(found, expected, name.is_difference)
        return np.ascontiguousarray(values, np.float32)

    def blocks(
        self, name: Name, rows: range, keys: range, levels: Levels, largest: bool = True,
        stopped: Callable[[], bool] = never,
    ) -> Blocks:  # fmt: skip
        """The rectangles of a level that some rows and keys, from a rectangle's first on, are in."""
        apart = self.apart(name) if name.apart else []
        if len(name.heads) == 1:
            return self._of_head(name.heads[0][1], rows, keys, levels, apart, stopped)
        sums: Any = np.zeros((1, 1), np.float32)
        seen = cells = sums
        for share, place in name.heads:  # one after the other: a mean may be of all heads of a model
            found = self._of_head(place, rows, keys, levels, apart, stopped)
            sums, seen, cells = sums + share * found.sums, np.maximum(seen, found.seen), found.cells
        maxima = sums / cells
        if largest and any(levels):
            maxima = self._extremes(name, rows, keys, levels, apart, stopped)
        return Blocks(sums, maxima, seen, cells)

    def _of_head(
        self, place: tuple[int, int, int], rows: range, keys: range, levels: Levels, apart: Sequence[int], stopped: Any
    ) -> Blocks:
        blocks, told = self.whole(place, stopped)
        head = self.head(place)
        least = maps.base(head.queries), maps.base(head.keys)
        if levels[0] >= least[0] and levels[1] >= least[1]:
            found = self._coarse(place, blocks, (levels[0] - least[0], levels[1] - least[1]))
            down, across = (
                slice(each.start >> level, -(-each.stop >> level))
                for each, level in zip((rows, keys), levels, strict=True)
            )
            found = found.part(down, across)
        else:
            found = maps.region(head, rows, keys, levels, told.parts, stopped)
        return without(head, found, rows, keys, levels, told.parts, apart) if apart else found

    def _coarse(self, place: tuple[int, int, int], blocks: Blocks, by: Levels) -> Blocks:
        if by == (0, 0):
            return blocks
        found = self._kept.get((place, by))
        if found is None:
            found = maps.coarser(blocks, by)
            self._kept.put((place, by), found, found.nbytes)
        return found

    def _extremes(
        self, name: Name, rows: range, keys: range, levels: Levels, apart: Sequence[int], stopped: Any
    ) -> np.ndarray:
        """Of a mean the largest weight in each rectangle, of a difference the one farthest from 0."""
        heads = [(share, self.head(place), self.whole(place, stopped)[1].parts) for share, place in name.heads]
        across = np.arange(0, len(keys), 1 << levels[1])
        found = []
        for piece in maps.pieces(rows, 1 << levels[0], len(keys)):
            maps.require_waiting(stopped)
            weights = added(share * head.weights(piece, keys, parts)[0] for share, head, parts in heads)
            hide(weights, keys, apart)
            starts = np.arange(0, len(piece), 1 << levels[0])
            high = np.maximum.reduceat(np.maximum.reduceat(weights, starts, 0), across, 1)
            low = np.minimum.reduceat(np.minimum.reduceat(weights, starts, 0), across, 1)
            found.append(np.where(-low > high, low, high))
        return np.concatenate(found)


def _beyond(found: Blocks, expected: np.ndarray, is_difference: bool) -> np.ndarray:
    """How many times as much as distance gives; of a difference, how much more, in the mean: it may be 0 there."""
    means = found.values("mean")
    if is_difference:
        return np.where(np.isfinite(means), (found.sums - expected) / found.cells, means)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isnan(means), np.nan, np.where(expected > 0, found.sums / expected, 0))


def added(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Their sum, with no more than two of them at a time."""
    return functools.reduce(np.add, arrays)


def hide(weights: np.ndarray, keys: range, apart: Sequence[int]) -> None:
    for key in apart:
        if key in keys:
            weights[:, key - keys.start] = 0


def without(
    head: AnyHead, found: Blocks, rows: range, keys: range, levels: Levels, parts: np.ndarray, apart: Sequence[int]
) -> Blocks:
    """The same rectangles without the weights of some keys: those that hold such a key are computed again."""
    step, heights = 1 << levels[1], 1 << levels[0]
    found = Blocks(*(array.copy() for array in found))
    for column in sorted({(key - keys.start) // step for key in apart if key in keys}):
        own = range(keys.start + column * step, min(keys.start + (column + 1) * step, keys.stop))
        at = 0
        for piece in maps.pieces(rows, heights, len(own)):
            weights, seen = head.weights(piece, own, parts)
            hide(weights, own, apart)
            hide(seen, own, apart)
            starts = np.arange(0, len(piece), heights)
            there = slice(at, at + len(starts))
            found.sums[there, column] = np.add.reduceat(weights.sum(1), starts)
            found.maxima[there, column] = np.maximum.reduceat(weights.max(1), starts)
            found.seen[there, column] = np.add.reduceat(seen.sum(1), starts)
            at += len(starts)
    return found


def expected_sums(
    distances: np.ndarray, shape: tuple[int, int], rows: range, keys: range, levels: Levels
) -> np.ndarray:
    """What the rectangles would sum to if each weight were the mean of all at its distance."""
    queries, total = shape
    offsets = np.arange(1 - queries, total)
    count = np.minimum(np.minimum(offsets, 0) + queries, total - np.maximum(offsets, 0))
    low, high = keys.start - (rows.stop - 1), keys.stop - rows.start  # of keys less queries, within these
    first = low + queries - 1
    means = (distances / count)[first : first + high - low]
    once = np.concatenate([[0], np.cumsum(means)])
    twice = np.concatenate([[0], np.cumsum(once)])
    above, left = (
        np.append(np.arange(each.start, each.stop, 1 << level), each.stop)
        for each, level in zip((rows, keys), levels, strict=True)
    )
    # Over rows r and keys k below: the sum of means up to k - r, summed over the rows once more.
    corner = twice[np.clip(left[None, :] - above[:, None] - low + 1, 0, len(twice) - 1)]
    return corner[:-1, 1:] - corner[:-1, :-1] - corner[1:, 1:] + corner[1:, :-1]
