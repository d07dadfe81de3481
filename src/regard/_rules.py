"""What masks and biases have in common: a form that says what the rule is, and the arrays that it speaks of.

A form is a frozen dataclass without arrays, so that two equal rules are equal and hash alike (JAX compiles
once for both); the arrays, its leaves, travel beside it and are cut into blocks like any other operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from regard._backends.protocol import Array, Backend
from regard._layout import Layout, Operand


@dataclass(frozen=True)
class Where:
    """Where a tile lies: `queries (t, 1)` and `keys (1, s)` are positions, and `shift` is S - T.

    `heads` are the first index and the number of indices along each axis before: batch, key heads, repeats.
    """

    queries: Array
    keys: Array
    shift: Any
    heads: tuple = ()


@dataclass(frozen=True)
class Span:
    """Rows `start` to `stop` of the queries, for which a mask is asked what they may see of S keys."""

    start: Any
    stop: Any
    shift: Any
    keys: Any


class Form(Protocol):
    """A rule without its arrays."""

    @property
    def leaves(self) -> int:
        """How many arrays the rule speaks of."""

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        """The caller's arrays in block space."""
