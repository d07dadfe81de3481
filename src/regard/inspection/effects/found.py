"""What was found of edits: their effects, how sure these are, and how well a gradient would have told them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regard._digits import digits
from regard._intervals import resampled_sums
from regard.models.summary import aligned

NUMBERS = ("effect", "low", "high", "estimate")


@dataclass(frozen=True, eq=False)
class Effects:
    """How much a score changes by each edit, mean over the inputs; below 0, the score falls without it.

    Attributes:
        of: "heads", "layers", "tokens" or "pairs".
        effect: the score with the edit minus that without: `(layers, heads)`, `(layers,)`, `(tokens,)` or `(pairs,)`;
            NaN where a layer has fewer heads than others.
        low, high: the 95 % interval of each effect, by resampling inputs; NaN where there are fewer than two.
        each: the same change for each input, `(N, *effect.shape)`; NaN where an input has no such token or pair.
        scores: the score of each input without an edit, `(N,)`.
        layers: the numbers of the attentions that were edited, in the order in which they run.
        names: their modules.
        pairs: the pairs, query and key, where they were asked for.
        estimate: what a gradient foretells of each effect; None where none was asked for or there is none.
        estimates: the same for each input, or None.
        unseen: modules that look like attention, ran, and could not be seen: no edit is theirs.
    """

    of: str
    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    each: np.ndarray
    scores: np.ndarray
    layers: list[int]
    names: list[str]
    pairs: list[tuple[int, int]] = field(default_factory=list)
    estimate: np.ndarray | None = None
    estimates: np.ndarray | None = None
    unseen: list[str] = field(default_factory=list)

    @property
    def agreement(self) -> float:
        """How alike estimate and effect rank the edits: Spearman's correlation, 1 for the same order; NaN without."""
        if self.estimate is None:
            return float("nan")
        known = np.isfinite(self.effect) & np.isfinite(self.estimate)
        return _correlation(_ranks(self.effect[known]), _ranks(self.estimate[known]))

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each edit, for `pandas.DataFrame` or a CSV file."""
        return [
            self._place(index)
            | {
                name: float(values[index])
                for name in NUMBERS
                if (values := getattr(self, name)) is not None  # no estimate
            }
            for index in np.ndindex(self.effect.shape)
            if not (self.of == "heads" and np.isnan(self.effect[index]))
        ]

    def _place(self, index: tuple[int, ...]) -> dict[str, Any]:
        """What an edit is about."""
        if self.of == "tokens":
            return {"token": index[0]}
        if self.of == "pairs":
            return dict(zip(("query", "key"), self.pairs[index[0]], strict=True))
        layer = {"layer": self.layers[index[0]], "name": self.names[index[0]]}
        return layer | {"head": index[1]} if self.of == "heads" else layer

    def __str__(self) -> str:
        rows = self.rows()
        columns = [column for column in rows[0] if column != "name"]
        lines = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
        return "\n".join([*aligned(lines), *self._notes()])

    def _notes(self) -> Iterator[str]:
        yield f"inputs: {len(self.scores)}; score without an edit: {digits(float(self.scores.mean()))}"
        if np.isfinite(self.agreement):
            yield f"rank correlation of estimate and effect: {self.agreement:.2f}"
        if self.unseen:
            yield f"not seen: {', '.join(self.unseen)}"


def _cell(value: float | int) -> str:
    return digits(value) if isinstance(value, float) else str(value)


def mean(each: np.ndarray) -> np.ndarray:
    """Over the inputs that have a value."""
    known = np.isfinite(each)
    with np.errstate(invalid="ignore"):
        return np.where(known, each, 0).sum(0) / known.sum(0)


def interval(each: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What holds 95 % of the means of as many inputs drawn again from `each`, `(N, *shape)`."""
    flat = each.reshape(len(each), -1)
    known = np.isfinite(flat)
    sums = resampled_sums(np.concatenate([np.where(known, flat, 0), known], 1))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of values that no input has
        low, high = np.nanquantile(sums[:, : flat.shape[1]] / sums[:, flat.shape[1] :], [0.025, 0.975], axis=0)
    alone = known.sum(0) < 2
    return tuple(np.where(alone, np.nan, bound).reshape(each.shape[1:]) for bound in (low, high))  # type: ignore


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, those of equal values their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if len(one) < 2 or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
