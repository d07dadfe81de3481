"""Exact maps of attention at any zoom: sums, largest weights and counts of rectangles of weights.

A level `(k, l)` has rectangles of 2^k queries and 2^l keys, cut off at the map's end. The *base* is the finest level of
which a whole map has at most 2,048 rectangles a side: one pass over the scores makes it, and with it the log-sum-exp
of each row, entropy, what keys receive and the weights of each distance. Coarser levels are put together from it; a
tile of a finer one computes its own rows and keys only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regard.exploring.heads import AnyHead, Head

MOST = 2048
"""Rectangles a side that a whole map is kept in."""
SIDE = 256
"""Rectangles a side of a tile."""
_PIECE = 1 << 20  # weights that are made at once without the loops

Levels = tuple[int, int]


class StoppedError(Exception):
    """Nobody waits for the map any more."""


class Blocks(NamedTuple):
    """Rectangles of weights, each array `(rows, columns)`.

    Attributes:
        sums: of the weights.
        maxima: the largest weight, 0 where none is seen.
        seen: how many are not masked.
        cells: how many there are.
    """

    sums: np.ndarray
    maxima: np.ndarray
    seen: np.ndarray
    cells: np.ndarray

    def values(self, reduce: str) -> np.ndarray:
        """The mean, largest or sum of each; NaN where all is masked, infinity where something is not finite."""
        found = {"mean": self.sums / self.cells, "max": self.maxima, "sum": self.sums}[reduce]
        found = np.where(np.isfinite(self.sums), found, math.inf)
        return np.where(self.seen > 0, found, math.nan).astype(np.float32)

    def part(self, rows: slice, columns: slice) -> Blocks:
        return Blocks(*(array[rows, columns] for array in self))

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self)


@dataclass(frozen=True)
class Told:
    """What complete rows tell.

    Attributes:
        parts: the log-sum-exp, see `_blockwise.in_parts`, `(T, 2)`; of words, of each of their tokens.
        entropy, largest: of each query, `(T,)`.
        received: of each key, `(S,)`.
        distances: the weights of each distance, `(T + S - 1,)`; that of the first key to the last query first.
    """

    parts: np.ndarray
    entropy: np.ndarray
    largest: np.ndarray
    received: np.ndarray
    distances: np.ndarray

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values())

    @classmethod
    def nothing(cls, head: AnyHead) -> Told:
        entropy, largest = np.zeros((2, head.queries), head.dtype)
        distances = np.zeros(head.queries + head.keys - 1)
        lines = head.lines(range(head.queries)).stop
        return cls(np.zeros((lines, 2), head.dtype), entropy, largest, np.zeros(head.keys), distances)


def never() -> bool:
    return False


def require_waiting(stopped: Callable[[], bool]) -> None:
    """Raise StoppedError where nobody waits any more."""
    if stopped():
        raise StoppedError("explore: need somebody who waits; got none; ask again.")


def base(size: int, most: int = MOST) -> int:
    """The finest level of which an axis has at most `most` rectangles."""
    return max(math.ceil(math.log2(max(size, 1) / most)), 0)


def first_pass(head: AnyHead, levels: Levels, stopped: Callable[[], bool] = never) -> tuple[Blocks, Told]:
    """The whole map at a level, and what its rows tell."""
    told = Told.nothing(head)
    return _computed(head, range(head.queries), range(head.keys), levels, told, None, stopped), told


def region(
    head: AnyHead, rows: range, keys: range, levels: Levels, parts: np.ndarray, stopped: Callable[[], bool] = never
) -> Blocks:
    """The rectangles of a level that some rows and keys, from a rectangle's first on, are in."""
    return _computed(head, rows, keys, levels, None, parts, stopped)


def _computed(
    head: AnyHead, rows: range, keys: range, levels: Levels, told: Told | None, parts: np.ndarray | None,
    stopped: Callable[[], bool],
) -> Blocks:  # fmt: skip
    steps = (1 << levels[0], 1 << levels[1])
    found = _empty(head.dtype, rows, keys, steps)
    if isinstance(head, Head) and head.compiled and len(rows) and len(keys):
        from regard._compiled import rectangles

        job = rectangles.Job(head.problem, rows, keys, steps, head.limits, head.ragged, head.lowest, parts)
        rectangles.evaluate(job, found[:3], told, stopped)
    else:
        _by_pieces(head, rows, keys, steps, found, told, parts, stopped)
    require_waiting(stopped)
    return found


def _empty(dtype: np.dtype, rows: range, keys: range, steps: tuple[int, int]) -> Blocks:
    heights, widths = (_sizes(each, step) for each, step in zip((rows, keys), steps, strict=True))
    shape = (len(heights), len(widths))
    cells = np.multiply.outer(heights, widths).astype(np.float32)
    sums, maxima, seen = np.zeros((3, *shape), dtype)
    return Blocks(sums, maxima, seen, cells)


def _sizes(along: range, step: int) -> np.ndarray:
    """How many positions each rectangle has."""
    starts = np.arange(along.start // step * step, along.stop, step)
    return np.minimum(starts + step, along.stop) - np.maximum(starts, along.start)


def _by_pieces(
    head: AnyHead, rows: range, keys: range, steps: tuple[int, int], found: Blocks, told: Told | None,
    parts: np.ndarray | None, stopped: Callable[[], bool],
) -> None:  # fmt: skip
    """The same without the loops: whole rows of rectangles, some of them at a time."""
    across = np.arange(keys.start // steps[1] * steps[1], keys.stop, steps[1])
    across = np.maximum(across - keys.start, 0)
    for piece in pieces(rows, steps[0], len(keys)):
        if stopped():
            return
        if told is None:
            assert parts is not None
            weights, seen = head.weights(piece, keys, parts)
        else:
            weights, seen, *alongside = head.complete(piece)
            _tell(told, piece, head.lines(piece), weights, *alongside)
        starts = np.maximum(np.arange(piece.start // steps[0] * steps[0], piece.stop, steps[0]) - piece.start, 0)
        first = piece.start // steps[0] - rows.start // steps[0]
        into = slice(first, first + len(starts))
        for array, reduce, given in zip(
            found, (np.add, np.maximum, np.add), (weights, weights, seen.astype(head.dtype)), strict=False
        ):
            array[into] = reduce.reduceat(reduce.reduceat(given, starts, 0), across, 1)


def pieces(rows: range, step: int, width: int) -> Iterator[range]:
    height = max(_PIECE // max(width, 1) // step, 1) * step
    for start in range(rows.start // step * step, rows.stop, height):
        yield range(max(start, rows.start), min(start + height, rows.stop))


def _tell(told: Told, rows: range, lines: slice, weights: np.ndarray, parts: np.ndarray, entropy: np.ndarray) -> None:
    there = slice(rows.start, rows.stop)
    told.parts[lines], told.entropy[there] = parts, entropy
    told.largest[there] = weights.max(-1)
    told.received[:] += weights.sum(0, dtype=np.float64)
    first = len(told.largest) - 1 - rows.start
    for number, row in enumerate(weights):
        told.distances[first - number : first - number + len(row)] += row


def coarser(blocks: Blocks, by: Levels) -> Blocks:
    """Rectangles put together, 2^k by 2^l of them."""
    found = list(blocks)
    for axis, several in enumerate(by):
        if several:
            starts = np.arange(0, found[0].shape[axis], 1 << several)
            found = [
                reduce.reduceat(array, starts, axis)
                for array, reduce in zip(found, (np.add, np.maximum, np.add, np.add), strict=True)
            ]
    return Blocks(*found)
