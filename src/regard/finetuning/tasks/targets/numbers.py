"""A number a row, such as a mean rating: what `classes` is for one label."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.tasks import Prediction, Score, Spec
from regard.finetuning.tasks.targets import intervals
from regard.inspection.report.content import Example, Finding, Table

if TYPE_CHECKING:
    from datasets import Dataset

PROBLEM = "regression"
METRIC = "pearson"
MOST = 1e30
"""Numbers that float32 holds, and what is computed of them."""


class Known(Spec):
    """What is known of the training data."""

    kind: Literal["regression"]
    labels: list[str]
    mean: float
    deviation: float


def learn_spec(splits: dict[str, Dataset], paths: dict[str, str], config: Config) -> tuple[Known, list[Finding]]:
    """Learn mean and deviation of the training numbers: the model learns multiples of the one around the other."""
    for name, split in splits.items():
        require_targets(split, paths[name], None)
    numbers = numbers_of(splits["train"])
    if numbers.std() == 0:
        raise DataError(
            f"{paths['train']}: need numbers that differ; got {numbers[0]:g} in each row; name another column in "
            "data.columns.label."
        )
    findings = [
        Finding("ok", f"{name}: {len(split)} rows, from {low:g} to {high:g}, mean {mean:.3g}")
        for name, split in splits.items()
        for low, high, mean in [(numbers_of(split).min(), numbers_of(split).max(), numbers_of(split).mean())]
    ]
    mean, deviation = float(numbers.mean()), float(numbers.std())
    return Known(kind="regression", labels=["value"], mean=mean, deviation=deviation), findings


def require_targets(split: Dataset, path: str, spec: Known | None) -> None:
    """Require a number in each row."""
    for number, cell in enumerate(split["label"], start=1):
        if is_number(cell) and abs(float(cell)) > MOST:
            raise DataError(
                f"{path}: need numbers up to {MOST:.2g}, which models compute with; got {cell!r} in row {number}; "
                "change the unit, or set options.kind to single."
            )
        if not is_number(cell):
            raise DataError(
                f"{path}: need a number in each row; got {cell!r} in row {number}; correct it, or set options.kind to "
                "single or multi."
            )


def is_meant_as_one(cell: Any) -> bool:
    """Tell whether a cell is written as a number, be it infinite or none."""
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return not isinstance(cell, bool)


def is_number(cell: Any) -> bool:
    """Tell whether a cell holds a finite number, or a text that says one."""
    try:
        return not isinstance(cell, bool | list) and math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def numbers_of(split: Dataset) -> np.ndarray:
    """Return the numbers of all rows."""
    return np.array([float(cell) for cell in split["label"]])


def tenths(split: Dataset) -> list[list[str]]:
    """Return for each row which tenth of all its number is in, equal numbers in the same."""
    numbers = numbers_of(split)
    edges = np.quantile(numbers, np.linspace(0, 1, 11)[1:-1])
    return [[str(part)] for part in np.searchsorted(edges, numbers, side="right")]


def shown_of(split: Dataset, spec: Known) -> list[str]:
    """Return the truth of each row in words."""
    return [f"{number:g}" for number in numbers_of(split)]


def targets(split: Dataset, spec: Known) -> list[float]:
    """Return the numbers, brought to mean 0 and deviation 1."""
    return ((numbers_of(split) - spec.mean) / spec.deviation).tolist()


def loss(rows: Dataset, spec: Known, config: Config) -> Callable[..., Any]:
    """Return the squared error, divided by all rows in a step."""

    def squared(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        total = (outputs["logits"].float().squeeze(-1) - labels.float()).square().sum()
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return squared


def tally(outputs: Any, spec: Known) -> np.ndarray:
    """Add up moments; the numbers have mean 0 and deviation 1 already."""
    truth, predicted = (np.asarray(x, float).reshape(-1) for x in (outputs.label_ids, outputs.predictions))
    return _products(truth, predicted).sum(0)


def validate(tally: np.ndarray, spec: Known) -> dict[str, float]:
    """Return Pearson's correlation, which, unlike Spearman's, is a matter of sums."""
    return {"pearson": _correlation(tally)}


def _ranks(numbers: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(numbers)


def _moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return for each row what its sums make a correlation of."""
    return _products(*((z - z.mean()) / (z.std() or 1.0) for z in (x.astype(float), y.astype(float))))


