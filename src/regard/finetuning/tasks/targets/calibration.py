"""From logits to answers: a temperature and thresholds fitted on validation rows; how far probabilities are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from regard.finetuning.tasks import Prediction
from regard.inspection.report.content import Calibration

CALIBRATE = """`true`: make probabilities what they say, by a temperature fitted on validation.

Logits are divided by it, before predictions make probabilities of them (Guo et al. 2017, arXiv 1706.04599); it is saved
with the model as `config.calibration`, and whoever loads the model without Regard gets the same logits as ever.
"""
Calibrate = Annotated[bool, Field(description=CALIBRATE)]
BINS = 10
LIMITS = (0.05, 20.0)
"""Between which a temperature is sought."""
FEW = 5
"""Validation rows that must have a label, and as many that must not, for a threshold of its own."""


def fitted(model: Any) -> dict[str, Any]:
    """Return what was fitted and saved with a model: `temperature` and `thresholds`, if they were."""
    config = getattr(model, "config", None)
    return getattr(model, "calibration", None) or getattr(config, "calibration", None) or {}


def temperature_of(model: Any) -> float:
    """Return what a model's logits are divided by before they become probabilities."""
    return fitted(model).get("temperature", 1.0)


def threshold_of(model: Any, label: str) -> float:
    """Return the probability above which a model gives a label."""
    return fitted(model).get("thresholds", {}).get(label, 0.5)


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the temperature with the least cross-entropy, or None where there is none: all answers are right.

    Args:
        logits: `(rows, labels)`.
        truth: the number of each row's label `(rows,)`, or whether it has each label `(rows, labels)`.

    Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    several = truth.ndim == 2
    right = ((logits > 0) == truth).all() if several else (logits.argmax(-1) == truth).all()
    if right:
        return None

    def surprise(log_temperature: float) -> float:
        scaled = logits.astype(float) / np.exp(log_temperature)
        if several:
            return float(np.logaddexp(0, np.where(truth, -scaled, scaled)).mean())
        return float((np.logaddexp.reduce(scaled, -1) - scaled[np.arange(len(truth)), truth]).mean())

    found = minimize_scalar(surprise, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-6})
    return round(float(np.exp(found.x)), 6)


def fit_thresholds(probabilities: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Return for each label the threshold with the best F1, between two stated probabilities.

    A label that few rows have, or few have not, keeps 0.5; of thresholds that are as good, the nearest to 0.5 counts.
    """
    found = {}
    for label, stated, there in zip(labels, probabilities.T, truth.T, strict=True):
        enough = FEW <= there.sum() <= len(there) - FEW
        found[label] = round(_best_threshold(stated, there), 6) if enough else 0.5
    return found


def _best_threshold(stated: np.ndarray, there: np.ndarray) -> float:
    values = np.unique(stated)
    candidates = np.append((values[1:] + values[:-1]) / 2, 0.5)
    order = np.sort(stated)
    hits_above = np.append(np.cumsum(there[np.argsort(stated, kind="stable")][::-1])[::-1], 0)
    places = np.searchsorted(order, candidates, side="right")
    f1 = 2 * hits_above[places] / np.maximum(len(stated) - places + there.sum(), 1)
    best = candidates[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def reliability(stated: np.ndarray, right: np.ndarray) -> tuple[list[tuple[float, float, int]], float]:
    """Return stated probability, share of right answers and number of answers in each tenth, and the expected error.

    Source: Guo et al. 2017, arXiv 1706.04599, section 2; tenths of equal width.
    """
    from sklearn.calibration import calibration_curve

    shares, means = calibration_curve(right, stated, n_bins=BINS)
    places = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], stated)
    counts = np.bincount(places, minlength=BINS)
    counts = counts[counts > 0]
    error = float((counts * np.abs(shares - means)).sum() / counts.sum())
    bins = [(round(float(m), 6), round(float(s), 6), int(n)) for m, s, n in zip(means, shares, counts, strict=True)]
    return bins, error


def measure(model: Any, predictions: Sequence[Prediction], truth: np.ndarray) -> Calibration:
    """Measure how far probabilities are right: that of the label that is given, or those of all labels.

    Args:
        model: which was asked.
        predictions: its answers, with the probabilities of all labels in order.
        truth: as for `fit_temperature`.
    """
    probabilities = np.array([list(p["probabilities"].values()) for p in predictions])
    temperature = fitted(model).get("temperature")
    bins, error = reliability(*_outcomes(probabilities, truth))
    before = None
    if temperature is not None:
        before = reliability(*_outcomes(_without(probabilities, temperature, truth.ndim == 2), truth))[1]
    return Calibration(bins, error, temperature, before, "answers" if truth.ndim == 1 else "labels")


def _outcomes(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if truth.ndim == 2:
        return probabilities.ravel(), truth.ravel()
    best = probabilities.argmax(-1)
    return probabilities.max(-1).clip(0, 1), best == truth


def _without(probabilities: np.ndarray, temperature: float, several: bool) -> np.ndarray:
    """What the probabilities would be at a temperature of 1."""
    odds = probabilities**temperature
    return odds / (odds + (1 - probabilities) ** temperature if several else odds.sum(-1, keepdims=True))
