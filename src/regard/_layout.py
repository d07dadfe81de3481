"""Where every array's axes go.

Inside, all arrays live in one *block space* whose axes are `(*lead, repeats, queries, keys)`, lead being the
batch axes and the key heads. An operand or a result has all these axes, of size one where it does not vary,
and then its features: query is `(*lead, R, T, 1, D)`, key `(*lead, 1, 1, S, D)`, a log-sum-exp `(*lead, R, T, 1)`.
So a block is one slice an axis for everything, and "of size one" means *broadcast* for what goes in and
*summed* for what comes out.

Letters, here and wherever shapes are written: B batch, any number of axes; H query heads; G key heads; R = H / G
repeats; lead `(*B, G)`; T queries and S keys, t and s of them in one block; D width of query and key; E width of value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard._backends.protocol import Array, Backend


@dataclass(frozen=True)
class Operand:
    """An array in block space; `axes[a]` says whether it varies along block axis `a`."""

    array: Array
    axes: tuple[bool, ...]


@dataclass(frozen=True)
class Layout:
    """The sizes of one attention: `lead` is `(*batch, G)`, and query head `h` reads key head `h // repeats`.

    `outer` is what the caller sees before `(T, S)`: `(..., H)`, or nothing for two-dimensional arrays.
    """

    lead: tuple
    repeats: int
    queries: Any
    keys: Any
    outer: tuple

    @property
    def shape(self) -> tuple:
        return (*self.outer, self.queries, self.keys)

    @property
    def space(self) -> tuple:
        return (*self.lead, self.repeats, self.queries, self.keys)

    @property
    def shift(self) -> Any:
        """What aligns the last query with the last key: query i stands at key position i + shift."""
        return self.keys - self.queries

    def axes(self, rows: bool, columns: bool) -> tuple[bool, ...]:
        """Along which block axes a result varies that has all the heads, and queries or keys or both."""
        return (*(varies(size) for size in (*self.lead, self.repeats)), rows, columns)

    def operand(self, xp: Backend, array: Array, features: int = 0) -> Operand:
        """An array that is in block space already."""
        sizes = xp.shape(array)
        sizes = sizes[: len(sizes) - features]
        return Operand(array, tuple(varies(size) for size in sizes))

    def _split_heads(self, xp: Backend, array: Array, heads_axis: int) -> Array:
        """`(*batch, H or 1, ...)` as `(*batch, G or 1, R or 1, ...)`, with leading batch axes filled in."""
        sizes = xp.shape(array)
        missing = len(self.lead) - 1 - heads_axis
        heads = (self.lead[-1], self.repeats) if varies(sizes[heads_axis]) else (1, 1)
        return xp.reshape(array, (*(1,) * missing, *sizes[:heads_axis], *heads, *sizes[heads_axis + 1 :]))

    def from_heads(self, xp: Backend, array: Array, trailing: int) -> Array:
        """The caller's `(..., H, trailing axes)` in block space's lead and repeats; H may be absent, or 1."""
        sizes = xp.shape(array)
        if len(sizes) <= trailing:
            array = xp.reshape(array, (*(1,) * (trailing + 1 - len(sizes)), *sizes))
        return self._split_heads(xp, array, len(xp.shape(array)) - trailing - 1)

    def query(self, xp: Backend, query: Array) -> Operand:
        """One for each head and example, also where only key or value has examples: so scores have all axes."""
        array = self.from_heads(xp, query, 2)
        sizes = xp.shape(array)
        return self.whole(xp, self.operand(xp, xp.reshape(array, (*sizes[:-1], 1, sizes[-1])), 1))

    def whole(self, xp: Backend, operand: Operand) -> Operand:
        """What there is of each query, with all the leading axes."""
        sizes, features = xp.shape(operand.array), len(xp.shape(operand.array)) - len(operand.axes)
        wanted = (*self.lead, self.repeats)
        if all(varies(size) or not varies(full) for size, full in zip(sizes, wanted, strict=False)):
            return operand
        return self.operand(xp, xp.broadcast_to(operand.array, (*wanted, *sizes[len(wanted) :])), features)

    def key(self, xp: Backend, key: Array) -> Operand:
        """Keys and values: `(..., G, S, D)`, one for each group of query heads."""
        sizes = xp.shape(key)
        missing = max(len(self.lead) + 2 - len(sizes), 0)
        sizes = (*(1,) * missing, *sizes)
        return self.operand(xp, xp.reshape(key, (*sizes[:-2], 1, 1, *sizes[-2:])), 1)

    def rule(self, xp: Backend, array: Array, features: int = 0) -> Operand:
        """What broadcasts to `(..., H, T, S)`, with features behind."""
        sizes = xp.shape(array)
        if len(sizes) < 2 + features:
            array = xp.reshape(array, (*(1,) * (2 + features - len(sizes)), *sizes))
        return self.operand(xp, self.from_heads(xp, array, 2 + features), features)

    def per_example(self, xp: Backend, array: Array, trailing: tuple[bool, bool]) -> Operand:
        """`(batch...)`, `(batch..., T)` or `(batch..., S)`: one for all the heads of an example."""
        sizes = xp.shape(array)
        own = sum(trailing)
        batch, rest = sizes[: len(sizes) - own], sizes[len(sizes) - own :]
        at = iter(rest)
        ends = tuple(next(at) if present else 1 for present in trailing)
        heads = () if len(self.outer) < 2 else (1,)
        return self.rule(xp, xp.reshape(array, (*batch, *heads, *ends)))

    def to_caller(self, xp: Backend, array: Array, trailing: tuple) -> Array:
        """A result in block space, as the caller counts axes: `(..., H, *trailing)`."""
        return xp.reshape(array, (*self.outer, *trailing))


def varies(size: Any) -> bool:
    """Whether an axis of this size is more than one; an unknown size (a tensor) is, for all that is known."""
    return not isinstance(size, int) or size != 1


def itemsize(dtype: str) -> int:
    """Bytes of one number."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def nbytes(xp: Any, array: Array) -> int:
    """Bytes of an array; not every framework's arrays say it themselves."""
    return math.prod(xp.shape(array)) * itemsize(xp.dtype_name(array))