def _products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _correlation(sums: np.ndarray) -> Any:
    """Return Pearson's correlation, 0 where it has no value, from sums of `_moments` (..., 6)."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.maximum((n * xx - x**2) * (n * yy - y**2), 0))
    found = np.where(spread > 1e-9 * n**2, (n * xy - x * y) / np.maximum(spread, 1e-300), 0.0)
    return found if found.ndim else float(found)


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with the correlations of Spearman and Pearson and the mean absolute error; intervals are bootstrapped.

    Resamples of Spearman's keep the ranks of the whole sample.
    """
    truth, predicted = numbers_of(split), np.array([p["value"] for p in predictions], float)
    error = np.stack([np.ones_like(truth), np.abs(truth - predicted)], axis=-1)
    rows = {
        "spearman": (_moments(_ranks(truth), _ranks(predicted)), _correlation),
        "pearson": (_moments(truth, predicted), _correlation),
        "mean_absolute_error": (error, lambda sums: sums[..., 1] / sums[..., 0]),
    }
    return {
        name: intervals.drawn(
            float(of(each.sum(0))), of(intervals.resampled_sums(each)), higher_is_better=not name.endswith("error")
        )
        for name, (each, of) in rows.items()
    }


def prediction(model: Any, labels: Sequence[str], logits: np.ndarray) -> Prediction:
    """Return the number on its own scale, which the model's configuration knows."""
    scale = model.config.label_scale
    return {"value": round(float(logits[0]) * scale["deviation"] + scale["mean"], 6)}


def baselines(
    train: Dataset, test: Dataset, vectors: np.ndarray, others: np.ndarray, spec: Known
) -> dict[str, list[Prediction]]:
    """Predict the mean, and by ridge regression with its strength chosen by cross-validation."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13))).fit(vectors, numbers_of(train))
    return {
        "mean of the training rows": [{"value": spec.mean}] * len(test),
        "frozen embeddings + ridge regression": [{"value": float(value)} for value in ridge.predict(others)],
    }


def example(text: str, truth: str, answer: Prediction) -> Example:
    """Return a row for the report; how sure it is, a number does not say."""
    return Example(text, truth, f"{answer['value']:.3g}", math.nan)


def choose(examples: Sequence[Example], count: int, readable: Callable[[Example], bool]) -> list[Example]:
    """Take a third of the worst answers, the rest of the best; those that a person can read first."""
    ranked = sorted(mistakes(examples), key=lambda e: not readable(e))
    readable_ones = [e for e in ranked if readable(e)] or ranked
    worst = readable_ones[: count // 3]
    return worst + [e for e in reversed(readable_ones) if e not in worst][: count - len(worst)]


def mistakes(examples: Sequence[Example]) -> list[Example]:
    """Return the answers, the worst first."""
    return sorted(examples, key=lambda e: -abs(float(e.truth) - float(e.predicted)))


def right(examples: Sequence[Example], count: int) -> list[Example]:
    """Return the answers that come nearest."""
    return list(reversed(mistakes(examples)))[:count]


def fit(logits: np.ndarray, split: Dataset, spec: Known, config: Config) -> dict[str, Any]:
    """Fit nothing: a number says nothing of how sure it is."""
    return {}


def details(
    model: Any, split: Dataset, predictions: Sequence[Prediction], examples: Sequence[Example], spec: Known
) -> dict[str, Any]:
    """Return how predictions and errors vary with the truth."""
    truth, predicted = numbers_of(split), np.array([p["value"] for p in predictions], float)
    rows = []
    for part in np.array_split(np.argsort(truth, kind="stable"), min(5, len(truth))):
        t, p = truth[part], predicted[part]
        rows.append(
            [f"{t.min():.3g} to {t.max():.3g}", str(len(part)), f"{p.mean():.3g}", f"{np.abs(t - p).mean():.3g}"]
        )
    return {"tables": [Table("Predictions by truth", ["truth", "rows", "mean prediction", "mean error"], rows)]}
