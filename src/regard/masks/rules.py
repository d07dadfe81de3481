"""Masks as values, and what makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from regard import _check
from regard._backends import backend_of
from regard._backends.protocol import Array
from regard.masks.forms import Boolean, Both, Either, Lengths, MaskForm, Other, Pairs, Prefix, Segments, Window


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """A rule and the arrays that it speaks of. Made by the functions of `regard.masks`."""

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


def window_top_left(left: int | None, right: int | None) -> Mask:
    """The same from the other corner: query i stands at key position i, as in JAX's and Keras' windows."""
    return Mask(Window(_check.window_side("left", left), _check.window_side("right", right), from_start=True))


def prefix(length: int) -> Mask:
    """Every query sees the first `length` keys; `causal() | prefix(n)` is the mask of a prefix language model."""
    return Mask(Prefix(_check.prefix_length(length)))


def lengths(key_lengths: Any = None, query_lengths: Any = None) -> Mask:
    """Padding: only the first `key_lengths` keys are seen, and only the first `query_lengths` queries see; None is all.

    Shapes: one number an example, `(...)`: `(B,)` for arrays `(B, H, T, D)` and `(B, T, D)`, a number for `(T, D)`.
    """
    given = [each for each in (key_lengths, query_lengths) if each is not None]
    if not given:
        return Mask(Window(None, None))
    return Mask(Lengths(key_lengths is not None, query_lengths is not None), tuple(map(_clipped, given)))


def segments(query_ids: Any, key_ids: Any = None) -> Mask:
    """Documents packed into one sequence: a query sees the keys whose id equals its own.

    Shapes: `query_ids (..., T)`, `key_ids (..., S)` (default: `query_ids`), leading axes as for `lengths`; whole
    numbers of any size, of which JAX has 32 bits unless it is told otherwise.
    Cost: with ids that are runs, as in packing, the time is the sum of the squares of the documents' lengths.
    """
    return Mask(Segments(), _numbered(query_ids, query_ids if key_ids is None else key_ids))


def pairs(queries: Any = None, keys: Any = None) -> Mask:
    """Some queries see some keys, and nothing else is seen; `~pairs(...)` hides just these pairs, as in a knockout.

    Args:
        queries: Their positions, one, several or a slice; default all. They are counted as in all masks: the last query
            stands at the last key, query i at key position i + S - T.
        keys: Positions of keys, likewise.

    Raises:
        OutOfRangeError: A position below 0: how many there are is known when the mask is used.
    """
    return Mask(Pairs(*(_check.runs(name, each) for name, each in (("queries", queries), ("keys", keys)))))


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
