"""Whether an explanation says what the model does: take away what it calls important, and look.

A ranking of inputs (by attention, rollout, relevance, or anything) is tested by what happens to the model's score as
inputs are taken away from the most important on (deletion), and as they alone are kept (insertion), beside random
rankings of the same inputs, which cost as much. Attention by itself is not an explanation (Jain and Wallace 2019,
arXiv 1902.10186; Wiegreffe and Pinter 2019, arXiv 1908.04626); this says how far it is one, here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard._digits import digits
from regard.errors import ShapeError


@dataclass(frozen=True)
class Faithfulness:
    """The curves of a ranking beside those of random ones.

    Attributes:
        shares: which share of the inputs was taken away or kept, `(steps,)`.
        deletion, insertion: the score after each step, `(steps,)`.
        random_deletion, random_insertion: the same of random rankings, `(repeats, steps)`.
        whole: the score of all inputs.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray
    whole: float

    @property
    def comprehensiveness(self) -> float:
        """How far the score falls as the most important go, mean over the steps; high is faithful.

        Source: DeYoung et al. 2020, arXiv 1911.03429, section 4.
        """
        return float(self.whole - self.deletion.mean())

    @property
    def sufficiency(self) -> float:
        """How far the score is from the whole's with the most important alone, mean over the steps; low is faithful."""
        return float(self.whole - self.insertion.mean())

    def beyond_random(self, confidence: float = 0.95) -> dict[str, tuple[float, float, float]]:
        """By how much each measure is better than that of random rankings: mean, and the interval that holds most.

        Positive is better than random. The interval holds `confidence` of the random rankings (a permutation test):
        if it is above 0, the ranking is better than nearly all of them; if it holds 0, it cannot be told from chance.
        """
        tail = (1 - confidence) / 2
        found = {}
        for name, gains in (
            ("comprehensiveness", self.random_deletion.mean(1) - self.deletion.mean()),
            ("sufficiency", self.insertion.mean() - self.random_insertion.mean(1)),
        ):
            low, high = np.quantile(gains, (tail, 1 - tail))
            found[name] = (float(gains.mean()), float(low), float(high))
        return found

    def __str__(self) -> str:
        lines = []
        for name, (mean, low, high) in self.beyond_random().items():
            verdict = "better than random" if low > 0 else "worse than random" if high < 0 else "not told from random"
            value = getattr(self, name)
            lines.append(f"{name} {digits(value)}, beyond random {mean:+.3f} [{low:+.3f}, {high:+.3f}]: {verdict}")
        return "\n".join(lines)


def faithfulness(
    score: Callable[[np.ndarray], Any],
    importance: Any,
    shares: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 0.5),
    repeats: int = 100,
    seed: int = 0,
    removable: Any = None,
) -> Faithfulness:
    """Measures how faithful a ranking is.

    Args:
        score: Takes which inputs are kept, booleans `(cases, n)`, and gives the model's score of each case, such as
            the probability of the class that it predicts for the whole.
        importance: One number for each input, `(n,)`.
        shares: The shares of the inputs that are taken away or kept; at least one input is.
        repeats: How many random rankings, at least 2; from 40 on the interval of 95 % means something.
        seed: Of these.
        removable: Which inputs may go; special tokens stay. Default all.

    Cost: `2 (1 + repeats) len(shares) + 1` evaluations, all in one call of `score`.
    """
    ranked = np.asarray(importance, np.float64)
    if ranked.ndim != 1 or not len(ranked):
        raise ShapeError(f"faithfulness: need the importance of each input, (n,); got {ranked.shape}.")
    may_go = np.ones(len(ranked), bool) if removable is None else np.asarray(removable, bool)
    if may_go.shape != ranked.shape or not may_go.any() or repeats < 2:
        raise ShapeError(
            f"faithfulness: need removable of shape {ranked.shape} with an input that may go, and 2 repeats; got "
            f"{may_go.shape}, {int(may_go.sum())} inputs and {repeats} repeats."
        )
    places = np.flatnonzero(may_go)
    generator = np.random.default_rng(seed)
    orders = [places[np.argsort(-ranked[places], kind="stable")]]
    orders += [generator.permutation(places) for _ in range(repeats)]
    counts = [max(1, round(share * len(places))) for share in shares]
    cases = [np.ones(len(ranked), bool)]
    for order in orders:
        for count in counts:
            without, alone = np.ones(len(ranked), bool), ~may_go
            without[order[:count]] = False
            alone[order[:count]] = True
            cases += [without, alone]
    scores = np.asarray(score(np.stack(cases)), np.float64)
    curves = scores[1:].reshape(len(orders), len(counts), 2)
    return Faithfulness(
        np.asarray(shares), curves[0, :, 0], curves[0, :, 1], curves[1:, :, 0], curves[1:, :, 1], float(scores[0])
    )
