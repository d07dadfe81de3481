"""How sure a score is: intervals of shares, and of whatever rows drawn again and again give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regard._intervals import RESAMPLES, percentiles, resampled_sums
from regard.finetuning.tasks import Score

__all__ = ["RESAMPLES", "drawn", "percentiles", "resampled_sums", "share", "wilson"]


def drawn(value: float, draws: np.ndarray, higher_is_better: bool = True) -> Score:
    """Return a score with the interval of what was drawn."""
    return Score(value, percentiles(draws), higher_is_better, draws)


def share(hits: Sequence[bool] | np.ndarray) -> Score:
    """Return the share of rows that are right, with Wilson's interval."""
    rows = np.asarray(hits, float)
    draws = resampled_sums(rows[:, None])[:, 0] / len(rows)
    return Score(float(rows.mean()), wilson(int(rows.sum()), len(rows)), draws=draws)


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, 1927)."""
    p = hits / trials
    centre = p + z**2 / (2 * trials)
    half = z * (p * (1 - p) / trials + z**2 / (4 * trials**2)) ** 0.5
    return max(0.0, (centre - half) / (1 + z**2 / trials)), min(1.0, (centre + half) / (1 + z**2 / trials))
