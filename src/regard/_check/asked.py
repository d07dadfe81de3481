"""What weights are asked, multiplied with and taken for."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

from regard._backends import backend_of
from regard._backends.protocol import Array, Backend
from regard._check.operands import fits_examples, of_examples, plain
from regard._check.words import FLOATS, INTEGERS, differ, nearest, ours, spelled
from regard._layout import Layout
from regard.errors import DtypeError, ShapeError, UnsupportedError


def no_name(who: str, name: str, framework: str) -> str:
    return f"{who}: need a name of lazy weights or of {framework}; got {name!r}; weights.dense() is the array itself."


def no_values(who: str) -> DtypeError:
    return DtypeError(
        f"{who}: need weights with values to become an array of NumPy; got those of a function that is traced or on a "
        "device without numbers; ask your questions there, or return them."
    )


def no_truth_of_several(who: str, shape: tuple) -> DtypeError:
    return DtypeError(
        f"{who}: need a single weight to be true or false; got {spelled(shape)}; use .any() or .all() of "
        "weights.dense()."
    )


def not_written(who: str) -> UnsupportedError:
    return UnsupportedError(
        f"{who}: need weights as they are, since they are computed; got an assignment; use .dense()."
    )


def sets_of_keys(who: str, xp: Backend, place: Layout, keys: Array) -> None:
    """Booleans `(..., S)`, a set of keys for each example."""
    found = backend_of(keys)
    if found is None or found.name not in (xp.name, "numpy"):
        got = type(keys).__name__ if found is None else found.name
        raise DtypeError(f"{who}: need keys as an array of {ours(xp)}; got {got}; convert it.")
    plain(who, "keys", found, keys)
    dtype, shape = found.dtype_name(keys), found.shape(keys)
    if dtype != "bool":
        raise DtypeError(f"{who}: need a set of keys for each example as booleans; got {dtype} {spelled(shape)}.")
    full = of_examples(place, (place.keys,))
    if not fits_examples(shape, full, 1):
        raise ShapeError(
            f"{who}: need a set of keys for each example, {spelled(full)}; got {spelled(shape)}; reshape it, or leave "
            "leading axes out."
        )


def heads_of_values(who: str, place: Layout, got: Sequence) -> None:
    """Leading axes of what weights are multiplied with: they broadcast, with heads for queries, for keys, or one."""
    heads = place.outer[-1] if place.outer else 1
    own = [1, heads, place.lead[-1]]
    lead = (*((1,) * (len(place.outer) - len(got) + 2)), *got[:-2])
    fits = len(got) - 2 <= max(len(place.outer), 0) and all(
        not differ(size, full) or size == 1 for size, full in zip(lead[:-1], place.outer[:-1], strict=False)
    )
    if not fits or (lead and isinstance(lead[-1], int) and isinstance(heads, int) and lead[-1] not in own):
        raise ShapeError(
            f"{who} @ values: need leading axes that broadcast to {spelled(place.outer)}; got values {spelled(got)}."
        )


def multiplied(who: str, xp: Backend, values: Array, like: Array, size: Any, letter: str) -> Array:
    """What weights are multiplied with, as an array of their framework, on their device."""
    found = backend_of(values)
    if found is None or found.name not in (xp.name, "numpy"):
        raise DtypeError(
            f"{who} @ values: need an array of {xp.name}; got {type(values).__name__ if found is None else found.name}."
        )
    plain(f"{who} @ values", "values", found, values)
    _multiplies(f"{who} @ values", found, values)
    got = tuple(found.shape(values))
    if len(got) < 2 or differ(got[-2], size):
        raise ShapeError(
            f"{who} @ values: need values (..., {letter}, X) with {letter} = {size if isinstance(size, int) else '?'}; "
            f"got {spelled(got)}."
        )
    here, there = xp.device_name(like), found.device_name(values)
    if found.name == xp.name and here != there:
        raise DtypeError(f"{who} @ values: need values on {here}, where the weights are; got {there}; move them.")
    return _in_floats(xp, xp.asarray(values, like), like)


def _in_floats(xp: Backend, values: Array, like: Array) -> Array:
    """Whole numbers and booleans in floating point, in which sums by weights are."""
    if xp.dtype_name(values) in FLOATS:
        return values
    return xp.cast(values, "float64" if xp.dtype_name(like) == "float64" else "float32")


def _multiplies(who: str, found: Backend, values: Array) -> None:
    dtype = found.dtype_name(values)
    if dtype not in (*FLOATS, *INTEGERS, "bool"):
        raise DtypeError(f"{who}: need values of one of the types {', '.join(FLOATS)}; got {dtype}; cast them.")


def before(who: str, xp: Backend, values: Array, like: Array) -> Array:
    """What is multiplied with weights from the left, as an array of their framework."""
    found = backend_of(values)
    if found is None or found.name not in (xp.name, "numpy") or len(found.shape(values)) < 2:
        got = type(values).__name__ if found is None else f"{found.name} {spelled(found.shape(values))}"
        raise DtypeError(f"values @ {who}: need values (..., X, T) of {xp.name}; got {got}.")
    plain(f"values @ {who}", "values", found, values)
    _multiplies(f"values @ {who}", found, values)
    return _in_floats(xp, xp.asarray(values, like), like)


def pulled_back(who: str, xp: Backend, place: Layout, value: Array, gradient: Array) -> None:
    """A value for each key, and the gradient of an output for each query, of one width."""
    for name, array in (("value", value), ("gradient", gradient)):
        found = backend_of(array)
        if found is None or found.name != xp.name:
            got = type(array).__name__ if found is None else found.name
            raise DtypeError(f"{who}: need {name} as an array of {xp.name}; got {got}.")
        plain(who, name, found, array)
    values, gradients = xp.shape(value), xp.shape(gradient)
    if (
        min(len(values), len(gradients)) < 2
        or differ(values[-2], place.keys)
        or differ(gradients[-2], place.queries)
        or differ(values[-1], gradients[-1])
    ):
        raise ShapeError(
            f"{who}: need value (..., S, E) and gradient (..., T, E) with S = {place.keys}, T = {place.queries}; got "
            f"{spelled(values)} and {spelled(gradients)}."
        )


def count(who: str, name: str, number: Any, axis: str, size: Any) -> int:
    if not isinstance(number, numbers.Integral) or isinstance(number, bool):
        raise DtypeError(f"{who}: need {name} as a whole number; got {type(number).__name__}.")
    if int(number) < 1 or (isinstance(size, int) and int(number) > size):
        raise ShapeError(f"{who}: need {name} from 1 to {axis} = {size}; got {number}.")
    return int(number)


def pool(who: str, rows: Any, columns: Any, reduce: str, queries: Any, keys: Any) -> None:
    count(f"{who}.pool", "rows", rows, "T", queries)
    count(f"{who}.pool", "columns", columns, "S", keys)
    if not isinstance(reduce, str) or reduce not in ("mean", "max"):
        raise UnsupportedError(f"{who}.pool: need reduce 'mean' or 'max'; got {reduce!r}.")


def rectangles(who: str, sizes: Any) -> tuple:
    """What `pool` is asked with among other questions."""
    if not isinstance(sizes, (tuple, list)) or len(sizes) not in (2, 3):
        got = f"{len(sizes)} of them" if isinstance(sizes, (tuple, list)) else type(sizes).__name__
        raise DtypeError(f"{who}: need pool as (rows, columns) or (rows, columns, reduce); got {got}.")
    return tuple(sizes)


def most_bytes(who: str, limit: Any) -> None:
    if not isinstance(limit, numbers.Real) or isinstance(limit, bool) or math.isnan(limit):
        got = limit if isinstance(limit, float) else type(limit).__name__
        raise DtypeError(f"{who}: need max_bytes as a number of bytes; got {got}; use math.inf for no limit.")


def pairs(who: str, pairs: Sequence[tuple]) -> None:
    """Questions with their arguments, among names of others."""
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise DtypeError(
                f"{who}: need a question with an argument as a pair, such as ('topk', 8) or ('pool', (64, 64)); "
                f"got a tuple of {', '.join(type(each).__name__ for each in pair) or 'nothing'}."
            )


def questions(who: str, names: Sequence[str], parameters: Any, simple: Iterable[str], others: Sequence[str]) -> None:
    known = [*simple, *others]
    if isinstance(names, str) or not isinstance(names, Iterable):
        got = f"the name {names!r} alone" if isinstance(names, str) else type(names).__name__
        raise DtypeError(f"{who}: need ask as several names, such as ('entropy', 'received'); got {got}.")
    for name in (*names, *parameters):
        if name not in known:
            raise UnsupportedError(
                f"{who}.ask: need questions among {', '.join(known)}; got {name!r}{nearest(str(name), known) or '.'}"
            )
    for name in names:
        if name in others:
            written = f"('{name}', ...)" if who == "attention" else f"{name}=..."
            raise UnsupportedError(f"{who}.ask: need {name} with its argument; got its name alone; write {written}.")
    for name in parameters:
        if name not in others:
            raise UnsupportedError(f"{who}.ask: need {name} by its name alone; got an argument; write {name!r}.")
