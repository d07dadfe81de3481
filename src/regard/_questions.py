"""What can be asked of the weights: each question is a function of one tile, and says how tiles come together.

A question sees a tile of scores S and weights P = exp(S - L), complete along the keys that its queries may see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

from regard._backends.protocol import Array, Backend
from regard._blockwise import Attend, Output, Scores, Softmax, in_parts, product, softmax, weighted
from regard._layout import Layout
from regard._rules import Where


class TopK(NamedTuple):
    """The largest weights of each query, and the keys that have them: both `(..., H, T, k)`."""

    values: Array
    indices: Array


_LOWEST = -1e30  # a logarithm with which 0 log 0 is 0, not NaN


class Tile(NamedTuple):
    """Scores S, their softmax and weights P, `(*lead, R, t, s)`, of some queries and all the keys that they may see.

    `share` is log sum_j P_ij, less than 0 where sinks take a part; None for 0.
    """

    scores: Array
    softmax: Softmax
    weights: Array
    where: Where
    share: Array | None

    @classmethod
    def of(cls, xp: Backend, scores: Array, where: Where, share: Array | None = None) -> Tile:
        found = softmax(xp, scores)
        weights = found.weights if share is None else found.weights * xp.exp(share)
        return cls(scores, found, weights, where, share)

    def log_sum(self) -> Array:
        """log of what exp(S - m) is divided by: `rest`, and what the sinks add."""
        return self.softmax.rest if self.share is None else self.softmax.rest - self.share


class Question(Protocol):
    @property
    def extras(self) -> int:
        """How many operands of its own it has."""

    def outputs(self, layout: Layout, dtype: str) -> list[Output]: ...
    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array], /) -> list[Array]: ...
    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> Any: ...


@dataclass(frozen=True)
class Ask:
    """Several questions about a tile, in one pass over the scores. With sinks, `share` follows the scores' operands."""

    scores: Scores
    questions: tuple[Question, ...]
    shared: bool = False

    def __call__(self, xp: Backend, operands: Sequence[Array], where: Where, masked: bool) -> list[Array]:
        own = self.scores.operands
        share = operands[own] if self.shared else None
        tile = Tile.of(xp, self.scores(xp, operands, where, masked), where, share)
        return _answers(xp, self.questions, tile, iter(operands[own + self.shared :]))


def _answers(xp: Backend, questions: Sequence[Question], tile: Tile, extras: Iterator[Array]) -> list[Array]:
    """What comes of questions about a tile, each of which takes its own of the operands."""
    return [
        piece for question in questions for piece in question(xp, tile, [next(extras) for _ in range(question.extras)])
    ]


@dataclass(frozen=True)
class AttendAndAsk:
    """`Attend`, and questions about the same tile: one product and one softmax less than apart.

    What the questions take follows the operands of the attention. Answers have no gradients, unless it is
    differentiated.
    """

    attend: Attend
    questions: tuple[Question, ...]

    def differentiated(self) -> AttendAndAsk:
        return replace(self, attend=self.attend.differentiated())

    def __call__(self, xp: Backend, operands: Sequence[Array], where: Where, masked: bool) -> list[Array]:
        own, extras = operands[: self.attend.operands], iter(operands[self.attend.operands :])
        tile = Tile.of(xp, self.attend.scores(xp, own, where, masked), where)
        output = self.attend.output(xp, tile.weights, own, where, masked)
        largest, rest = tile.softmax.largest, tile.softmax.rest
        output = xp.where(rest[..., None] == -math.inf, 0.0, output)
        answers = _answers(xp, self.questions, tile, extras)
        kept = answers if self.attend.in_verbs else (xp.stop_gradient(piece) for piece in answers)
        return [output, in_parts(xp, largest, rest), *kept]


def _by_query(layout: Layout, dtype: str, *features: int) -> Output:
    shape = (*layout.lead, layout.repeats, layout.queries, 1, *features)
    return Output(shape, layout.axes(True, False), dtype)


def _by_key(layout: Layout, dtype: str, *features: int) -> Output:
    shape = (*layout.lead, layout.repeats, 1, layout.keys, *features)
    return Output(shape, layout.axes(False, True), dtype)


