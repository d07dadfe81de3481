"""What is done to arrays before it is known whose they are."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def native(value: Any) -> Any:
    """An array of NumPy with its bytes in the machine's order; all else as it is."""
    if not isinstance(value, np.ndarray) or value.dtype.isnative:
        return value
    return value.astype(value.dtype.newbyteorder("="))


native.autograph_info__ = None  # type: ignore[attr-defined]


def unwrapped(value: Any) -> Any:
    """A variable of Keras as its framework's array; all else as it is."""
    variable = getattr(sys.modules.get("keras"), "Variable", None)
    return value.value if variable is not None and isinstance(value, variable) else value


unwrapped.autograph_info__ = None  # type: ignore[attr-defined]


def to_numpy(array: Any) -> Any:
    """Any framework's array in NumPy: off its device, without its gradient, in a type that NumPy has."""
    if hasattr(array, "detach"):  # PyTorch's
        array = array.detach().cpu()
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array
    return np.asarray(array)
