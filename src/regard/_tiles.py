"""Tiles of weights: of some queries and keys or of all, made as they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard._backends.protocol import Array
from regard._blockwise import Block, weights_of
from regard._indexing import taken
from regard._layout import Operand
from regard._problem import Problem
from regard._questions import Tile
from regard._rules import Where


@dataclass(frozen=True)
class Tiles:
    """Those of one attention; `parts` gives the log-sum-exp in two, see `_blockwise.in_parts`, where one needs it."""

    problem: Problem
    parts: Callable[[], Array]

    def points(self, rows: Any, columns: Any) -> Array:
        """One weight for each row and column, `(..., n)`: of small tiles around some of them at a time."""
        xp, at_once = self.problem.xp, 64
        pieces = []
        for start in range(0, max(len(rows), 1), at_once):
            some = slice(start, start + at_once)
            tile = self.tile(rows[some], columns[some])
            count = len(rows[some])
            flat = xp.reshape(tile, (*xp.shape(tile)[:-2], count * count))
            diagonal = (np.arange(count) * (count + 1)).astype(np.int32)
            pieces.append(xp.take(flat, xp.asarray(diagonal, flat), len(xp.shape(flat)) - 1))
        return pieces[0] if len(pieces) == 1 else xp.concatenate(pieces, -1)

    def tile(self, queries: Any, keys: Any) -> Array:
        """The weights of some queries and keys, numbers from 0; an axis of which a number is taken goes away."""
        xp, place = self.problem.xp, self.problem.layout
        rows, columns = (each if isinstance(each, range) else np.atleast_1d(each) for each in (queries, keys))
        operands = [taken(xp, operand, rows, columns) for operand in self.problem.operands]
        where = Where(
            self._places(rows)[:, None],
            self._places(columns)[None, :],
            place.shift,
            tuple((0, size) for size in (*place.lead, place.repeats)),
        )
        full = (*place.lead, place.repeats, len(rows), len(columns))
        complete = columns == range(place.keys) if isinstance(columns, range) else _is_all(columns, place.keys)
        along = self._beside(complete)
        along = None if along is None else taken(xp, along, rows, columns)
        found = self._evaluated(operands, along, where, full, complete)
        ends = ((len(each),) if isinstance(each, range) else np.shape(each) for each in (queries, keys))
        return place.to_caller(xp, found, tuple(itertools.chain(*ends)))

    def _places(self, chosen: np.ndarray | range) -> Array:
        """Positions as an array of the framework, int32."""
        xp, like = self.problem.xp, self.problem.query.array
        if isinstance(chosen, range) and chosen.step == 1:
            return xp.arange(chosen.start, len(chosen), like)
        return xp.asarray(np.asarray(chosen, np.int32), like)

    def everything(self) -> Array:
        """The tile that is everything, also where a graph knows sizes only as it runs."""
        xp, place = self.problem.xp, self.problem.layout
        operands = [operand.array for operand in self.problem.operands]
        where = Block((0,) * len(place.space), place.space, True).where(xp, operands[0], place.shift)
        along = self._beside(complete=True)
        found = self._evaluated(operands, None if along is None else along.array, where, place.space, complete=True)
        return place.to_caller(xp, found, (place.queries, place.keys))

    def _beside(self, complete: bool) -> Operand | None:
        """What a tile needs beside scores: of complete rows what sinks leave, of others their log-sum-exp in parts."""
        if complete and not self.problem.empty:
            return self.problem.share
        return self.problem.layout.operand(self.problem.xp, self.parts(), 1)

    def _evaluated(
        self, operands: Sequence[Array], along: Array | None, where: Where, sizes: tuple, complete: bool
    ) -> Array:
        xp = self.problem.xp
        with xp.quiet():
            scores = self.problem.scores(xp, operands, where, True)
            if complete and not self.problem.empty:
                weights = Tile.of(xp, scores, where, along).weights
            else:
                weights = weights_of(xp, scores, along)
        return xp.in_order(xp.broadcast_to(xp.cast(weights, self.problem.given), sizes))


def _is_all(chosen: np.ndarray, size: Any) -> bool:
    return len(chosen) == size and bool((chosen == np.arange(len(chosen))).all())
