"""A batch as a model answers it without an edit: its scores, and which attentions and positions there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from regard._backends import backend_of, to_numpy
from regard.errors import DataError, DtypeError, OutOfRangeError, ShapeError
from regard.models.editing import real_queries
from regard.models.places import is_at
from regard.models.seen import Seen


class Plain:
    """What the edits of one batch are made for.

    Attributes:
        scores: `(B,)`.
        numbers, names: of the attentions that are edited.
        seen: their weights.
        unseen: modules that look like attention, ran, and could not be seen.
    """

    def __init__(self, scores: np.ndarray, seen: Seen, wanted: list[int | str] | None, batch: Any) -> None:
        self.scores, self.unseen = scores, seen.unseen
        self.numbers = [
            number
            for number, name in enumerate(seen.names)
            if wanted is None or any(is_at(each, number, name) for each in wanted)
        ]
        if not self.numbers:
            raise OutOfRangeError(
                f"effects: need layers that ran, by a number below {len(seen)} or a name, one of "
                f"{list(dict.fromkeys(seen.names))}; got {wanted}."
            )
        self.seen = seen[self.numbers]
        self.names = self.seen.names
        self._batch = batch

    @property
    def heads(self) -> list[int]:
        """How many each attention has."""
        return [int(weights.shape[-3]) for weights in self.seen]

    @property
    def lengths(self) -> tuple[int, int]:
        """How many queries and keys all attentions have.

        Raises:
            ShapeError: They have not all the same, or not one row for each example.
        """
        found = {(*weights.shape[:-3], *weights.shape[-2:]) for weights in self.seen}
        if len(found) != 1 or len(one := next(iter(found))) != 3 or one[0] != len(self.scores):
            told = " and ".join(map(str, sorted(found)))
            raise ShapeError(
                f"effects: need attentions over the same positions of {len(self.scores)} examples, (B, T, S), for "
                f"tokens and pairs; got {told}; choose with layers='encoder.*', say."
            )
        return one[1:]

    @cached_property
    def keys(self) -> list[np.ndarray]:
        """The positions of each example that are real, as keys."""
        _, length = self.lengths
        given = self._batch.get("attention_mask") if isinstance(self._batch, Mapping) else None
        if given is not None and tuple(given.shape) == (len(self.scores), length):
            real = to_numpy(given) != 0
        else:
            known = real_queries(self.seen[0])
            shape = len(self.scores), length
            real = np.ones(shape, bool) if known is None else to_numpy(known).reshape(shape)
        return [np.flatnonzero(each) for each in real]

    @property
    def queries(self) -> list[np.ndarray]:
        """The same as queries."""
        queries, keys = self.lengths
        return self.keys if queries == keys else [np.arange(queries)] * len(self.scores)


def scored(found: Any) -> np.ndarray:
    """What a score gives, `(B,)`, in NumPy."""
    if backend_of(found) is None and not isinstance(found, (list, tuple)):
        raise DtypeError(f"effects: need a score that gives an array (B,); got {type(found).__name__}.")
    scores = np.asarray(to_numpy(found) if backend_of(found) is not None else found, np.float64)
    if scores.ndim != 1:
        raise ShapeError(
            f"effects: need a score of one number for each example, (B,); got {scores.shape}; leave the batch's axis "
            "as it is, as with reduction='none'."
        )
    if not np.isfinite(scores).all():
        raise DataError("effects: need scores that are finite; got infinite ones or NaN; use a logit, say.")
    return scores


def batches_of(inputs: Any) -> Iterator[Any]:
    """One batch, or several: a mapping by name, arrays by position, or one array."""
    if is_batch(inputs):
        yield inputs
        return
    if not isinstance(inputs, Iterable) or isinstance(inputs, str):
        raise DtypeError(f"effects: need inputs as a batch or several; got {type(inputs).__name__}; tokenize it first.")
    for batch in inputs:
        if not is_batch(batch):
            raise DtypeError(
                f"effects: need each batch as a mapping, an array or a tuple of arrays; got {type(batch).__name__}."
            )
        yield batch


def is_batch(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        or backend_of(value) is not None
        or (isinstance(value, tuple) and bool(value) and all(backend_of(each) is not None for each in value))
    )


Run = Callable[[], Any]
