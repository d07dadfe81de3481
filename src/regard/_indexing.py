"""Parts of lazy weights: what an index says, what it takes of each array, and how values meet heads, in block space."""

from __future__ import annotations

from typing import Any

import numpy as np

from regard import _check
from regard._backends.protocol import Array
from regard._layout import Layout, Operand
from regard.errors import OutOfRangeError


def taken(xp: Any, operand: Operand, queries: np.ndarray, keys: np.ndarray) -> Array:
    """Some rows and columns of an operand."""
    array, axes = operand.array, operand.axes
    for axis, chosen in ((len(axes) - 2, queries), (len(axes) - 1, keys)):
        if axes[axis]:
            array = _along_axis(xp, array, chosen, axis)
    return array


def _along_axis(xp: Any, array: Array, chosen: np.ndarray, axis: int) -> Array:
    """A slice where the indices are consecutive (nothing is copied then), else a gather."""
    if len(chosen) and chosen[-1] - chosen[0] + 1 == len(chosen) and (np.diff(chosen) == 1).all():
        return array[(slice(None),) * axis + (slice(int(chosen[0]), int(chosen[-1]) + 1),)]
    return xp.take(array, xp.asarray(chosen, array), axis)


def select(xp: Any, place: Layout, operand: Operand, leading: list[np.ndarray]) -> Operand:
    """Some of each leading axis of an operand, those of a number gone; heads become key heads of their own."""
    array, axes = operand.array, operand.axes
    *batch, heads = map(np.atleast_1d, leading)
    groups, repeats = len(place.lead) - 1, len(place.lead)
    features = len(xp.shape(array)) - len(axes)
    for axis, chosen in enumerate(batch):
        if axes[axis]:
            array = _along_axis(xp, array, chosen, axis)
    sizes = xp.shape(array)
    if axes[repeats]:
        full = (*sizes[:groups], place.lead[-1], *sizes[repeats:])
        together = (*sizes[:groups], place.lead[-1] * place.repeats, 1, *sizes[repeats + 1 :])
        array = xp.reshape(xp.broadcast_to(array, full), together)
        array = _along_axis(xp, array, heads, groups)
    elif axes[groups]:
        array = _along_axis(xp, array, heads // place.repeats, groups)
    sizes = xp.shape(array)
    kept = [size for size, several in zip(sizes, leading, strict=False) if several.ndim]
    array = xp.reshape(array, (*(kept or [1]), *sizes[len(leading) :]))
    return place.operand(xp, array, features)


def split_index(index: Any, outer: int) -> tuple[tuple, tuple | None]:
    """What an index says of the leading axes, and of the last two (None: nothing)."""
    index = index if isinstance(index, tuple) else (index,)
    explicit = len(index)
    dots = [place for place, at in enumerate(index) if at is Ellipsis]
    if dots:
        before, after = index[: dots[0]], index[dots[0] + 1 :]
        explicit = len(before) if not after else outer + 2
        index = (*before, *(slice(None),) * max(outer + 2 - len(before) - len(after), 0), *after)
    if len(index) > outer + 2:
        raise OutOfRangeError(f"AttentionWeights: need at most {outer + 2} indices; got {len(index)}; leave some out.")
    leading, tile = index[:outer], index[outer:]
    if all(isinstance(at, slice) and at == slice(None) for at in leading):
        leading = ()
    return leading, (*tile, slice(None))[:2] if explicit > outer else None


def filled(leading: tuple, outer: tuple) -> tuple:
    return (*leading, *(slice(None),) * (len(outer) - len(leading)))


def for_heads(xp: Any, place: Layout, values: Array, keys: bool) -> Operand:
    """`(..., S, X)` or `(..., T, X)` with one set of values for each query head, each key head, or all."""
    sizes = xp.shape(values)
    _check.heads_of_values("AttentionWeights" if keys else "AttentionWeights.T", place, sizes)
    own = sizes[-3] if len(sizes) > 2 else 1
    heads = place.outer[-1] if place.outer else 1
    if isinstance(own, int) and own not in (1, heads):
        array = place.key(xp, values).array  # (*lead, 1, 1, S, X)
        lengths = (1, xp.shape(array)[-2]) if keys else (xp.shape(array)[-2], 1)
        array = xp.reshape(array, (*xp.shape(array)[:-3], *lengths, xp.shape(array)[-1]))
    else:
        array = place.from_heads(xp, values, 2)  # (*lead, R, S, X)
        *lead, length, width = xp.shape(array)
        array = xp.reshape(array, (*lead, *((1, length) if keys else (length, 1)), width))
    return place.operand(xp, array, 1)
