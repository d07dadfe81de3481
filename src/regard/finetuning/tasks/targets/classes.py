"""What tasks with one label a row share: checks of the labels, the loss, and measures with their intervals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import Field

from regard._digits import digits
from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.data.columns import normalize
from regard.finetuning.tasks import Prediction, Score
from regard.finetuning.tasks.targets import calibration
from regard.inspection.report.content import ClassScore, Confusion, Example, Finding

if TYPE_CHECKING:
    from datasets import Dataset
from regard.finetuning.tasks.targets.intervals import RESAMPLES, drawn, share


class Labelled(Protocol):
    """What is known of data with labels."""

    @property
    def labels(self) -> list[str]:
        """Their names, in the order of the logits."""


MOST_LABELS = 5_000
MISSING = {"nan", "none", "null", "<na>", "nat", "n/a", "#n/a"}
"""What programs write into a cell without a value."""
CLASS_WEIGHTS = """`balanced`: rare labels count as much as frequent ones.

Each label counts the same in the loss, however rare it is.
"""
ClassWeights = Annotated[Literal["none", "balanced"], Field(description=CLASS_WEIGHTS)]


LIST = re.compile(r"""\s*\[\s*['"]""")
"""How a list begins that is written as text."""


def where(name: str, config: Config) -> str:
    """Say where a split comes from."""
    source = getattr(config.data, name)
    return source if isinstance(source, str) else f"{config.data.train} ({name} part)"


def label_names(train: Dataset, path: str, config: Config) -> list[str]:
    """List the labels, numbers in order of size."""
    known = set(names_of(train))
    require_few(len(known), path)
    labels = sorted(known, key=lambda name: (0, float(name), "") if _is_number(name) else (1, 0.0, name))
    if len(labels) < 2:
        column = config.data.columns["label"]
        raise DataError(
            f"{path}: need at least two labels in column '{column}'; got '{labels[0]}' alone; add rows of another "
            f"label or name another column in data.columns.label."
        )
    if len(labels) > max(2, len(train) // 2):
        column = config.data.columns["label"]
        raise DataError(
            f"{path}: need a label for each class in column '{column}'; got {len(labels)} in {len(train)} rows; name "
            f"another column in data.columns.label."
        )
    return labels


def require_few(labels: int, path: str) -> None:
    """Raise DataError for more labels than can be counted against each other."""
    if labels > MOST_LABELS:
        raise DataError(
            f"{path}: need at most {MOST_LABELS:,} labels; got {labels:,}; name another column in data.columns.label."
        )


def names_of(split: Dataset) -> list[str]:
    """Return the label of each row as a text."""
    return [str(label) for label in split["label"]]


def strata(table: Dataset, config: Config) -> list[list[str]]:
    """Return the label of each row, of which a part that is set aside shall hold as many as the rest."""
    return [[name] for name in names_of(table)]


def _is_number(name: str) -> bool:
    return re.fullmatch(r"-?\d+", name) is not None


def require_label(label: Any, path: str, number: int) -> None:
    """Raise DataError if a row has no label."""
    if label is None or not str(label).strip():
        raise DataError(f"{path}: need a label in each row; got none in row {number}; fill it in or drop the row.")
    if isinstance(label, list | dict) or (isinstance(label, str) and LIST.match(label)):
        raise DataError(
            f"{path}: need one label in each row; got a list in row {number}; write its name alone, without brackets."
        )


def require_known(split: Dataset, labels: list[str], path: str, train: str) -> None:
    """Raise DataError if a split has labels that training never sees."""
    known = set(labels)
    for number, label in enumerate(names_of(split), start=1):
        if label not in known:
            raise DataError(
                f"{path}: need labels that are in {train} too ({quoted(labels)}); got '{label}' in row {number}; "
                f"correct it, or add training rows of it."
            )


def quoted(labels: Sequence[str]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:5])
    return shown if len(labels) <= 5 else f"{shown} and {len(labels) - 5} more"


def balance(name: str, split: Dataset, labels: list[str]) -> Finding:
    """Say how many rows each label has."""
    counts = Counter(names_of(split))
    shown = ", ".join(f"{label} {counts[label]} ({counts[label] / len(split):.0%})" for label in labels[:10])
    more = f" and {len(labels) - 10} labels more" if len(labels) > 10 else ""
    missing = [label for label in labels if not counts[label]]
    if missing:
        return Finding("warning", f"{name}: {len(split)} rows, none of label {quoted(missing)}: {shown}{more}")
    return Finding("ok", f"{name}: {len(split)} rows: {shown}{more}")


def rarities(train: Dataset, config: Config) -> list[Finding]:
    """Find labels with few rows, or with few beside the commonest."""
    counts = Counter(names_of(train))
    rare, common = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    findings = []
    if counts[rare] < 10:
        findings.append(
            Finding("warning", f"train: label '{rare}' has {counts[rare]} rows; a class needs more to be learned")
        )
    if counts[common] > 5 * counts[rare]:
        told = f"train: '{common}' is {counts[common] / counts[rare]:.0f} times as frequent as '{rare}'"
        weights = ", ".join(
            f"{len(train) / (len(counts) * counts[label]):.2g} for '{label}'" for label in (rare, common)
        )
        if config.options["class_weights"] == "balanced":
            told = f"{told}; options.class_weights: balanced gives the loss a weight of {weights}"
            findings.append(Finding("ok", told))
        else:
            told = f"{told}; look at macro F1, and try options.class_weights: balanced"
            findings.append(Finding("warning", f"{told}, which gives the loss a weight of {weights}"))
    lacking = [label for label in counts if label.strip().casefold() in MISSING]
    if lacking:
        told = f"train: label '{lacking[0]}', of {counts[lacking[0]]} rows, is how programs write that there is none"
        findings.append(Finding("warning", f"{told}; it counts as a class: drop its rows if it is none"))
    return findings + _look_alike(list(counts))


def _look_alike(labels: Sequence[str]) -> list[Finding]:
    """Find labels that differ in case or spaces alone."""
    alike: dict[Any, list[str]] = {}
    for label in sorted(labels):
        alike.setdefault(normalize(label), []).append(label)
    torn = [names for names in alike.values() if len(names) > 1]
    if not torn:
        return []
    told = f"train: {len(torn)} labels are written in several ways (first: {quoted(torn[0])})"
    return [Finding("warning", f"{told}; each counts as a class of its own: write it in one way")]


def prediction(labels: Sequence[str], logits: np.ndarray) -> Prediction:
    """Return the most probable label, and the probabilities of all."""
    odds = np.exp(logits - logits.max())
    probabilities = odds / odds.sum()
    best = int(probabilities.argmax())
    return {
        "label": labels[best],
        "probability": round(float(probabilities[best]), 6),
        "probabilities": {name: round(float(p), 6) for name, p in zip(labels, probabilities, strict=True)},
    }


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Labelled) -> dict[str, Score]:
    """Score with accuracy (Wilson's interval), macro F1 and Matthews' correlation (bootstrapped intervals)."""
    truth, predicted = names_of(split), [p["label"] for p in predictions]
    draws = resampled(truth, predicted, spec.labels)
    values = measures(truth, predicted)
    return {
        "accuracy": share([t == p for t, p in zip(truth, predicted, strict=True)]),
        "macro_f1": drawn(values["macro_f1"], macro_f1(draws)),
        "mcc": drawn(values["mcc"], matthews(draws)),
    }


class Tallies(NamedTuple):
    """What a confusion matrix comes to for each label, `(..., K)`; no measure needs its K x K cells.

    Attributes:
        right: rows of the label that were given it.
        truth: rows of the label.
        predicted: rows that were given it.
    """

    right: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray, labels: int) -> Tallies:
        """Of the numbers of rows' labels and of those that they were given."""
        right = truth[truth == predicted]
        return cls(*(np.bincount(each, minlength=labels) for each in (right, truth, predicted)))