class _OfQueries:
    """One number for each query: `(..., H, T)`."""

    extras: ClassVar[int] = 0

    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [_by_query(layout, dtype)]

    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> Array:
        return layout.to_caller(xp, results[0], (layout.queries,))


@dataclass(frozen=True)
class Entropy(_OfQueries):
    """-sum_j P_ij log P_ij, in nats; log P = S - m - log sum exp(S - m), less what the sinks take."""

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        rest = tile.log_sum()
        seen = xp.where(rest == -math.inf, 0.0, rest)
        sum_of_weights = 1.0 if tile.share is None else xp.exp(tile.share)
        entropy = seen * sum_of_weights - xp.sum(tile.weights * xp.maximum(tile.softmax.shifted, _LOWEST), -1)
        return [xp.where(entropy < 0, 0.0, entropy)]  # of a row with one weight of 1, rounded


@dataclass(frozen=True)
class LogSumExp:
    """The log-sum-exp of each row in parts, see `in_parts`: `(*lead, R, T, 1, 2)`, in block space."""

    extras: ClassVar[int] = 0

    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [_by_query(layout, dtype, 2)]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        return [in_parts(xp, tile.softmax.largest, tile.log_sum())]

    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> Array:
        return results[0]


@dataclass(frozen=True)
class Max(_OfQueries):
    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        # The sum is for NaN, which XLA's max loses on a CPU.
        return [xp.max(tile.weights, -1) + 0.0 * xp.sum(tile.weights, -1)]


@dataclass(frozen=True)
class MaxScore(_OfQueries):
    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [replace(_by_query(layout, dtype), nothing=-math.inf)]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        # The sum is for NaN, as in `Max`; a score may be infinite, so NaN alone are added up.
        lost = xp.where(tile.scores == tile.scores, 0.0, tile.scores)
        return [xp.max(tile.scores, -1) + xp.sum(lost, -1)]


@dataclass(frozen=True)
class Distance(_OfQueries):
    """sum_j P_ij |i + S - T - j|, in positions; with sinks, the part that they take counts 0."""

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        distance = xp.abs(tile.where.queries + tile.where.shift - tile.where.keys)
        return [xp.sum(tile.weights * xp.cast(distance, xp.dtype_name(tile.weights)), -1)]


@dataclass(frozen=True)
class ArgMax(_OfQueries):
    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [_by_query(layout, "int32")]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        return [xp.argmax(tile.weights, -1) + tile.where.keys[0, 0]]


@dataclass(frozen=True)
class Largest:
    """The `count` largest weights of each query."""

    count: int
    extras: ClassVar[int] = 0

    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [_by_query(layout, dtype, self.count), _by_query(layout, "int32", self.count)]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        values, indices = xp.topk(tile.weights, self.count)
        return [values[..., None, :], (indices + tile.where.keys[0, 0])[..., None, :]]

    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> TopK:
        return TopK(*(layout.to_caller(xp, result, (layout.queries, self.count)) for result in results))


@dataclass(frozen=True)
class Product:
    """P x; its operand is x, `(*lead, R or 1, 1, S, X)`."""

    width: Any
    careful: bool = False
    extras: ClassVar[int] = 1

    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [_by_query(layout, dtype, self.width)]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        return [weighted(xp, tile.weights, extras[0], self.careful)]

    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> Array:
        return layout.to_caller(xp, results[0], (layout.queries, self.width))


@dataclass(frozen=True)
class TransposedProduct:
    """P^T y; its operand is y, `(*lead, R, T, 1, Y)`."""

    width: Any
    extras: ClassVar[int] = 1

    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [_by_key(layout, dtype, self.width)]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        *lead, repeats, rows, _, width = xp.shape(extras[0])
        values = xp.reshape(extras[0], (*lead, repeats, rows, width))
        return [xp.matmul(xp.swapaxes(tile.weights, -1, -2), values)[..., None, :, :]]

    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> Array:
        return layout.to_caller(xp, results[0], (layout.keys, self.width))


