"""What the conventions share."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from regard import _check
from regard._backends import backend_of
from regard._backends.protocol import Array
from regard.errors import DtypeError, UnsupportedError
from regard.masks.rules import Mask, boolean, corner

Arguments = dict[str, Any]


def converted(who: str, known: Mapping[str, Callable[..., Arguments]], of: str, arguments: Arguments) -> Arguments:
    """What one of several calls says."""
    if of not in known:
        raise UnsupportedError(
            f"{who}: need one of {', '.join(known)}; got {of!r}{_check.nearest(str(of), known) or '.'}"
        )
    names = _names(known[of])
    for name in arguments:
        if name not in names:
            others = [call for call in known if name in _names(known[call])]
            hint = f"; it is one of {others[0]}, to be named first." if others else _check.nearest(name, names) or "."
            raise UnsupportedError(f"{who}: need arguments of {of} among {', '.join(names)}; got {name!r}{hint}")
    return known[of](who, **arguments)


def _names(call: Callable[..., Arguments]) -> list[str]:
    """The arguments behind the name of who asks."""
    return [*inspect.signature(call).parameters][1:]


def said(*rules: Mask | None, **others: Any) -> Arguments:
    """Arguments of `regard.attention`: one mask of all these rules, and what else was given."""
    found = [rule for rule in rules if rule is not None]
    mask = functools.reduce(operator.and_, found) if found else None
    return {name: given for name, given in {"mask": mask, **others}.items() if given is not None}


def rule_if(asked: Any, rule: Callable[[], Mask]) -> Mask | None:
    return rule() if asked else None


def array_of(values: Any) -> Array:
    """Lists as an array of NumPy; None stays."""
    return values if values is None or backend_of(values) is not None else np.asarray(values)


def truth(values: Any) -> Array:
    """Booleans of what is not 0."""
    array = array_of(values)
    return array if array is None or _dtype(array) == "bool" else array != 0


def _dtype(array: Array) -> str:
    found = backend_of(array)
    assert found is not None
    return found.dtype_name(array)


def mask_or_bias(who: str, name: str, values: Any, hides: bool = False) -> tuple[Mask | None, Array]:
    """An array of Booleans as a mask, one of floating point as what is added."""
    array = array_of(values)
    rule = corner(array)
    if array is None or rule is not None:
        return rule, None
    dtype = _dtype(array)
    if dtype == "bool":
        return boolean(~array if hides else array), None
    if dtype not in _check.FLOATS:
        raise DtypeError(
            f"{who}: need {name} of Booleans or of floating point; got {dtype} {_check.spelled(array.shape)}; "
            "compare it first (mask != 0), or cast numbers to add."
        )
    return None, array
