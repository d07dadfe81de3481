"""Indices of weights, and positions among queries, keys and heads."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from regard._backends import backend_of
from regard._check.operands import plain
from regard._check.words import INTEGERS, and_
from regard.errors import DtypeError, OutOfRangeError, ShapeError, UnsupportedError


def index(who: str, name: str, at: Any, size: Any) -> Any:
    """An index of one axis: a slice of whole numbers, or an array of numbers from 0 for numbers or booleans."""
    if isinstance(at, slice):
        return _slice(who, name, at, size)
    found = _whole_numbers(who, name, at)
    size = known_size(who, size)
    if found.dtype.kind == "b":
        if found.shape != (size,):
            raise OutOfRangeError(f"{who}: need one boolean for each of {size} positions ({name}); got {found.shape}.")
        return np.flatnonzero(found)
    if found.size and (found.max() >= size or found.min() < -size):
        worst = found.max() if found.max() >= size else found.min()
        raise OutOfRangeError(f"{who}: need {name} below {size}; got {worst}.")
    return np.asarray(np.where(found < 0, found + size, found), np.int64)


def _whole_numbers(who: str, name: str, at: Any) -> np.ndarray:
    """A number or several, or several booleans, of any framework."""
    if type(at) is int:
        return np.asarray(at)
    found, known = backend_of(at), None
    if found is not None:
        plain(who, name, found, at)
    if isinstance(at, (list, tuple)) and not len(at):
        return np.zeros(0, np.int64)
    if found is None:
        with contextlib.suppress(Exception):  # whatever a stranger's own conversion raises
            known = np.asarray(at)
    elif found.dtype_name(at) in (*INTEGERS, "bool"):
        known = found.fetched(at)
        if known is None:
            raise DtypeError(f"{who}: need {name} as NumPy values while a function is traced; got a traced array.")
    if known is None or known.dtype.kind not in "iub" or (known.dtype.kind == "b" and known.ndim != 1):
        got = "" if known is None else f" {known.dtype} {known.shape}"
        raise DtypeError(
            f"{who}: need {name} as a number, a slice, or a list of numbers or booleans; got {type(at).__name__}{got}."
        )
    return known


def _slice(who: str, name: str, at: slice, size: Any) -> slice:
    parts = (at.start, at.stop, at.step)
    try:
        whole = slice(*(None if part is None else _whole_number(part) for part in parts))
    except Exception:  # a traced number has its own
        got = ", ".join(type(part).__name__ for part in parts)
        raise DtypeError(f"{who}: need {name} as a slice of whole numbers; got one of {got}.") from None
    if whole.step == 0:
        raise OutOfRangeError(f"{who}: need {name} as a slice whose step is not 0; got 0.")
    if whole != slice(None):
        known_size(who, size)
    return whole


def _whole_number(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    return operator.index(value)


def known_size(who: str, size: Any) -> int:
    if not isinstance(size, int):
        raise ShapeError(f"{who}: need an axis of known size to take a part of; got one that a graph knows as it runs.")
    return size


def extent(who: str, given: int, dots: int, most: int) -> None:
    """How many indices, and how often `...` is among them."""
    if dots > 1:
        raise OutOfRangeError(f"{who}: need ... at most once in an index; got it {dots} times.")
    if given > most:
        raise OutOfRangeError(f"{who}: need at most {most} indices; got {given}; leave some out.")


def lists(who: str, leading: Sequence[np.ndarray], last: Sequence[np.ndarray]) -> None:
    """Lists among the indices of the leading axes and of the last two: what they may be together."""
    if leading and last:
        raise UnsupportedError(
            f"{who}: need lists either of leading axes or of the last two; got both; index twice, leading axes first, "
            "or index weights.dense()."
        )
    shapes = [each.shape for each in (*leading, *last)]
    if len(last) == 2 and last[0].ndim == 2 and last[0].shape[1] == 1 and last[1].shape[:-1] in ((), (1,)):
        return  # a mesh, as np.ix_ makes it
    if any(len(shape) > 1 for shape in shapes):
        raise UnsupportedError(f"{who}: need lists of one dimension; got {and_(map(str, shapes))}.")
    if len({shape for shape in shapes if shape != (1,)}) > 1:
        raise OutOfRangeError(
            f"{who}: need lists of one length, which choose points together; got {and_(map(str, shapes))}; for every "
            "pair of them use numpy.ix_."
        )


def positions(who: str, name: str, chosen: Any, size: Any) -> np.ndarray:
    """Numbers from 0, several, of a number, a slice, or a list of numbers or booleans."""
    found = index(who, name, chosen, size)
    if isinstance(found, slice):
        return np.arange(known_size(who, size))[found]
    if found.ndim > 1:
        raise DtypeError(f"{who}: need {name} as a list of numbers, a slice or booleans; got {found.shape}.")
    return np.atleast_1d(found)