@dataclass(frozen=True)
class GradientWeighted(TransposedProduct):
    """max(P * (g v^T), 0)^T y; its operands are g `(*lead, R, T, 1, E)`, v `(*lead, 1, 1, S, E)` and y.

    g v^T is the gradient with respect to the weights, of what has the gradient g with respect to P v.
    """

    extras: ClassVar[int] = 3

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        gradient, value, values = extras
        kept = xp.maximum(tile.weights * product(xp, gradient, value), 0.0)
        return super().__call__(xp, tile._replace(weights=kept), [values])


@dataclass(frozen=True)
class Neighbour(_OfQueries):
    """The weight on the key at a distance from the query: -1 is the one before it."""

    offset: int

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        there = tile.where.keys == tile.where.queries + tile.where.shift + self.offset
        return [xp.sum(xp.where(there, tile.weights, 0.0), -1)]


@dataclass(frozen=True)
class Received:
    """sum_i P_ij over all queries, or over those that its operand, `(1, ..., T, 1)`, counts."""

    chosen: bool = False

    @property
    def extras(self) -> int:
        return int(self.chosen)

    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        return [_by_key(layout, dtype)]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        return [xp.sum(tile.weights * extras[0] if self.chosen else tile.weights, -2)]

    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> Array:
        return layout.to_caller(xp, results[0], (layout.keys,))


@dataclass(frozen=True)
class Mass(_OfQueries):
    """The weight on a set of keys; its operand is 1 for them and 0 for others, `(*lead or 1, R or 1, 1, S)`."""

    extras: ClassVar[int] = 1

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        return [xp.sum(tile.weights * extras[0], -1)]


@dataclass(frozen=True)
class Pool:
    """Means or maxima of rectangles of the map; its operands say which row and column of the result each is in.

    For means, two more have the sizes of the rows and of the columns.
    """

    rows: int
    columns: int
    reduce: str
    queries: Any

    @property
    def extras(self) -> int:
        return 4 if self.reduce == "mean" else 2

    def outputs(self, layout: Layout, dtype: str) -> list[Output]:
        shape = (*layout.lead, layout.repeats, 1, 1, self.rows, self.columns)
        return [Output(shape, layout.axes(False, False), dtype, "add" if self.reduce == "mean" else "max")]

    def __call__(self, xp: Backend, tile: Tile, extras: Sequence[Array]) -> list[Array]:
        rows, columns = (xp.reshape(bins, (-1,)) for bins in extras[:2])
        if self.reduce == "mean":
            pooled = self._sums(xp, tile, rows, columns) / xp.reshape(extras[2], (-1, 1)) / xp.reshape(extras[3], (-1,))
        else:
            narrow = xp.segment_max(tile.weights, columns, self.columns, -1)
            pooled = xp.segment_max(narrow, rows, self.rows, -2)
        return [pooled[..., None, None, :, :]]

    def _sums(self, xp: Backend, tile: Tile, rows: Array, columns: Array) -> Array:
        """Rows of the tile first, which lie in few rows of the map, then columns, then each row to its place."""
        dtype = xp.dtype_name(tile.weights)
        first = rows[:1]
        height = xp.shape(tile.weights)[-2]
        few = self.rows
        if isinstance(height, int) and isinstance(self.queries, int):
            few = min(few, -(-(height - 1) * self.rows // self.queries) + 1)
        local = xp.cast(rows[None, :] - first == xp.arange(0, few, rows)[:, None], dtype)
        pooled = xp.segment_sum(xp.matmul(local, tile.weights), columns, self.columns, -1)
        places = xp.arange(0, self.rows, rows)[:, None] - first == xp.arange(0, few, rows)[None, :]
        return xp.matmul(xp.cast(places, dtype), pooled)

    def answer(self, xp: Backend, layout: Layout, results: Sequence[Array]) -> Array:
        pooled = layout.to_caller(xp, results[0], (self.rows, self.columns))
        # Rectangles of which nothing may be seen were never looked at.
        return pooled if self.reduce == "mean" else xp.where(pooled == -math.inf, 0.0, pooled)