def resampled(truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Tallies:
    """Draw tallies `(RESAMPLES, K)` as other rows from the same source would give them."""
    number = {label: n for n, label in enumerate(labels)}
    true, said = (np.array([number[label] for label in given]) for given in (truth, predicted))
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(true), size=len(true))
        draws.append(Tallies.of(true[rows], said[rows], len(labels)))
    return Tallies(*np.moveaxis(np.array(draws), 1, 0))


def measures(truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
    """Return accuracy, macro F1 and Matthews' correlation."""
    number = {label: n for n, label in enumerate(dict.fromkeys([*truth, *predicted]))}
    true, said = (np.array([number[label] for label in each]) for each in (truth, predicted))
    tallies = Tallies.of(true, said, len(number))
    return {
        "accuracy": float(tallies.right.sum() / len(truth)),
        "macro_f1": float(macro_f1(tallies)),
        "mcc": float(matthews(tallies)),
    }


def macro_f1(tallies: Tallies) -> np.ndarray:
    """Return the mean F1 of the labels that occur, for each of many confusion matrices."""
    occurred = tallies.truth + tallies.predicted
    f1 = 2 * tallies.right / np.maximum(occurred, 1)
    return f1.sum(-1) / np.maximum((occurred > 0).sum(-1), 1)


def matthews(tallies: Tallies) -> np.ndarray:
    """Return Matthews' correlation, 0 where it has no value, for each of many confusion matrices."""
    right, truth, predicted = tallies
    total = truth.sum(-1)
    covariance = right.sum(-1) * total - (truth * predicted).sum(-1)
    spread = np.sqrt((total**2 - (truth**2).sum(-1)) * (total**2 - (predicted**2).sum(-1)).astype(float))
    return np.where(spread > 0, covariance / np.maximum(spread, 1), 0.0)


def class_weights(rows: Dataset, spec: Labelled, config: Config) -> np.ndarray | None:
    """Return how much each label counts in the loss, by its rarity, if the options ask for it."""
    if config.options["class_weights"] == "none":
        return None
    counts = np.bincount(rows["labels"], minlength=len(spec.labels))
    return (len(rows) / (len(counts) * counts)).astype(np.float32)


def loss(rows: Dataset, spec: Labelled, config: Config) -> Callable[..., Any]:
    """Return cross-entropy, divided by all rows in a step: weighed by rarity and smoothed as the options ask for."""
    import torch

    weights, smoothing = class_weights(rows, spec, config), config.options.get("label_smoothing", 0.0)
    weight = None if weights is None else torch.tensor(weights)

    def cross_entropy(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs["logits"].float()
        total = torch.nn.functional.cross_entropy(
            logits,
            labels,
            None if weight is None else weight.to(logits.device),
            reduction="sum",
            label_smoothing=smoothing,
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return cross_entropy


def tally(outputs: Any, spec: Labelled) -> np.ndarray:
    """Count for each label what `Tallies` holds: `(3, K)`."""
    return np.array(Tallies.of(np.asarray(outputs.label_ids), outputs.predictions.argmax(-1), len(spec.labels)))


def validate(tally: np.ndarray, spec: Labelled) -> dict[str, float]:
    """Return accuracy and macro F1."""
    tallies = Tallies(*tally)
    return {"accuracy": float(tallies.right.sum() / tallies.truth.sum()), "macro_f1": float(macro_f1(tallies))}


def fit(logits: np.ndarray, truth: np.ndarray, config: Config) -> dict[str, Any]:
    """Fit a temperature on logits of validation rows and the numbers of their labels, if the options ask for it."""
    temperature = calibration.fit_temperature(logits, truth) if config.options["calibrate"] else None
    return {} if temperature is None else {"temperature": temperature}


def numbers_of(split: Dataset, labels: Sequence[str]) -> np.ndarray:
    """Return the number of each row's label."""
    number = {label: n for n, label in enumerate(labels)}
    return np.array([number[label] for label in names_of(split)])


def by_label(truth: Any, predicted: Any, labels: Sequence[str], thresholds: Mapping[str, float]) -> list[ClassScore]:
    """Return precision, recall, F1 and support of each label, of names or of indicators."""
    from sklearn.metrics import classification_report

    names = list(labels)
    kinds = {"labels": names} if np.ndim(truth) == 1 else {"target_names": names}
    found = classification_report(truth, predicted, **kinds, zero_division=0, output_dict=True)
    return [
        ClassScore(
            name,
            precision=float(found[name]["precision"]),
            recall=float(found[name]["recall"]),
            f1=float(found[name]["f1-score"]),
            support=int(found[name]["support"]),
            threshold=thresholds.get(name),
        )
        for name in names
    ]


def right(examples: Sequence[Example], count: int) -> list[Example]:
    """Return right answers, the surest of each label in turn."""
    of_label: dict[str, list[Example]] = {}
    for each in sorted((e for e in examples if e.predicted == e.truth), key=lambda e: -e.confidence):
        of_label.setdefault(each.truth, []).append(each)
    turns = zip_longest(*of_label.values())
    return [each for turn in turns for each in turn if each is not None][:count]


def tell(prediction: Prediction) -> str:
    """Return the most probable labels."""
    ranked = sorted(prediction["probabilities"].items(), key=lambda item: -item[1])[:5]
    return "  ".join(f"{label} {digits(probability)}" for label, probability in ranked)


def majority(train: Dataset, test: Dataset) -> list[Prediction]:
    """Predict the commonest label, whatever the input."""
    counts = Counter(names_of(train)).most_common()
    odds = {label: count / len(train) for label, count in counts}
    return [{"label": counts[0][0], "probabilities": odds}] * len(test)


def logistic_regression(vectors: np.ndarray, labels: Sequence[str], others: np.ndarray) -> list[Prediction]:
    """Predict for other vectors; the regularisation is chosen by cross-validation on the first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(3, *Counter(labels).values())
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    if folds > 1:
        model = GridSearchCV(model, {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]}, cv=folds, scoring="f1_macro")
    model.fit(vectors, list(labels))
    odds = [dict(zip(map(str, model.classes_), row, strict=True)) for row in model.predict_proba(others).tolist()]
    return [{"label": max(each, key=each.__getitem__), "probabilities": each} for each in odds]


def drawn_from(shown: Dataset, seed: int, rows: int) -> Dataset:
    """Return at most so many rows at random."""
    return shown.shuffle(seed).select(range(min(len(shown), rows)))


def choose(examples: Sequence[Example], count: int, readable: Callable[[Example], bool]) -> list[Example]:
    """Take a third of mistakes, the rest right answers of each label in turn; those that a person can read first."""
    short = {id(e) for e in examples if readable(e)}
    right = sorted((e for e in examples if e.predicted == e.truth), key=lambda e: (id(e) not in short, -e.confidence))
    chosen = sorted(mistakes(examples), key=lambda e: id(e) not in short)[: count // 3]
    while len(chosen) < count and right:
        rarest = min(right, key=lambda e: sum(c.truth == e.truth for c in chosen))
        chosen.append(rarest)
        right.remove(rarest)
    return chosen


def mistakes(examples: Sequence[Example]) -> list[Example]:
    """Return the wrong answers, the most confident first."""
    return sorted((e for e in examples if e.predicted != e.truth), key=lambda e: -e.confidence)


def confusion_of(examples: Sequence[Example], labels: list[str]) -> Confusion:
    """Return the confusion matrix for the report, of its cells those that are not 0."""
    number = {label: n for n, label in enumerate(labels)}
    return Confusion(labels, Counter((number[each.truth], number[each.predicted]) for each in examples))
