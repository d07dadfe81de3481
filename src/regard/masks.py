"""Who may see whom: masks as rules `(query i, key j) -> may see`, evaluated a tile at a time.

A mask is a value. It is combined with `&`, `|` and `~`, it costs no n x n array, and it knows which tiles are
empty (they are skipped, and the time falls with them) and which are full (they need no mask arithmetic).

Positions. The last query is aligned with the last key: query i stands at key position i + S - T. So
`causal()` lets the last query see every key, as in FlashAttention 2.1 and later; the other corner, top-left,
is what `torch.nn.functional.scaled_dot_product_attention(is_causal=True)` and Keras use.

Example:
    >>> import numpy as np, regard
    >>> from regard import masks
    >>> x = np.random.default_rng(0).normal(size=(5, 4))
    >>> _, weights = regard.attention(x, x, x, mask=masks.causal() & masks.window(1, 0))
    >>> (weights.dense() > 0).astype(int)
    array([[1, 0, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [0, 1, 1, 0, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 0, 1, 1]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regard import _check
from regard._backends import backend_of
from regard._backends.protocol import Array, Backend
from regard._layout import Layout, Operand
from regard._rules import Form, Span, Where

Bounds = tuple[Any, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """A rule and the arrays that it speaks of. Made by the functions of this module."""

    form: MaskForm
    leaves: tuple[Array, ...] = ()

    def __and__(self, other: Mask) -> Mask:
        return Mask(Both(self.form, _mask(other).form), self.leaves + other.leaves)

    def __or__(self, other: Mask) -> Mask:
        return Mask(Either(self.form, _mask(other).form), self.leaves + other.leaves)

    def __invert__(self) -> Mask:
        return Mask(Other(self.form), self.leaves)

    def __bool__(self) -> bool:
        raise _check.no_truth()

    def __repr__(self) -> str:
        return f"masks.{self.form}"


def _mask(value: Any) -> Mask:
    if not isinstance(value, Mask):
        raise _check.not_a_mask(value)
    return value


def causal() -> Mask:
    """Query i sees key j when `j <= i + S - T`: nothing after itself, the last query sees every key."""
    return Mask(Window(None, 0))


def causal_top_left() -> Mask:
    """The other corner: query i sees key j when `j <= i`; what adapters to Keras and PyTorch convert to."""
    return Mask(Window(None, 0, from_start=True))


def window(left: int | None, right: int | None) -> Mask:
    """Query i sees the keys from `left` positions before its own to `right` after it; None is no limit.

    Nor is one of 2^30 positions or more.

    Cost: time O(n (left + right)) instead of O(n^2).
    """
    return Mask(Window(_check.window_side("left", left), _check.window_side("right", right)))


def prefix(length: int) -> Mask:
    """Every query sees the first `length` keys; `causal() | prefix(n)` is the mask of a prefix language model."""
    return Mask(Prefix(_check.prefix_length(length)))


def lengths(key_lengths: Any, query_lengths: Any = None) -> Mask:
    """Padding: only the first `key_lengths` keys are seen, and only the first `query_lengths` queries see.

    Shapes: one number an example, `(...)`: `(B,)` for arrays `(B, H, T, D)` and `(B, T, D)`, a number for `(T, D)`.
    """
    if query_lengths is None:
        return Mask(Lengths(False), (_clipped(key_lengths),))
    return Mask(Lengths(True), (_clipped(key_lengths), _clipped(query_lengths)))


def segments(query_ids: Any, key_ids: Any = None) -> Mask:
    """Documents packed into one sequence: a query sees the keys whose id equals its own.

    Shapes: `query_ids (..., T)`, `key_ids (..., S)` (default: `query_ids`), leading axes as for `lengths`; whole
    numbers of any size, of which JAX has 32 bits unless it is told otherwise.
    Cost: with ids that are runs, as in packing, the time is the sum of the squares of the documents' lengths.
    """
    return Mask(Segments(), _numbered(query_ids, query_ids if key_ids is None else key_ids))


def _clipped(lengths: Any) -> Any:
    """Numbers of NumPy or of Python within 32 bits: JAX would wrap them, and seem to fit."""
    known = _integers(lengths)
    limits = np.iinfo(np.int32)
    return lengths if known is None else np.clip(known, limits.min, limits.max).astype(np.int32)


def _numbered(*ids: Any) -> tuple:
    """Ids of NumPy or of Python, numbered anew where they do not fit into 32 bits."""
    known: list[Any] = [_integers(each) for each in ids]
    limits = np.iinfo(np.int32)
    if any(each is None for each in known) or all(
        not each.size or (each.min() >= limits.min and each.max() <= limits.max) for each in known
    ):
        return ids
    exact = object if np.result_type(*known).kind == "f" else None  # of int64 and uint64 NumPy makes float64
    _, numbers = np.unique(
        np.concatenate([each.astype(exact or each.dtype).ravel() for each in known]), return_inverse=True
    )
    split = np.split(numbers.astype(np.int32).ravel(), [known[0].size])
    return tuple(part.reshape(each.shape) for part, each in zip(split, known, strict=True))


def _integers(numbers: Any) -> np.ndarray | None:
    """Whole numbers of NumPy or of Python as an array; None for everything else."""
    found = backend_of(numbers)
    if found is not None and (found.name != "numpy" or found.obstacle(numbers) is not None):
        return None
    try:
        known = np.asarray(numbers)
    except Exception:  # whatever a stranger's own conversion raises; to be refused with a name
        return None
    return known if known.dtype.kind in "iu" else None


def boolean(array: Any) -> Mask:
    """Any mask as a boolean array that broadcasts to `(..., H, T, S)`; True = may see.

    PyTorch's objects for a causal corner (`torch.nn.attention.bias`) become that rule.
    """
    rule = corner(array)
    return Mask(Boolean(), (array,)) if rule is None else rule


def corner(array: Any) -> Mask | None:
    """The rule that an object of `torch.nn.attention.bias` stands for; None for everything else."""
    found = None if array is None else backend_of(array)
    stands_for = None if found is None else found.corner(array)
    return None if stands_for is None else Mask(Window(None, 0, *stands_for))


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


class _Seamless:
    """A mask that changes from query to query evenly, or in ways that are not worth a look."""

    def cuts(self, leaves: Sequence[Any]) -> set[int]:
        return set()


@dataclass(frozen=True)
class Window(_Seamless):
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
            return f"window({self.left}, {self.right})"
        return "causal_top_left()" if self.from_start else "causal()"


@dataclass(frozen=True)
class Prefix(_Seamless):
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
class Lengths(_Seamless):
    of_queries: bool

    @property
    def leaves(self) -> int:
        return 2 if self.of_queries else 1

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        _check.lengths(xp, layout, leaves)
        limits = (layout.keys, layout.queries)
        counts = [xp.cast(_at_most(xp, leaf, limit), "int32") for leaf, limit in zip(leaves, limits, strict=False)]
        return [layout.per_example(xp, count, (False, False)) for count in counts]

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array | None:
        seen = where.keys < leaves[0]
        return seen & (where.queries < leaves[1]) if self.of_queries else seen

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> Bounds:
        return 0, span.keys if leaves[0] is None else int(np.max(leaves[0], initial=0))

    def full(self, span: Span, bounds: Bounds, leaves: Sequence[Any]) -> bool:
        if any(leaf is None for leaf in leaves):
            return False
        sees = not self.of_queries or (leaves[1] >= span.stop).all()
        return bool(sees and (leaves[0] >= bounds[1]).all())

    def __str__(self) -> str:
        return "lengths(...)"


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
class Boolean(_Seamless):
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
class Other(_Seamless):
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
        return False

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
