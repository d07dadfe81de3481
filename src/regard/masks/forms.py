"""What masks are made of: forms, which answer about a tile and about a span of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regard import _check
from regard._backends.protocol import Array, Backend
from regard._layout import Layout, Operand
from regard._rules import Form, Span, Where

Bounds = tuple[Any, Any]


class MaskForm(Form, Protocol):
    """What a mask answers, about a tile and about a span of queries.

    `visible` is None when every query of the tile sees every key by this rule. `bounds` are keys outside which
    nothing is seen (it may be generous), and `full` whether all between two keys are seen by all (it may be
    timid); `leaves` are NumPy arrays there, or None where their values are not known yet.
    """

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None: ...
    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds: ...
    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool: ...
    def cuts(self, leaves: Sequence[Any]) -> set[int]: ...  # queries at which it is good to begin a block


class Seamless:
    """A mask that changes from query to query evenly, or in ways that are not worth a look."""

    def cuts(self, leaves: Sequence[Any]) -> set[int]:
        return set()


@dataclass(frozen=True)
class Window(Seamless):
    """With `from_start` query i stands at key position i, where others have the last query at the last key."""

    left: int | None
    right: int | None
    from_start: bool = False
    sizes: tuple | None = None  # the queries and keys that it was made for, if it is for these alone
    leaves = 0

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        if self.sizes is not None:
            _check.corner(layout, self.sizes)
        return []

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        own = where.queries + self._shift(where)
        before = None if self.left is None else where.keys >= own - self.left
        after = None if self.right is None else where.keys <= own + self.right
        return before & after if before is not None and after is not None else after if before is None else before

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        first, behind = span.start + self._shift(span), span.stop + self._shift(span)
        low = 0 if self.left is None else xp.maximum(first - self.left, 0)
        high = span.keys if self.right is None else xp.minimum(behind + self.right, span.keys)
        return low, high

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        low, high = bounds
        shift = self._shift(span)
        sees_first = self.left is None or low >= span.stop - 1 + shift - self.left
        sees_last = self.right is None or high - 1 <= span.start + shift + self.right
        return bool(sees_first and sees_last)

    def _shift(self, place: Where | Span) -> Any:
        return 0 if self.from_start else place.shift

    def __str__(self) -> str:
        if (self.left, self.right) != (None, 0):
            sides = f"({self.left}, {self.right})"
            return f"window_top_left{sides}" if self.from_start else f"window{sides}"
        return "causal_top_left()" if self.from_start else "causal()"


@dataclass(frozen=True)
class Prefix(Seamless):
    length: int
    leaves = 0

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        return []

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        return where.keys < self.length

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        return 0, xp.minimum(self.length, span.keys)

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        return bool(bounds[1] <= self.length)

    def __str__(self) -> str:
        return f"prefix({self.length})"


@dataclass(frozen=True)
class Lengths(Seamless):
    of_keys: bool
    of_queries: bool

    @property
    def leaves(self) -> int:
        return self.of_keys + self.of_queries

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        sides = [("key_lengths", layout.keys)] * self.of_keys + [("query_lengths", layout.queries)] * self.of_queries
        _check.lengths(xp, layout, sides, leaves)
        counts = [xp.cast(_at_most(xp, leaf, most), "int32") for leaf, (_, most) in zip(leaves, sides, strict=True)]
        return [layout.per_example(xp, count, (False, False)) for count in counts]

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        if not self.of_queries:
            return where.keys < leaves[0]
        seeing = where.queries < leaves[-1]
        return (where.keys < leaves[0]) & seeing if self.of_keys else seeing

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        return 0, int(np.max(leaves[0], initial=0)) if self.of_keys and leaves[0] is not None else span.keys

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        if any(leaf is None for leaf in leaves):
            return False
        sees = not self.of_queries or (leaves[-1] >= span.stop).all()
        return bool(sees and (not self.of_keys or (leaves[0] >= bounds[1]).all()))

    def __str__(self) -> str:
        return "lengths(...)"


@dataclass(frozen=True)
class Pairs(Seamless):
    """Runs of positions, `(from, to behind the last)`; None for all."""

    queries: tuple[tuple[int, int], ...] | None
    keys: tuple[tuple[int, int], ...] | None
    leaves = 0

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        return []

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        of_queries, of_keys = _among(where.queries + where.shift, self.queries), _among(where.keys, self.keys)
        return of_keys if of_queries is None else of_queries if of_keys is None else of_queries & of_keys

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        if self.queries is not None and not self._meets(span):
            return 0, 0
        if self.keys is None:
            return 0, span.keys
        low, high = (self.keys[0][0], self.keys[-1][1]) if self.keys else (0, 0)
        return xp.minimum(low, span.keys), xp.minimum(high, span.keys)

    def _meets(self, span: Span) -> bool:
        """Whether some query of a span is among them; where that is not known yet, it may be."""
        try:
            return any(a < span.stop + span.shift and span.start + span.shift < b for a, b in self.queries or ())
        except TypeError:
            return True

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        rows = self.queries is None or any(
            a <= span.start + span.shift and span.stop + span.shift <= b for a, b in self.queries
        )
        return rows and (self.keys is None or any(a <= bounds[0] and bounds[1] <= b for a, b in self.keys))

    def __str__(self) -> str:
        return f"pairs({_spelled(self.queries)}, {_spelled(self.keys)})"


def _among(positions: Array, runs: tuple[tuple[int, int], ...] | None) -> Array | None:
    """Whether positions lie in some run."""
    if runs is None:
        return None
    found = positions != positions
    for start, stop in runs:
        found = found | ((positions >= start) & (positions < stop))
    return found


def _spelled(runs: tuple[tuple[int, int], ...] | None) -> str:
    return "None" if runs is None else "[...]" if len(runs) != 1 else f"{runs[0][0]}:{runs[0][1]}"


@dataclass(frozen=True)
class Segments:
    leaves = 2

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        dtype = _check.segments(xp, layout, leaves)
        queries, keys = (xp.cast(leaf, dtype) for leaf in leaves)
        return [layout.per_example(xp, queries, (True, False)), layout.per_example(xp, keys, (False, True))]

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        return leaves[0] == leaves[1]

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        if any(leaf is None for leaf in leaves):
            return 0, span.keys
        queries = leaves[0][..., span.start : span.stop, :]
        keys = leaves[1]
        seen = ((keys >= queries.min()) & (keys <= queries.max())).reshape(-1, keys.shape[-1]).any(0)
        return _extent(seen)

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        if any(leaf is None for leaf in leaves):
            return False
        queries, keys = leaves[0][..., span.start : span.stop, :], leaves[1][..., bounds[0] : bounds[1]]
        return bool(keys.size and queries.min() == queries.max() == keys.min() == keys.max())

    def cuts(self, leaves: Sequence[Any]) -> set[int]:
        """Where a document begins, if it is so in every example: then each block is one document, and needs no mask."""
        if leaves[0] is None:
            return set()
        rows = leaves[0].reshape(-1, leaves[0].shape[-2])
        changes = rows[:, 1:] != rows[:, :-1]
        return set((np.flatnonzero(changes[0]) + 1).tolist()) if (changes == changes[:1]).all() else set()

    def __str__(self) -> str:
        return "segments(...)"


@dataclass(frozen=True)
class Boolean(Seamless):
    leaves = 1

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        _check.boolean_mask(xp, layout, leaves[0])
        return [layout.rule(xp, leaves[0])]

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        return leaves[0]

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        if leaves[0] is None:
            return 0, span.keys
        rows = _rows(leaves[0], span)
        if rows.shape[-1] == 1:
            return (0, span.keys) if rows.any() else (0, 0)
        return _extent(rows.reshape(-1, rows.shape[-1]).any(0))

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        if leaves[0] is None:
            return False
        rows = _rows(leaves[0], span)
        return bool(rows.all() if rows.shape[-1] == 1 else rows[..., bounds[0] : bounds[1]].all())

    def __str__(self) -> str:
        return "boolean(...)"


@dataclass(frozen=True)
class _Pair:
    first: MaskForm
    second: MaskForm

    @property
    def leaves(self) -> int:
        return self.first.leaves + self.second.leaves

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        first, second = self._share(leaves)
        return self.first.place(xp, layout, first) + self.second.place(xp, layout, second)

    def cuts(self, leaves: Sequence[Any]) -> set[int]:
        first, second = self._share(leaves)
        return self.first.cuts(first) | self.second.cuts(second)

    def _share(self, leaves: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        return leaves[: self.first.leaves], leaves[self.first.leaves :]


@dataclass(frozen=True)
class Both(_Pair):
    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        one, two = self._share(leaves)
        first, second = self.first.visible(xp, where, one), self.second.visible(xp, where, two)
        return first & second if first is not None and second is not None else second if first is None else first

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        one, two = self._share(leaves)
        first, second = self.first.bounds(xp, span, one), self.second.bounds(xp, span, two)
        return xp.maximum(first[0], second[0]), xp.minimum(first[1], second[1])

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        one, two = self._share(leaves)
        return self.first.full(span, bounds, one) and self.second.full(span, bounds, two)

    def __str__(self) -> str:
        return f"({self.first} & {self.second})"


@dataclass(frozen=True)
class Either(_Pair):
    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        one, two = self._share(leaves)
        first, second = self.first.visible(xp, where, one), self.second.visible(xp, where, two)
        return None if first is None or second is None else first | second

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        one, two = self._share(leaves)
        first, second = self.first.bounds(xp, span, one), self.second.bounds(xp, span, two)
        return xp.minimum(first[0], second[0]), xp.maximum(first[1], second[1])

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        one, two = self._share(leaves)
        return self.first.full(span, bounds, one) or self.second.full(span, bounds, two)

    def __str__(self) -> str:
        return f"({self.first} | {self.second})"


@dataclass(frozen=True)
class Other(Seamless):
    form: MaskForm

    @property
    def leaves(self) -> int:
        return self.form.leaves

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        return self.form.place(xp, layout, leaves)

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        seen = self.form.visible(xp, where, leaves)
        return where.keys < 0 if seen is None else ~seen

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        return 0, span.keys

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        low, high = self.form.bounds(np, span, leaves)
        return bool(high <= low or high <= bounds[0] or bounds[1] <= low)

    def __str__(self) -> str:
        return f"~{self.form}"


def _at_most(xp: Backend, lengths: Array, limit: Any) -> Array:
    """Lengths of 64 bits without what would be lost of them in 32."""
    return xp.minimum(lengths, limit) if isinstance(limit, int) and xp.dtype_name(lengths) == "int64" else lengths


def _rows(array: Any, span: Span) -> Any:
    return array if array.shape[-2] == 1 else array[..., span.start : span.stop, :]


def _extent(seen: Any) -> Bounds:
    """From the first True to behind the last."""
    places = np.flatnonzero(seen)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
