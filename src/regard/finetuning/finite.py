"""No answer from no number: what a model gives for each input must be finite before it is made an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from regard.errors import RegardError

SHOWN = 5


class NotFiniteError(RegardError):
    """A model gives NaN or infinity for some inputs.

    Attributes:
        rows: their numbers, from 1.
        of: how many inputs there were.
    """

    def __init__(self, rows: Sequence[int], of: int) -> None:
        self.rows, self.of = list(rows), of
        shown = ", ".join(map(str, self.rows[:SHOWN])) + (", ..." if len(self.rows) > SHOWN else "")
        super().__init__(
            f"model: need finite numbers for each input; got NaN or infinity for {len(self.rows)} of {of} (number "
            f"{shown}); nothing was answered: look at these rows, or train again with a lower train.learning_rate or "
            "train.precision float32."
        )


def require_finite(outputs: Iterable[Any]) -> None:
    """Raise NotFiniteError if what a model gives for some inputs, an array for each, is NaN or infinite."""
    finite = [bool(np.isfinite(np.asarray(each, float)).all()) for each in outputs]
    require_all(finite)


def require_all(finite: Sequence[bool]) -> None:
    """Raise NotFiniteError unless it is true for each input that what the model gives for it is finite."""
    wrong = [number for number, fine in enumerate(finite, start=1) if not fine]
    if wrong:
        raise NotFiniteError(wrong, len(finite))


class Witness:
    """Sees the scores of each token that a model writes, and remembers the inputs for which they were no numbers.

    Args:
        inputs: how many there are in the batch.
    """

    def __init__(self, inputs: int) -> None:
        self.finite = [True] * inputs

    def __call__(self, written: Any, scores: Any) -> Any:
        """Look at scores `(inputs times beams, tokens)`; minus infinity is what others forbid."""
        wrong = (scores.isnan() | scores.isposinf()).any(-1)
        beams = max(len(scores) // len(self.finite), 1)
        for place in wrong.nonzero()[:, 0].tolist():
            self.finite[place // beams] = False
        return scores
