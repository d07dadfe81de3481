"""One module a framework, each with the same verbs; `protocol.py` lists them.

Dispatch is by the arrays that are given, among the frameworks that are already imported: a framework that
nobody imported cannot have made an array.
"""

from __future__ import annotations

import sys
from typing import Any

from regard._backends.arrays import to_numpy, unwrapped
from regard._backends.protocol import Backend
from regard.errors import DtypeError

__all__ = ["backend_named", "backend_of", "get_backend", "not_its_values", "to_numpy", "unwrapped"]
FRAMEWORKS = ("numpy", "torch", "jax", "tensorflow")


def backend_named(framework: str) -> Backend:
    """The verbs of a framework, which is imported with them; by statements, which `torch.compile` follows."""
    found: Any
    if framework == "torch":
        from regard._backends import torch as found
    elif framework == "jax":
        from regard._backends import jax as found
    elif framework == "tensorflow":
        from regard._backends import tensorflow as found
    else:
        from regard._backends import numpy as found
    return found


backend_named.autograph_info__ = None  # type: ignore[attr-defined]  # TensorFlow's AutoGraph leaves it alone, and is silent

_known: dict[type, Backend] = {}  # what the types of arrays seen so far belong to, since looking takes a while


def backend_of(array: Any) -> Backend | None:
    """The backend whose framework made this array, or None."""
    found = _known.get(type(array))
    if found is not None:
        return found
    for framework in FRAMEWORKS:
        if framework in sys.modules and backend_named(framework).is_array(array):
            _known[type(array)] = backend_named(framework)
            return _known[type(array)]
    return None


def not_its_values(who: str, name: str, obstacle: str) -> DtypeError:
    return DtypeError(f"{who}: need {name} as an array whose memory holds its values; got {obstacle}.")


def get_backend(who: str, **arrays: Any) -> Backend:
    """The one backend that all these arrays belong to.

    Raises:
        DtypeError: An argument is no array of a known framework, or the arrays come from several.
    """
    found = {name: backend_of(array) for name, array in arrays.items()}
    for name, backend in found.items():
        if backend is None:
            raise DtypeError(
                f"{who}: need {name} as an array of NumPy, PyTorch, JAX or TensorFlow; "
                f"got {type(arrays[name]).__name__}; convert it first, for example with numpy.asarray."
            )
    for name, backend in found.items():
        wrong = None if backend is None else backend.obstacle(arrays[name])
        if wrong is not None:
            raise not_its_values(who, name, wrong)
    names = {backend.name for backend in found.values() if backend is not None}
    if len(names) > 1:
        listed = ", ".join(f"{name}: {backend.name}" for name, backend in found.items() if backend is not None)
        raise DtypeError(f"{who}: need arrays of one framework; got {listed}; convert them to one of these.")
    return next(backend for backend in found.values() if backend is not None)
