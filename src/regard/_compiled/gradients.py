"""The gradients of a block by the loops: what cotangents say of weights becomes that of scores, then of operands.

A question adds what it knows of the gradient with respect to the weights, P times the part that sinks leave: products
of two operands, numbers of rows times numbers of keys, and what the loop knows by itself. So all questions together
take one pass over the scores, and what is not here is differentiated as it is without Numba.

Source: the backward pass is that of FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 2), but for rows, which are
complete here: nothing of the forward pass is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regard import _questions
from regard._blockwise import Pullback, Scores
from regard._compiled import arithmetic, loops, tiles
from regard._compiled.tiles import Room
from regard._rules import Where


@dataclass
class Known:
    """What is known of the gradient of a block's weights `(*lead, R, t, s)`; numbers of rows are `(*lead, R, t, 1)`."""

    share: np.ndarray | None  # what sinks leave of each row, not its logarithm
    products: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # of `(..., t, 1, F)`, `(..., 1, s, F)`
    outer: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # of `(..., t, 1)` and `(..., 1, s)`
    of_rows: dict[str, Any] = field(default_factory=dict)
    of_entropy: Any = 0
    of_logarithm: Any = 0

    def left(self, array: Any) -> Any:
        """Times what sinks leave."""
        if self.share is None:
            return array
        return array * self.share.reshape(self.share.shape + (1,) * (array.ndim - self.share.ndim))

    def add(self, name: str, array: Any) -> None:
        self.of_rows[name] = self.of_rows.get(name, 0) + array


ROWS = ("logsumexp", "entropy", "distance", "max", "max_score")  # in the order of `loops.gradient`


