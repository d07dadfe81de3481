"""What is added to the scaled scores: biases as rules `(query i, key j) -> number`, evaluated a tile at a time.

A bias is a value; biases are added with `+`. As for masks, query i stands at key position i + S - T.

Example:
    >>> import numpy as np, regard
    >>> from regard import biases
    >>> x = np.zeros((3, 4))
    >>> _, weights = regard.attention(x, x, x, bias=biases.alibi([1.0]))
    >>> weights.dense().round(3)
    array([[0.665, 0.245, 0.09 ],
           [0.212, 0.576, 0.212],
           [0.09 , 0.245, 0.665]])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regard import _check
from regard._backends import numpy
from regard._backends.protocol import Array, Backend
from regard._layout import Layout, Operand
from regard._rules import Form, Where


@dataclass(frozen=True, eq=False, repr=False)
class Bias:
    """A rule and the arrays that it speaks of. Made by the functions of this module."""

    form: BiasForm
    leaves: tuple[Array, ...] = ()

    def __add__(self, other: Bias) -> Bias:
        if not isinstance(other, Bias):
            raise _check.not_a_bias(other)
        return Bias(Sum(self.form, other.form), self.leaves + other.leaves)

    def __repr__(self) -> str:
        return f"biases.{self.form}"


def array(values: Any) -> Bias:
    """Any bias as an array that broadcasts to `(..., H, T, S)`."""
    return Bias(Values(), (values,))


def alibi(slopes: Any) -> Bias:
    """Attention with linear biases: `-slope_h * |i + S - T - j|`.

    Shapes: `slopes (H,)`, one a query head.
    Source: Press, Smith, Lewis 2022, "Train Short, Test Long", arXiv 2108.12409, section 3; the absolute
    distance is the symmetric form that encoders use.
    """
    return Bias(Alibi(), (slopes,))


def relative(table: Any, bidirectional: bool = True, max_distance: int = 128) -> Bias:
    """T5's relative position bias: the row of `table` for the bucket of the distance `j - (i + S - T)`.

    Half of the buckets count single positions, the others grow logarithmically up to `max_distance`.

    Args:
        table: `(buckets, H)`, learned; at least 4 buckets, or 2 in one direction.
        bidirectional: Whether keys after the query have buckets of their own (encoders) or share one (decoders).
        max_distance: The distance, in positions, from which all share the last bucket; above the positions counted
            singly, a quarter of the buckets or, in one direction, half.

    Source: Raffel et al. 2020, arXiv 1910.10683, section 2.1.
    """
    both = _check.flag("biases.relative", "bidirectional", bidirectional)
    return Bias(Relative(both, _check.max_distance(max_distance)), (table,))


class BiasForm(Form, Protocol):
    """What a bias answers about a tile: numbers that broadcast to it."""

    def added(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array: ...

    def gradients(self, where: Where, leaves: Sequence[Any], of_tile: np.ndarray) -> list[np.ndarray]:
        """Those of its arrays from that of a tile, of NumPy, before what is the same for several is summed."""


def _by_distance(where: Where, of_tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of a tile `(..., t, s)` along its diagonals, and how far behind the query their keys are."""
    *lead, rows, keys = of_tile.shape
    # Of rows from below, each a place further to the right than the one before it, since a row is a number too short.
    wide = np.zeros((*lead, rows, rows + keys), of_tile.dtype)
    wide[..., :keys] = of_tile[..., ::-1, :]
    sums = wide.reshape(*lead, -1)[..., :-rows].reshape(*lead, rows, rows + keys - 1).sum(-2)
    lowest = where.keys[0, 0] - where.queries[-1, 0] - where.shift
    return lowest + np.arange(rows + keys - 1, dtype=np.int32), sums


