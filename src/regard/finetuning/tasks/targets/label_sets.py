"""Any number of labels a row, such as the topics of an article: what `classes` is for one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.tasks import Prediction, Score, Spec
from regard.finetuning.tasks.targets import calibration, classes, intervals
from regard.inspection.report.content import Example, Finding

if TYPE_CHECKING:
    from datasets import Dataset

PROBLEM = "multi_label_classification"
METRIC = "macro_f1"


class Known(Spec):
    """What is known of the training data."""

    kind: Literal["multi"]
    labels: list[str]


def learn_spec(splits: dict[str, Dataset], paths: dict[str, str], config: Config) -> tuple[Known, list[Finding]]:
    """Name the labels of the training rows; each must be absent from some."""
    train = splits["train"]
    for name, split in splits.items():
        require_targets(split, paths[name], None)
    counts = Counter(label for row in sets_of(train) for label in row)
    classes.require_few(len(counts), paths["train"])
    if not counts or max(counts.values()) == min(counts.values()) == len(train):
        got = classes.quoted([*counts]) or "none"
        raise DataError(
            f"{paths['train']}: need labels that some rows have and others have not; got {got} in each row; name "
            "another column in data.columns.label."
        )
    spec = Known(kind="multi", labels=sorted(counts))
    for name, split in splits.items():
        require_targets(split, paths[name], spec)
    rare = [label for label in spec.labels if counts[label] < 10]
    findings = [_count(name, split, spec) for name, split in splits.items()]
    if rare:
        told = f"train: fewer than 10 rows have label {classes.quoted(rare)}; a label needs more to be learned"
        findings.append(Finding("warning", told))
    return spec, findings


def _count(name: str, split: Dataset, spec: Known) -> Finding:
    sets = sets_of(split)
    counts = Counter(label for row in sets for label in row)
    shown = ", ".join(f"{label} {counts[label]}" for label in spec.labels[:10])
    more = f" and {len(spec.labels) - 10} labels more" if len(spec.labels) > 10 else ""
    empty = sum(not row for row in sets)
    told = f"{name}: {len(split)} rows, {sum(map(len, sets)) / len(sets):.1f} labels a row, {empty} without any"
    missing = [label for label in spec.labels if not counts[label]]
    without = f", none of label {classes.quoted(missing)}" if missing else ""
    return Finding("warning" if missing else "ok", f"{told}{without}: {shown}{more}")


def require_targets(split: Dataset, path: str, spec: Known | None) -> None:
    """Require a set of labels in each row, such as the model knows if that is known."""
    labels = spec.labels if spec else []
    known = set(labels)
    for number, cell in enumerate(split["label"], start=1):
        if not isinstance(cell, list):
            raise DataError(
                f"{path}: need a list of labels in each row; got {cell!r} in row {number}; fill it in or drop the row."
            )
    for number, row in enumerate(sets_of(split), start=1):
        other = [label for label in row if known and label not in known]
        if other:
            raise DataError(
                f"{path}: need labels that are in the training data too ({classes.quoted(labels)}); got "
                f"'{other[0]}' in row {number}; correct it, or add training rows of it."
            )


def sets_of(split: Dataset) -> list[list[str]]:
    """Return the labels of each row."""
    return [list(cell) for cell in split["label"]]


def shown_of(split: Dataset, spec: Known) -> list[str]:
    """Return the truth of each row in words."""
    return [", ".join(sorted(row)) or "none" for row in sets_of(split)]


def targets(split: Dataset, spec: Known) -> list[list[float]]:
    """Return 1 for each label that a row has and 0 for the others."""
    return _indicators(sets_of(split), spec.labels).astype(float).tolist()


def _indicators(sets: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    return np.array([[label in row for label in labels] for row in sets])


def loss(rows: Dataset, spec: Known, config: Config) -> Callable[..., Any]:
    """Return binary cross-entropy, divided by the labels of all rows in a step."""
    import torch

    truth = np.asarray(rows["labels"])
    rarity = (len(truth) - truth.sum(0)) / np.maximum(truth.sum(0), 1)
    weight = torch.tensor(rarity, dtype=torch.float32) if config.options["class_weights"] == "balanced" else None
    smoothing = config.options["label_smoothing"]

    def binary(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs["logits"].float()
        total = torch.nn.functional.binary_cross_entropy_with_logits(
            logits,
            labels.float() * (1 - smoothing) + smoothing / 2,
            pos_weight=None if weight is None else weight.to(logits.device),
            reduction="sum",
        )
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    return binary


def tally(outputs: Any, spec: Known) -> np.ndarray:
    """Count hits, answers and truths of each label, rows with all right, and rows."""
    return _counts(outputs.label_ids > 0.5, outputs.predictions > 0).sum(0)


def validate(tally: np.ndarray, spec: Known) -> dict[str, float]:
    """Return macro F1, micro F1 and subset accuracy."""
    return {name: float(value) for name, value in _measures(tally[None]).items()}


def _counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return for each row what its sums make measures of: hits, answers and truths of each label, and all right."""
    right = (truth == predicted).all(-1, keepdims=True)
    return np.concatenate([truth & predicted, predicted, truth, right, np.ones_like(right)], axis=-1).astype(float)


