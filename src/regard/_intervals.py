"""How sure a mean is: what rows drawn again and again give (the bootstrap)."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000


def resampled_sums(rows: np.ndarray, chunk: int = 100) -> np.ndarray:
    """Draw the sums of rows `(n, k)` as other rows from the same source would give them: `(RESAMPLES, k)`."""
    rng, n = np.random.default_rng(0), len(rows)
    return np.concatenate([rng.multinomial(n, np.full(n, 1 / n), chunk) @ rows for _ in range(RESAMPLES // chunk)])


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Return the interval that holds 95 % of the values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
