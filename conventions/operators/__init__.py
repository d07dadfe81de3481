"""Attention of other libraries, each as one function of NumPy arrays, heads before positions.

`attend(query (B, H, T, D), key, value (B, G, S, D), *, ...)` hands on to the library what it is given, as the library
takes it: its parameters say what the operator has, among

    mask       Booleans (B, H, T, S), as they are: what True means is measured
    added      numbers of the same shape, as a mask where the operator takes one, else as a bias
    causal     the operator's own causal corner
    window     the operator's own window, of a size
    softcap    c, a number
    sinks      (H,)
    dropout    a probability, while training
    weights    True: it returns weights too
    logsumexp  True: it returns log-sum-exps too

A layer has projections that change nothing. What is not there is left out: then the question does not arise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Found:
    """What an operator gave: output `(B, H, T, D)`, and what else it returns."""

    output: Any = None
    weights: Any = None
    logsumexp: Any = None


@dataclass(frozen=True)
class Operator:
    """A function of the arrays, and what it is called.

    `grouped`: takes fewer key heads than query heads; `scaled`: has a scale of its own where none is given;
    `alone`: attends to the sequence itself, so that there are as many keys as queries; `heads`: how many it may have.
    """

    name: str
    attend: Callable[..., Any]
    grouped: bool = False
    scaled: bool = True
    alone: bool = False
    heads: int | None = None

    @property
    def several(self) -> bool:
        """Whether it may have several heads."""
        return self.heads is None


@dataclass
class Operators:
    """Those of a library: `@operators("name")` above a function adds one."""

    all: list[Operator] = field(default_factory=list)

    def __call__(self, name: str, **known: Any) -> Callable[[Callable], Callable]:
        def add(attend: Callable) -> Callable:
            self.all.append(Operator(name, attend, **known))
            return attend

        return add


def heads_last(array: np.ndarray) -> np.ndarray:
    """`(B, H, T, D)` as `(B, T, H, D)`, and back."""
    return np.ascontiguousarray(np.swapaxes(array, 1, 2))


def side_by_side(array: np.ndarray) -> np.ndarray:
    """`(B, H, T, D)` as `(B, T, H D)`."""
    return heads_last(array).reshape(array.shape[0], array.shape[2], -1)


def by_head(array: Any, heads: int) -> np.ndarray:
    """The reverse."""
    array = np.asarray(array)
    return heads_last(array.reshape(*array.shape[:2], heads, -1))