def _measures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return macro F1, micro F1 and subset accuracy of the rows (..., rows, counts)."""
    sums = counts.sum(-2)
    right, rows = sums[..., -2], sums[..., -1]
    hits, answers, truths = np.split(sums[..., :-2], 3, axis=-1)
    occurred = answers + truths
    f1 = 2 * hits / np.maximum(occurred, 1)
    return {
        "macro_f1": f1.sum(-1) / np.maximum((occurred > 0).sum(-1), 1),
        "micro_f1": 2 * hits.sum(-1) / np.maximum(occurred.sum(-1), 1),
        "subset_accuracy": right / rows,
    }


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with macro F1, micro F1 (bootstrapped intervals) and subset accuracy (Wilson's interval)."""
    labels = spec.labels
    truth = _indicators(sets_of(split), labels)
    counts = _counts(truth, _indicators([p["labels"] for p in predictions], labels))
    draws = intervals.resampled_sums(counts)
    resampled = _measures(draws[:, None])
    scores = {name: intervals.drawn(float(value), resampled[name]) for name, value in _measures(counts).items()}
    return scores | {"subset_accuracy": intervals.share(counts[:, -2])}


def prediction(model: Any, labels: Sequence[str], logits: np.ndarray) -> Prediction:
    """Return the labels more probable than their thresholds, and the probabilities of all."""
    probabilities = {label: round(float(p), 6) for label, p in zip(labels, _chances(logits), strict=True)}
    given = [label for label, p in probabilities.items() if p > calibration.threshold_of(model, label)]
    return {"labels": given, "probabilities": probabilities}


def baselines(
    train: Dataset, test: Dataset, vectors: np.ndarray, others: np.ndarray, spec: Known
) -> dict[str, list[Prediction]]:
    """Predict the commonest set of labels, and by a logistic regression for each label."""
    sets = sets_of(train)
    common = list(Counter(tuple(sorted(row)) for row in sets).most_common(1)[0][0])
    learned = [
        classes.logistic_regression(vectors, column.astype(str).tolist(), others)
        if 0 < column.sum() < len(column)
        else [{"label": str(bool(column[0]))}] * len(others)
        for column in _indicators(sets, spec.labels).T
    ]
    rows = zip(*learned, strict=True)
    names = spec.labels
    return {
        "commonest set of labels": [{"labels": common}] * len(test),
        "frozen embeddings + logistic regression": [
            {"labels": [name for name, p in zip(names, row, strict=True) if p["label"] == "True"]} for row in rows
        ],
    }


def example(text: str, truth: str, answer: Prediction) -> Example:
    """Return a row for the report, as sure as the model is of the whole set."""
    sure = math.prod(max(p, 1 - p) for p in answer["probabilities"].values())
    return Example(text, truth, ", ".join(sorted(answer["labels"])) or "none", sure)


def choose(examples: Sequence[Example], count: int, readable: Callable[[Example], bool]) -> list[Example]:
    """Take right and wrong answers."""
    return classes.choose(examples, count, readable)


right = classes.right


def mistakes(examples: Sequence[Example]) -> list[Example]:
    """Return the wrong answers, the most confident first."""
    return classes.mistakes(examples)


def details(
    model: Any, split: Dataset, predictions: Sequence[Prediction], examples: Sequence[Example], spec: Known
) -> dict[str, Any]:
    """Return the scores of each label, and how far the probabilities are right."""
    labels, thresholds = spec.labels, calibration.fitted(model).get("thresholds", {})
    truth = _indicators(sets_of(split), labels)
    answers = _indicators([p["labels"] for p in predictions], labels)
    return {
        "classes": classes.by_label(truth, answers, labels, thresholds),
        "calibration": calibration.measure(model, predictions, truth),
    }


def fit(logits: np.ndarray, split: Dataset, spec: Known, config: Config) -> dict[str, Any]:
    """Fit a temperature and a threshold for each label, as the options ask for it."""
    truth = _indicators(sets_of(split), spec.labels)
    found = classes.fit(logits, truth, config)
    if config.options["thresholds"] == "validation":
        stated = _chances(logits / found.get("temperature", 1.0))
        found["thresholds"] = calibration.fit_thresholds(stated, truth, spec.labels)
    return found


def _chances(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(float)))
