"""Parts of lazy weights: what an index says, what it takes of each array, and how values meet heads, in block space.

An index means what it means in NumPy: a slice keeps its axis, a number takes it away, several lists choose points
together; the points' axis stands where the first of numbers and lists stood if these are side by side, else in front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard import _check
from regard._backends.protocol import Array
from regard._layout import Layout, Operand

WHO = "AttentionWeights"
LISTED = ("list", "second list")  # names for the axes that lists make of rows and columns


@dataclass(frozen=True)
class Selection:
    """What is taken of each leading axis: a number, several, or None for all; those of `together` are points.

    `order` names the axes of the result by those that they come from, points by the first of theirs, None a new one.
    """

    chosen: tuple[np.ndarray | None, ...]
    order: tuple[int | None, ...]
    together: tuple[int, ...] = ()

    @property
    def everything(self) -> bool:
        return all(several is None for several in self.chosen) and None not in self.order

    def sizes(self, outer: Sequence[Any]) -> tuple:
        """The leading axes of the result."""
        return tuple(1 if axis is None else _length(self.chosen[axis], outer[axis]) for axis in self.order)


@dataclass(frozen=True)
class Index:
    """An index, read. Without rows and columns what it gives is lazy; else `axes` names those of the tile as it is
    computed, and `order` as it is wanted.
    """

    leading: Selection
    rows: Any = None
    columns: Any = None
    points: bool = False
    axes: tuple = ()
    order: tuple = ()


def read(index: Any, shape: tuple) -> Index:
    """What an index says of weights of this shape.

    Raises:
        OutOfRangeError: An index beyond its axis, or too many.
        DtypeError: What is no index.
        UnsupportedError: Lists both of leading axes and of the last two, or of several dimensions.
    """
    outer = len(shape) - 2
    entries, touched = _expanded(index if isinstance(index, tuple) else (index,), outer)
    found = {axis: _check.index(WHO, _name(axis, outer), at, shape[axis]) for axis, at in entries if axis is not None}
    lists = [axis for axis, at in found.items() if not isinstance(at, slice) and at.ndim]
    leading, last = [axis for axis in lists if axis < outer], [axis for axis in lists if axis >= outer]
    _check.lists(WHO, [found[axis] for axis in leading], [found[axis] for axis in last])
    mesh = len(last) == 2 and found[outer].ndim == 2
    if mesh:
        found.update({axis: found[axis].reshape(-1) for axis in last})
    elif len(lists) > 1:
        found.update(zip(lists, np.broadcast_arrays(*(found[axis] for axis in lists)), strict=True))
    of_lists = tuple(leading[:1]) or LISTED[: 1 + mesh]
    order = _order(entries, found, of_lists if lists else None)
    chosen: tuple[Any, ...] = tuple(_chosen(found[axis], shape[axis]) for axis in range(outer))
    together = tuple(leading) if len(leading) > 1 else ()
    if not touched:
        return Index(Selection(chosen, tuple(axis for axis in order if axis is None or axis in range(outer)), together))
    kept = tuple(
        axis for axis in range(outer) if (chosen[axis] is None or chosen[axis].ndim) and axis not in together[1:]
    )
    points = len(last) == 2 and not mesh
    rows, columns = (_positions(found[axis], shape[axis]) for axis in (outer, outer + 1))
    listed = iter(LISTED)
    axes = [
        next(listed) if axis in last else axis
        for axis in (outer, outer + 1)
        if (isinstance(found[axis], slice) or axis in last) and not (points and axis > outer)
    ]
    return Index(Selection(chosen, kept, together), rows, columns, points, (*kept, *axes), order)


_REST = slice(None)  # of an axis that an index does not speak of


def _expanded(index: tuple, outer: int) -> tuple[list[tuple], bool]:
    """An index as pairs of axis and what is taken of it, dots as (None, ...) and new axes as (None, None).

    Beside it, whether it speaks of the last two axes.
    """
    dots = sum(at is Ellipsis for at in index)
    given = sum(at is not None for at in index) - dots
    _check.extent(WHO, given, dots, outer + 2)
    entries: list[tuple] = []
    axis = 0
    for at in index if dots else (*index, Ellipsis):
        if at is None or at is Ellipsis:
            missing = 0 if at is None else outer + 2 - given
            entries += [(None, at), *((axis + number, _REST) for number in range(missing))]
            axis += missing
        else:
            entries.append((axis, slice(None) if isinstance(at, slice) and at == _REST else at))
            axis += 1
    last = touched = False
    for axis, at in entries:
        last = last or (axis is not None and axis >= outer)
        touched = touched or (last and at is not _REST and at is not Ellipsis)
    return entries, touched


def _order(entries: list[tuple], found: dict, of_lists: tuple | None) -> tuple:
    """The axes of the result, in order; None for `of_lists` where there are no lists."""
    kept: list = []
    began: int | None = None  # where numbers and lists stand
    ended = apart = False
    for axis, at in entries:
        if axis is not None and not isinstance(found[axis], slice):
            apart = apart or ended
            began = len(kept) if began is None else began
            continue
        ended = began is not None
        if at is not Ellipsis:
            kept.append(axis)
    if of_lists is None:
        return tuple(kept)
    place = 0 if apart or began is None else began
    return (*kept[:place], *of_lists, *kept[place:])


def _name(axis: int, outer: int) -> str:
    return f"the index of axis {axis}" if axis < outer else ("query indices", "key indices")[axis - outer]


def _chosen(at: Any, size: Any) -> np.ndarray | None:
    """Numbers, or None for all."""
    if not isinstance(at, slice):
        return at
    whole = at == _REST or (isinstance(size, int) and at.indices(size) == (0, size, 1))
    return None if whole else np.arange(size)[at]


def _positions(at: Any, size: Any) -> np.ndarray | range:
    """Of a slice a range, which `torch.compile` can look at."""
    return range(_check.known_size(WHO, size))[at] if isinstance(at, slice) else at


def _length(chosen: np.ndarray | None, size: Any) -> Any:
    return size if chosen is None else len(chosen)


def taken(xp: Any, operand: Operand, queries: np.ndarray | range, keys: np.ndarray | range) -> Array:
    """Some rows and columns of an operand."""
    array, axes = operand.array, operand.axes
    for axis, chosen in ((len(axes) - 2, queries), (len(axes) - 1, keys)):
        if axes[axis]:
            array = _along_axis(xp, array, chosen, axis)
    return array


def _along_axis(xp: Any, array: Array, chosen: np.ndarray | range | None, axis: int) -> Array:
    """A slice where the indices are consecutive (nothing is copied then), else a gather."""
    if chosen is None:
        return array
    if isinstance(chosen, range):
        if chosen.step == 1 and len(chosen):
            return array[(slice(None),) * axis + (slice(chosen.start, chosen.stop),)]
        chosen = np.asarray(chosen, np.int64)
    chosen = np.atleast_1d(chosen)
    if len(chosen) and chosen[-1] - chosen[0] + 1 == len(chosen) and (np.diff(chosen) == 1).all():
        return array[(slice(None),) * axis + (slice(int(chosen[0]), int(chosen[-1]) + 1),)]
    return xp.take(array, xp.asarray(chosen, array), axis)


def select(xp: Any, place: Layout, operand: Operand, selection: Selection) -> Operand:
    """Some of each leading axis of an operand; heads become key heads of their own."""
    chosen: list[Any] = list(selection.chosen) or [np.array(0)]  # two-dimensional weights have a head that nobody sees
    heads, together = len(chosen) - 1, selection.together
    features = len(xp.shape(operand.array)) - len(operand.axes)
    array, varies = _heads_in_one(xp, place, operand)
    if operand.axes[heads] and not operand.axes[heads + 1] and place.repeats != 1:  # the same for all its repeats
        of_head = np.arange(place.lead[-1] * place.repeats) if chosen[heads] is None else chosen[heads]
        chosen[heads] = of_head // place.repeats
    for axis, several in enumerate(chosen):
        if varies[axis] and axis not in together:
            array = _along_axis(xp, array, several, axis)
    axes = list(range(len(chosen)))
    if together:
        array, axes = _points(xp, array, chosen, [axis for axis in together if varies[axis]], together)
    kept = [axis for axis in axes if axis in selection.order and axis is not None]
    sizes = xp.shape(array)
    array = xp.reshape(array, (*(sizes[axes.index(axis)] for axis in kept), *sizes[len(axes) :]))
    return place.operand(xp, arranged(xp, array, kept, selection.order or (None,)), features)


def _heads_in_one(xp: Any, place: Layout, operand: Operand) -> tuple[Array, list[bool]]:
    """An operand `(*batch, H, 1, ...)`, and along which of its leading axes it varies."""
    array, axes = operand.array, operand.axes
    groups, repeats = len(place.lead) - 1, len(place.lead)
    if axes[repeats]:
        sizes = xp.shape(array)
        full = (*sizes[:groups], place.lead[-1], *sizes[repeats:])
        one = (*sizes[:groups], place.lead[-1] * place.repeats, 1, *sizes[repeats + 1 :])
        array = xp.reshape(xp.broadcast_to(array, full), one)
    return array, [*axes[:groups], axes[groups] or axes[repeats]]


def _points(xp: Any, array: Array, chosen: Sequence, along: list[int], together: tuple) -> tuple[Array, list]:
    """Points of some axes, in front, with the other axes behind; beside it, the names of the leading axes."""
    others = [axis for axis in range(len(chosen)) if axis not in along]
    array = arranged(xp, array, list(range(len(chosen))), (*along, *others))
    sizes = xp.shape(array)
    flat = xp.reshape(array, (math.prod(sizes[: len(along)]), *sizes[len(along) :]))
    if along:
        places = np.ravel_multi_index([chosen[axis] for axis in along], sizes[: len(along)])
        flat = _along_axis(xp, flat, places, 0)
    return flat, [together[0], *(None if axis in together else axis for axis in others)]


def arranged(xp: Any, array: Array, axes: Sequence, order: Sequence) -> Array:
    """An array, whose first axes have these names, with them in this order; None is a new one."""
    axes = list(axes)
    for place, name in enumerate(name for name in order if name is not None):
        for at in range(axes.index(name), place, -1):
            array = xp.swapaxes(array, at - 1, at)
            axes[at - 1], axes[at] = axes[at], axes[at - 1]
    if None not in order:
        return array
    sizes = iter(xp.shape(array))
    return xp.reshape(array, (*(1 if name is None else next(sizes) for name in order), *sizes))


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
