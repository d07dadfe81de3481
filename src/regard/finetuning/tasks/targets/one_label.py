"""One label a row, by the names that `label_sets` and `numbers` have too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regard.finetuning.config import Config
from regard.finetuning.tasks import Prediction, Spec
from regard.finetuning.tasks.targets import calibration, classes
from regard.inspection.report.content import Example, Finding

if TYPE_CHECKING:
    from datasets import Dataset

PROBLEM = "single_label_classification"
METRIC = "macro_f1"

loss, tally, validate, measure = classes.loss, classes.tally, classes.validate, classes.measure
choose, mistakes, right = classes.choose, classes.mistakes, classes.right


class Known(Spec):
    """What is known of the training data."""

    kind: Literal["single"] = "single"
    labels: list[str]


def learn_spec(splits: dict[str, Dataset], paths: dict[str, str], config: Config) -> tuple[Known, list[Finding]]:
    """Name the labels of the training rows."""
    for name, split in splits.items():
        _require_labels(split, paths[name])
    labels = classes.label_names(splits["train"], paths["train"], config)
    for name, split in splits.items():
        classes.require_known(split, labels, paths[name], paths["train"])
    findings = [classes.balance(name, split, labels) for name, split in splits.items()]
    return Known(labels=labels), findings + classes.rarities(splits["train"], config)


def _require_labels(split: Dataset, path: str) -> None:
    for number, label in enumerate(split["label"], start=1):
        classes.require_label(label, path, number)


def require_targets(split: Dataset, path: str, spec: Known) -> None:
    """Require a label in each row, one that the model knows."""
    _require_labels(split, path)
    classes.require_known(split, spec.labels, path, "the training data")


def shown_of(split: Dataset, spec: Known) -> list[str]:
    """Return the truth of each row in words."""
    return classes.names_of(split)


def targets(split: Dataset, spec: Known) -> list[int]:
    """Return the number of each row's label."""
    return classes.numbers_of(split, spec.labels).tolist()


def prediction(model: Any, labels: Sequence[str], logits: np.ndarray) -> Prediction:
    """Return the most probable label, and the probabilities of all."""
    return classes.prediction(labels, logits)


def baselines(
    train: Dataset, test: Dataset, vectors: np.ndarray, others: np.ndarray, spec: Known
) -> dict[str, list[Prediction]]:
    """Predict the commonest label, and by logistic regression."""
    return {
        "majority class": classes.majority(train, test),
        "frozen embeddings + logistic regression": classes.logistic_regression(
            vectors, classes.names_of(train), others
        ),
    }


def example(text: str, truth: str, answer: Prediction) -> Example:
    """Return a row for the report."""
    return Example(text, truth, answer["label"], answer["probability"])


def details(
    model: Any, split: Dataset, predictions: Sequence[Prediction], examples: Sequence[Example], spec: classes.Labelled
) -> dict[str, Any]:
    """Return the confusion matrix, the scores of each label, and how far the probabilities are right."""
    labels = spec.labels
    return {
        "confusion": classes.confusion_of(examples, labels),
        "classes": classes.by_label(classes.names_of(split), [p["label"] for p in predictions], labels, {}),
        "calibration": calibration.measure(model, predictions, classes.numbers_of(split, labels)),
    }


def fit(logits: np.ndarray, split: Dataset, spec: classes.Labelled, config: Config) -> dict[str, Any]:
    """Fit a temperature, if the options ask for it."""
    return classes.fit(logits, classes.numbers_of(split, spec.labels), config)
