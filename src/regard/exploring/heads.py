"""One head's attention with NumPy's arrays, whatever framework it came from: which of its weights may be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from regard import _plan
from regard._backends import numpy as verbs
from regard._backends import to_numpy
from regard._blockwise import Block, in_parts, weights_of
from regard._compiled import store
from regard._compiled.units import Along
from regard._layout import Operand
from regard._problem import Problem
from regard._questions import Entropy, Tile
from regard._rules import Span
from regard.weights import AttentionWeights


class Head:
    """The rows of one head, `(T, S)`: of query, key and rules in the type that is computed in."""

    def __init__(self, weights: AttentionWeights) -> None:
        """Of weights `(T, S)`."""
        self.problem = in_numpy(weights._problem)
        self.queries, self.keys = self.problem.layout.queries, self.problem.layout.keys
        # Rules of models write "not seen" as the lowest number of their type, to which a score is added.
        given = self.problem.given
        self.lowest = 0.9 * float(np.finfo("float16" if given == "float16" else "float32").min)

    @property
    def dtype(self) -> Any:
        return np.dtype(self.problem.dtype)

    def lines(self, rows: range) -> slice:
        """Which lines of the log-sum-exp are of some rows."""
        return slice(rows.start, rows.stop)

    @property
    def compiled(self) -> bool:
        return store.installed() and store.ready(self.problem.dtype)

    def limits(self, start: int, size: int) -> _plan.Rows:
        """Which keys some rows may see at most, and whether a mask is within."""
        return _plan.seen_by(self.problem.layout, start, size, self.problem.scores.mask, self._known, 1)

    def ragged(self, rows: range, keys: range) -> int:
        """Before which of some keys all rows see all: where a mask follows the diagonal, but for as many as rows."""
        mask = self.problem.scores.mask
        first = max(keys.stop - len(rows), keys.start)
        span = Span(rows.start, rows.stop, self.problem.layout.shift, self.keys)
        return first if mask is not None and mask.full(span, (keys.start, first), self._known) else keys.start

    @cached_property
    def _known(self) -> list:
        leaves = self.problem.mask_leaves
        return _plan.shares_of(leaves, [leaf.array for leaf in leaves], ((0, 1),))

    @cached_property
    def _along(self) -> Along:
        operands = self.problem.operands
        return Along([each.array for each in operands], [each.axes for each in operands])

    def scores(self, rows: range, keys: range) -> tuple[np.ndarray, Any]:
        """Scores `(t, s)`, -inf where a mask is, and where they lie."""
        block = Block((0, 0, rows.start, keys.start), (1, 1, len(rows), len(keys)), True)
        given = self._along.cut(block)
        where = block.where(verbs, given[0], self.problem.layout.shift)
        with verbs.quiet():
            return self.problem.scores(verbs, given, where, True)[0, 0], where

    def weights(self, rows: range, keys: range, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights of some rows and keys, and which of them are seen, `(t, s)`."""
        scores, _ = self.scores(rows, keys)
        with verbs.quiet():
            found = weights_of(verbs, scores, parts[rows.start : rows.stop, None])
        return found, scores > self.lowest

    def complete(self, rows: range) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same of all keys; the log-sum-exp in parts `(t, 2)`, and the entropy `(t,)`."""
        scores, where = self.scores(rows, range(self.keys))
        left, given = None, self.problem.share
        if given is not None:
            left = np.broadcast_to(given.array, self.problem.rows_shape)[0, 0, rows.start : rows.stop]
        with verbs.quiet():
            tile = Tile.of(verbs, scores, where, left)
            parts = in_parts(verbs, tile.softmax.largest, tile.log_sum())[:, 0]
            return tile.weights, scores > self.lowest, parts, Entropy()(verbs, tile, ())[0][:, 0]


class Dense:
    """A head whose weights are all there, `(T, S)`: where one is 0, nothing is known to be seen."""

    compiled = False

    def __init__(self, weights: np.ndarray) -> None:
        self.queries, self.keys = weights.shape
        self.dtype = np.dtype(np.float64 if weights.dtype == np.float64 else np.float32)
        self._weights = weights

    def lines(self, rows: range) -> slice:
        return slice(rows.start, rows.stop)

    def weights(self, rows: range, keys: range, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self._weights[rows.start : rows.stop, keys.start : keys.stop].astype(self.dtype)
        return found, found != 0

    def complete(self, rows: range) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        found, seen = self.weights(rows, range(self.keys), np.empty(0))
        entropy = -(found * np.log(np.where(seen, found, 1))).sum(-1)
        return found, seen, np.zeros((len(rows), 2), self.dtype), entropy


class Words:
    """A head between words, `(words, words)`: the sum over a word's keys of the mean over a word's queries."""

    compiled = False

    def __init__(self, head: Head | Dense | Words | Apart, queries: np.ndarray, keys: np.ndarray) -> None:
        """Of a head between tokens, and where words begin among queries and keys, with the end of the last."""
        self._head, self._starts = head, (queries, keys)
        self.queries, self.keys = len(queries) - 1, len(keys) - 1
        self.dtype: np.dtype = head.dtype

    def lines(self, rows: range) -> slice:
        return self._head.lines(self._tokens(rows, 0))

    def weights(self, rows: range, keys: range, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self._head.weights(self._tokens(rows, 0), self._tokens(keys, 1), parts)
        return self._put_together(*found, rows, keys)

    def complete(self, rows: range) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        weights, seen, parts, _ = self._head.complete(self._tokens(rows, 0))
        weights, seen = self._put_together(weights, seen, rows, range(self.keys))
        return weights, seen, parts, -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1)

    def _tokens(self, words: range, axis: int) -> range:
        starts = self._starts[axis]
        return range(int(starts[words.start]), int(starts[words.stop]))

    def _put_together(
        self, weights: np.ndarray, seen: np.ndarray, rows: range, keys: range
    ) -> tuple[np.ndarray, np.ndarray]:
        """The words of tokens: their weights, and whether any of them is seen."""
        for axis, words in ((1, keys), (0, rows)):
            starts = self._starts[axis][words.start : words.stop] - self._starts[axis][words.start]
            weights, seen = np.add.reduceat(weights, starts, axis), np.logical_or.reduceat(seen, starts, axis)
        sizes = np.diff(self._starts[0][rows.start : rows.stop + 1])
        return weights / sizes[:, None].astype(self.dtype), seen


class Apart:
    """A head of pieces that are read apart: each attends within itself."""

    compiled = False

    def __init__(self, heads: list[Head]) -> None:
        self._heads, self.dtype = heads, heads[0].dtype
        self._starts = np.cumsum([0, *(head.queries for head in heads)]).tolist()
        self.queries = self.keys = self._starts[-1]

    def lines(self, rows: range) -> slice:
        return slice(rows.start, rows.stop)

    def weights(self, rows: range, keys: range, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, seen = np.zeros((len(rows), len(keys)), self.dtype), np.zeros((len(rows), len(keys)), bool)
        for head, start, stop in zip(self._heads, self._starts, self._starts[1:], strict=False):
            down, across = (range(max(span.start, start), min(span.stop, stop)) for span in (rows, keys))
            if down and across:
                there = _within(down, rows.start), _within(across, keys.start)
                own, others = (range(span.start - start, span.stop - start) for span in (down, across))
                found[there], seen[there] = head.weights(own, others, parts[start:stop])
        return found, seen

    def complete(self, rows: range) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        found, seen = np.zeros((len(rows), self.keys), self.dtype), np.zeros((len(rows), self.keys), bool)
        parts, entropy = np.zeros((len(rows), 2), self.dtype), np.zeros(len(rows), self.dtype)
        for head, start, stop in zip(self._heads, self._starts, self._starts[1:], strict=False):
            if down := range(max(rows.start, start), min(rows.stop, stop)):
                there = _within(down, rows.start)
                own = head.complete(range(down.start - start, down.stop - start))
                found[there, start:stop], seen[there, start:stop], parts[there], entropy[there] = own
        return found, seen, parts, entropy


def _within(span: range, start: int) -> slice:
    return slice(span.start - start, span.stop - start)


AnyHead = Head | Dense | Words | Apart


@dataclass(frozen=True)
class Worded:
    """The weights of a layer between words, of which there are no arrays.

    Attributes:
        shape: heads, words that attend and words attended to.
        heads: gives a head between tokens by its number.
        starts: where words begin among queries and keys, with the end of the last.
    """

    shape: tuple[int, int, int]
    heads: Callable[[int], AnyHead]
    starts: tuple[np.ndarray, np.ndarray]

    def head(self, number: int) -> Words:
        return Words(self.heads(number), *self.starts)


@dataclass(frozen=True)
class Pieced:
    """The weights of a layer over pieces that are read apart, `(H, t, t)` of each."""

    pieces: list[AttentionWeights]

    @property
    def shape(self) -> tuple[int, int, int]:
        length = sum(int(weights.shape[-1]) for weights in self.pieces)
        return int(self.pieces[0].shape[0]), length, length

    def head(self, number: int) -> Apart:
        return Apart([Head(weights[number]) for weights in self.pieces])


def pieced(pieces: list[AttentionWeights]) -> AttentionWeights | Pieced:
    """The weights of a layer over a text that was read at once or in pieces."""
    return pieces[0] if len(pieces) == 1 else Pieced(pieces)


def in_numpy(problem: Problem) -> Problem:
    """The same problem with arrays of NumPy."""

    def moved(operand: Operand) -> Operand:
        array = to_numpy(operand.array)
        return Operand(array if array.dtype.kind in "biu" else array.astype(problem.dtype, copy=False), operand.axes)

    return replace(
        problem,
        xp=verbs,
        query=moved(problem.query),
        key=moved(problem.key),
        leaves=tuple(map(moved, problem.leaves)),
        share=None if problem.share is None else moved(problem.share),
    )