@dataclass(frozen=True)
class Values:
    leaves = 1

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        _check.bias(xp, layout, leaves[0])
        return [layout.rule(xp, leaves[0])]

    def added(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array:
        return leaves[0]

    def gradients(self, where: Where, leaves: Sequence[Any], of_tile: np.ndarray) -> list[np.ndarray]:
        return [of_tile]

    def __str__(self) -> str:
        return "array(...)"


@dataclass(frozen=True)
class Alibi:
    leaves = 1

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        _check.per_head("slopes", xp, layout, leaves[0], 0)
        return [layout.operand(xp, layout.from_heads(xp, leaves[0][..., None, None], 2))]

    def added(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array:
        slopes = leaves[0]
        distance = xp.abs(where.queries + where.shift - where.keys)
        return -slopes * xp.cast(distance, xp.dtype_name(slopes))

    def gradients(self, where: Where, leaves: Sequence[Any], of_tile: np.ndarray) -> list[np.ndarray]:
        distances, sums = _by_distance(where, of_tile)
        return [-(sums @ np.abs(distances).astype(sums.dtype))[..., None, None]]

    def __str__(self) -> str:
        return "alibi(...)"


@dataclass(frozen=True)
class Relative:
    bidirectional: bool
    max_distance: int
    leaves = 1

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        _check.per_head("table", xp, layout, leaves[0], 1)
        _check.buckets(xp.shape(leaves[0])[0], self.bidirectional, self.max_distance)
        by_head = xp.swapaxes(leaves[0], 0, 1)[:, None, None, :]
        return [layout.operand(xp, layout.from_heads(xp, by_head, 3), 1)]

    def added(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array:
        table = leaves[0]
        buckets = self._bucket(xp, where.keys - (where.queries + where.shift), xp.shape(table)[-1], table)
        sizes = xp.shape(table)[:-3]
        flat = xp.reshape(table, (*sizes, xp.shape(table)[-1]))
        return xp.take(flat, buckets, len(sizes))

    def gradients(self, where: Where, leaves: Sequence[Any], of_tile: np.ndarray) -> list[np.ndarray]:
        distances, sums = _by_distance(where, of_tile)
        [table] = leaves
        buckets = self._bucket(numpy, distances, table.shape[-1], table)
        return [numpy.segment_sum(sums, buckets, table.shape[-1], -1)[..., None, None, :]]

    def _bucket(self, xp: Backend, distance: Array, buckets: int, table: Array) -> Array:
        """T5's bucket of each distance (positions, key minus query)."""
        offset: Any = 0
        if self.bidirectional:
            buckets //= 2
            offset = xp.cast(distance > 0, "int32") * buckets
            distance = xp.abs(distance)
        else:
            distance = xp.maximum(-distance, xp.cast(distance * 0, "int32"))
        exact = buckets // 2
        ratio = xp.cast(xp.maximum(distance, distance * 0 + 1), "float32") / exact
        grown = xp.log(ratio) / math.log(self.max_distance / exact) * (buckets - exact)
        far = exact + xp.cast(grown, "int32")
        far = xp.minimum(far, far * 0 + buckets - 1)
        return offset + xp.where(distance < exact, distance, far)

    def __str__(self) -> str:
        return f"relative(..., bidirectional={self.bidirectional}, max_distance={self.max_distance})"


@dataclass(frozen=True)
class Sum:
    first: BiasForm
    second: BiasForm

    @property
    def leaves(self) -> int:
        return self.first.leaves + self.second.leaves

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        first, second = leaves[: self.first.leaves], leaves[self.first.leaves :]
        return self.first.place(xp, layout, first) + self.second.place(xp, layout, second)

    def added(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array:
        first, second = leaves[: self.first.leaves], leaves[self.first.leaves :]
        return self.first.added(xp, where, first) + self.second.added(xp, where, second)

    def gradients(self, where: Where, leaves: Sequence[Any], of_tile: np.ndarray) -> list[np.ndarray]:
        first, second = leaves[: self.first.leaves], leaves[self.first.leaves :]
        return self.first.gradients(where, first, of_tile) + self.second.gradients(where, second, of_tile)

    def __str__(self) -> str:
        return f"{self.first} + {self.second}"