def _entropy(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.add("entropy", -known.left(given))
    known.of_entropy = known.of_entropy + given


def _log_sum_exp(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.add("logsumexp", given[..., 1])
    known.of_logarithm = known.of_logarithm + given[..., 1]


def _distance(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.add("distance", known.left(given))


def _largest_weight(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.add("max", known.left(given))


def _largest_score(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.add("max_score", given)


def _received(question: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    rows = extras[0] if question.chosen else np.ones((1,) * given.ndim, given.dtype)
    known.outer.append((known.left(rows), given))


def _mass(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.outer.append((known.left(given), extras[0]))


def _product(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.products.append((known.left(given), extras[0]))


def _transposed_product(_: Any, known: Known, given: np.ndarray, extras: Sequence[np.ndarray]) -> None:
    known.products.append((known.left(extras[0]), given))


QUESTIONS: dict[type, Callable[[Any, Known, np.ndarray, Sequence[np.ndarray]], None]] = {
    _questions.Entropy: _entropy,
    _questions.LogSumExp: _log_sum_exp,
    _questions.Distance: _distance,
    _questions.Max: _largest_weight,
    _questions.MaxScore: _largest_score,
    _questions.Received: _received,
    _questions.Mass: _mass,
    _questions.Product: _product,
    _questions.TransposedProduct: _transposed_product,
}


OUTPUT = _questions.Product(None)  # what an attention's output is


@dataclass(frozen=True)
class Gradients:
    """The gradients of a block of an attention, of questions or of both, for some of its operands."""

    scores: Scores
    asked: tuple[tuple[Any, int], ...]  # of each result that has a cotangent, the question, and where its operands are
    share: int | None  # where the logarithm of what sinks leave is
    wanted: tuple[int, ...]

    def __call__(self, operands: Sequence[np.ndarray], where: Where, masked: bool, room: Room) -> list[Any]:
        inputs, cotangents = operands[: -len(self.asked)], operands[-len(self.asked) :]
        known = Known(None if self.share is None else np.exp(inputs[self.share]))
        for (question, at), cotangent in zip(self.asked, cotangents, strict=True):
            QUESTIONS[type(question)](question, known, cotangent, inputs[at : at + question.extras])
        slopes = slopes_of(self.scores, inputs, where, masked, room, known)
        of_leaves = self._of_leaves(inputs, slopes)
        pieces = [self._of(place, inputs, cotangents, slopes, of_leaves) for place in self.wanted]
        return [
            summed_to(piece, inputs[place].shape) if isinstance(piece, np.ndarray) else piece
            for place, piece in zip(self.wanted, pieces, strict=True)
        ]

    def _of_leaves(self, inputs: Sequence[np.ndarray], slopes: Slopes) -> Sequence[np.ndarray]:
        """The gradients of the bias' arrays, before what is the same for several is summed."""
        bias = self.scores.bias
        if bias is None or not any(2 <= place < 2 + bias.leaves for place in self.wanted):
            return ()
        return bias.gradients(slopes.where, inputs[2 : 2 + bias.leaves], slopes.of_bias)

    def _of(
        self, place: int, inputs: Sequence[np.ndarray], cotangents: Sequence[np.ndarray], slopes: Slopes,
        of_leaves: Sequence[np.ndarray],
    ) -> np.ndarray | ByKey:  # fmt: skip
        query, key = inputs[:2]
        scale = query.dtype.type(self.scores.scale)
        if place == 0:
            return slopes.by_row("query", slopes.of_scores, key) * scale
        if place == 1:
            return slopes.by_key(slopes.of_scores, query * scale, key)
        if place == self.share:
            return slopes.of_share(inputs[place])
        if place < 2 + len(of_leaves):
            return of_leaves[place - 2]
        for (question, at), cotangent in zip(self.asked, cotangents, strict=True):
            if at == place and isinstance(question, _questions.Product):
                return slopes.by_key(slopes.exponentials, slopes.weighed(cotangent), inputs[place])
            if at == place and isinstance(question, _questions.TransposedProduct):
                return slopes.weighed(slopes.by_row(f"{at}", slopes.exponentials, cotangent))
        return np.zeros_like(inputs[place])


def evaluator(pullback: Pullback) -> Gradients | None:
    """What evaluates gradients on a block, or None where that is not for the loops."""
    forward = tiles.evaluator(pullback.function)
    if forward is None or pullback.largest:
        return None
    scores, own = forward.scores, forward.scores.operands
    results = list(_results(forward))
    asked = tuple(results[number] for number in pullback.given)
    if any(type(question) not in QUESTIONS for question, _ in asked):
        return None
    share = own if forward.shared else None
    leaves = scores.bias.leaves if hasattr(scores.bias, "gradients") else 0
    products = {
        at for question, at in results if isinstance(question, (_questions.Product, _questions.TransposedProduct))
    }
    known = {0, 1, *range(2, 2 + leaves), *products, share}
    return Gradients(scores, asked, share, pullback.wanted) if known.issuperset(pullback.wanted) else None


def _results(forward: tiles.Evaluator) -> Iterator[tuple[Any, int]]:
    """What each result answers, and where the first of the operands is that it has beside those of the scores."""
    at = forward.scores.operands
    if forward.attend is not None:
        yield from ((OUTPUT, at), (_questions.LogSumExp(), at))
    at += (forward.attend is not None) + forward.shared
    for question in forward.questions:
        yield from ((question, at) for _ in range(2 if isinstance(question, _questions.Largest) else 1))
        at += question.extras


@dataclass(frozen=True)
class Slopes:
    """A block's exp(S - m) and its scores' gradient `(*lead, R, t, s)`; numbers of rows are `(*lead, R, t, 1)`."""

    exponentials: np.ndarray
    of_scores: np.ndarray  # before softcap
    of_bias: np.ndarray
    factor: np.ndarray  # 1 over the sum of exp(S - m), 0 in a row that sees nothing
    mean: np.ndarray  # sum_j P_ij g_ij
    known: Known
    where: Where
    room: Room

    def weighed(self, of_rows: np.ndarray) -> np.ndarray:
        """Numbers `(*lead, R, t, 1, X)` times what makes exp(S - m) a weight."""
        return self.known.left(of_rows) * self.factor[..., None]

    def of_share(self, share: np.ndarray) -> np.ndarray:
        """The gradient of the logarithm of what sinks leave."""
        seen = self.factor > 0
        rest = -np.log(np.where(seen, self.factor, 1))
        found = self.mean + self.known.of_entropy * np.exp(share) * (rest - share - 1) - self.known.of_logarithm
        return np.where(seen, found, 0)

    def by_row(self, name: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """sum_j left_ij right_j: `(*lead, R, t, 1, X)` of `(*lead, 1 or R, 1, s, X)`."""
        *lead, repeats, rows, keys = left.shape
        each, folded = _folded(right, repeats, rows)
        into = self.room.memory.take(name, (*lead, each, folded, right.shape[-1]), left.dtype)
        self.room.matmul(left.reshape(*lead, each, folded, keys), _of_keys(right), into)
        return into.reshape(*lead, repeats, rows, 1, right.shape[-1])

    def by_key(self, left: np.ndarray, right: np.ndarray, like: np.ndarray) -> ByKey:
        """sum_i left_ij right_i: `(*lead, 1 or R, 1, s, X)`, as `like` is, of `(*lead, R, t, 1, X)`."""
        *lead, repeats, rows, keys = left.shape
        each, folded = _folded(like, repeats, rows)
        turned = left.reshape(*lead, each, folded, keys).swapaxes(-1, -2)
        return ByKey(turned, right.reshape(*lead, each, folded, right.shape[-1]), self.room)


@dataclass(frozen=True)
class ByKey:
    """A product `(*lead, each, s, X)` that is added where it belongs, without being anywhere before."""

    left: np.ndarray
    right: np.ndarray
    room: Room

    def add_to(self, place: np.ndarray) -> None:
        """To `(*lead or 1, each, 1, s, X)`."""
        self.room.matmul(self.left, self.right, place[..., 0, :, :], add=True)


def slopes_of(
    scores: Scores, inputs: Sequence[np.ndarray], where: Where, masked: bool, room: Room, known: Known
) -> Slopes:
    """What `known` says of a block's weights, of its scores."""
    found, bend = tiles.scores_of(scores, inputs, where, masked, room, bend=True)
    *_, rows, keys = shape = found.shape
    cotangent = _sum_of_products(known, shape, found.dtype, room)
    factor, mean = (np.empty((*shape[:-1], 1), found.dtype) for _ in range(2))
    loops.gradient(
        found.reshape(-1, rows, keys),
        cotangent.reshape(-1, rows, keys),
        bool(known.products),
        _together([left for left, _ in known.outer], (*shape[:-1], 1), found.dtype),
        _together([right for _, right in known.outer], (*shape[:-2], 1, keys), found.dtype),
        _together([known.of_rows.get(name, 0) for name in ROWS], (*shape[:-1], 1), found.dtype),
        (where.queries[:, 0] + where.shift - where.keys[0, 0]).astype(np.int32),
        arithmetic.smallest(found.dtype),
        factor.reshape(-1, rows),
        mean.reshape(-1, rows),
    )
    before = cotangent if bend is None else np.multiply(cotangent, bend, out=bend)
    return Slopes(found, before, cotangent, factor, mean, known, where, room)


def _sum_of_products(known: Known, shape: tuple[int, ...], dtype: Any, room: Room) -> np.ndarray:
    """The sum of all products of numbers of rows and numbers of keys, in memory that is used again."""
    *lead, repeats, rows, keys = shape
    into = room.memory.take("cotangent", shape, dtype)
    for number, (left, right) in enumerate(known.products):
        each, folded = _folded(right, repeats, rows)
        there = into if number == 0 else room.memory.take("more", shape, dtype)
        width = right.shape[-1]
        left = left if left.shape[:-2] == shape[:-1] else np.broadcast_to(left, (*shape[:-1], 1, width)).copy()
        turned = _of_keys(right).swapaxes(-1, -2)
        room.matmul(left.reshape(*lead, each, folded, width), turned, there.reshape(*lead, each, folded, keys))
        if number > 0:
            np.add(into, there, out=into)
    return into


def _together(arrays: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Several `(*lead, R, t, 1)` or `(*lead, R, 1, s)` as the loops take them, `(r, L, t or s)`."""
    found = np.empty((len(arrays), *shape), dtype)
    for place, array in zip(found, arrays, strict=True):
        place[...] = array
    return found.reshape(len(arrays), math.prod(shape[:-2]), shape[-2] * shape[-1])


def _folded(right: np.ndarray, repeats: int, rows: int) -> tuple[int, int]:
    """How many products there are of one leading index, and how many rows each has."""
    return (repeats, rows) if right.shape[-4] > 1 else (1, repeats * rows)


def _of_keys(array: np.ndarray) -> np.ndarray:
    """`(*lead, 1 or R, s, X)` of `(*lead, 1 or R, 1, s, X)`."""
    return array.reshape(*array.shape[:-3], *array.shape[-2:])


def summed_to(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Summed along the axes that are of size one in a shape."""
    along = tuple(axis for axis, pair in enumerate(zip(array.shape, shape, strict=True)) if pair[0] != pair[1])
    return array.sum(along, keepdims=True) if along else array
