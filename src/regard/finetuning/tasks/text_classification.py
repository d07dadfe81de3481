"""Text classification: one label for each text, such as the sentiment of a review."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regard.errors import DataError
from regard.finetuning.config import Config, Section
from regard.finetuning.data import normalize
from regard.finetuning.look import look
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import Encoded, Prediction, Score, Spec, _text
from regard.inspection.report.content import Confusion, Example, Finding, TokenAttention

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"text": "the text to classify", "label": "the name of its class"}
INPUT = "text"
METRIC = "macro_f1"
RESAMPLES = 1000
READABLE = 32
"""Tokens of the longest input whose attention is drawn, unless all are longer."""


class Options(Section):
    """Keys of this task.

    Attributes:
        class_weights: `balanced` makes each label count the same in the loss, however rare it is.
    """

    class_weights: Literal["none", "balanced"] = "none"


TEMPLATE = """\
# What to learn. Every key that is left out has the value shown here; paths start where you run the command.
task: text-classification

# A directory with a pretrained encoder and its tokenizer, package:NAME/PATH in an installed Python package,
# or a name on the Hugging Face hub.
model: answerdotai/ModernBERT-base

data:
  train: reviews.csv          # .csv, .tsv, .jsonl or .parquet
  validation: 0.1             # a file, or a fraction to set aside of train: chooses the checkpoint
  test: 0.1                   # a file, or a fraction to set aside of train: measures the result
  columns:                    # the task's name of each column, then yours
    text: text
    label: label
  # max_length: 256           # tokens to read of each text; what the model can read if left out
  too_long: cut               # cut longer texts and report how many, or refuse to start

output: runs/reviews          # the run directory to make

train:
  epochs: 3
  batch_size: 32
  accumulate: 1               # batches in a step
  learning_rate: 5.0e-5
  warmup: 0.1                 # fraction of the steps
  schedule: linear            # linear, cosine or constant_with_warmup
  weight_decay: 0.01
  # dropout: 0.1              # of every dropout in the model; the model's own if left out
  precision: auto             # float32, or bfloat16 where the hardware is made for it
  evaluate_every: 0.2         # fraction of the run, or a number of steps
  # patience: 3               # stop after so many validations without a better score
  keep: best                  # the best checkpoint, or the last

options:
  class_weights: none         # balanced: rare labels count as much as frequent ones

report:
  baselines: true             # majority class; frozen embeddings with logistic regression
  mistakes: 20
  attention: 6                # inputs whose attention is drawn

seed: 42
"""


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Spec, list[Finding]]:
    """Name the labels and look for what spoils a classifier."""
    paths = {name: _where(name, config) for name in splits}
    for name, split in splits.items():
        _require_cells(split, paths[name])
    labels = _labels(splits["train"], paths["train"], config)
    findings: list[Finding] = []
    for name, split in splits.items():
        _require_known(split, labels, paths[name], paths["train"])
        findings += [_balance(name, split, labels), *_repeats(name, split), *_empty(name, split)]
    findings += _rare(splits["train"], labels) + _leaks(splits)
    return {"labels": labels}, findings


def inspect_held_out(split: Dataset, path: str, spec: Spec) -> None:
    """Require texts, and labels that the model knows."""
    _require_cells(split, path)
    _require_known(split, spec["labels"], path, "the training data")


def _where(name: str, config: Config) -> str:
    source = getattr(config.data, name)
    return source if isinstance(source, str) else f"{config.data.train} ({name} part)"


def _require_cells(split: Dataset, path: str) -> None:
    for number, (text, label) in enumerate(zip(split["text"], split["label"], strict=True), start=1):
        if not isinstance(text, str):
            raise DataError(
                f"{path}: need a text in each row; got {_kind(text)} in row {number}; fill it in or drop the row."
            )
        if label is None or not str(label).strip():
            raise DataError(f"{path}: need a label in each row; got none in row {number}; fill it in or drop the row.")


def _kind(value: Any) -> str:
    return "none" if value is None else f"a value of type {type(value).__name__}"


def _labels(train: Dataset, path: str, config: Config) -> list[str]:
    """List the labels, numbers in order of size."""
    labels = sorted(set(_names(train)), key=lambda name: (0, float(name), "") if _is_number(name) else (1, 0.0, name))
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


def _names(split: Dataset) -> list[str]:
    return [str(label) for label in split["label"]]


def _is_number(name: str) -> bool:
    return name.lstrip("-").isdecimal()


def _require_known(split: Dataset, labels: list[str], path: str, train: str) -> None:
    for number, label in enumerate(_names(split), start=1):
        if label not in labels:
            raise DataError(
                f"{path}: need labels that are in {train} too ({_some(labels)}); got '{label}' in row {number}; "
                f"correct it, or add training rows of it."
            )


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:5])
    return shown if len(labels) <= 5 else f"{shown} and {len(labels) - 5} more"


def _balance(name: str, split: Dataset, labels: list[str]) -> Finding:
    counts = Counter(_names(split))
    shown = ", ".join(f"{label} {counts[label]} ({counts[label] / len(split):.0%})" for label in labels[:10])
    more = f" and {len(labels) - 10} labels more" if len(labels) > 10 else ""
    missing = [label for label in labels if not counts[label]]
    if missing:
        return Finding("warning", f"{name}: {len(split)} rows, none of label {_some(missing)}: {shown}{more}")
    return Finding("ok", f"{name}: {len(split)} rows: {shown}{more}")


def _rare(train: Dataset, labels: list[str]) -> list[Finding]:
    counts = Counter(_names(train))
    rare, common = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    findings = []
    if counts[rare] < 10:
        findings.append(
            Finding("warning", f"train: label '{rare}' has {counts[rare]} rows; a class needs more to be learned")
        )
    if counts[common] > 5 * counts[rare]:
        told = f"train: '{common}' is {counts[common] / counts[rare]:.0f} times as frequent as '{rare}'"
        findings.append(Finding("warning", f"{told}; look at macro F1, and try options.class_weights: balanced"))
    return findings


def _repeats(name: str, split: Dataset) -> list[Finding]:
    """Find texts that are there more than once, and those whose labels disagree."""
    rows: dict[str, list[int]] = {}
    for number, text in enumerate(split["text"]):
        if text.strip():
            rows.setdefault(normalize(text), []).append(number)
    repeated = [numbers for numbers in rows.values() if len(numbers) > 1]
    if not repeated:
        return []
    labels = _names(split)
    torn = [numbers for numbers in repeated if len({labels[n] for n in numbers}) > 1]
    first, second = repeated[0][:2]
    told = f"{name}: {len(repeated)} texts are there more than once (first in rows {first + 1} and {second + 1})"
    findings = [Finding("warning", f"{told}; they count more than once")]
    if torn:
        first, second = (
            next(n for n in torn[0] if labels[n] == label) for label in sorted({labels[n] for n in torn[0]})[:2]
        )
        told = f"{name}: {len(torn)} texts carry different labels (first in rows {first + 1} and {second + 1})"
        findings.append(Finding("warning", f"{told}; no model can learn both"))
    return findings


def _empty(name: str, split: Dataset) -> list[Finding]:
    empty = [number for number, text in enumerate(split["text"], start=1) if not text.strip()]
    if not empty:
        return []
    return [Finding("warning", f"{name}: {len(empty)} texts are empty (first in row {empty[0]}); they teach nothing")]


def _leaks(splits: dict[str, Dataset]) -> list[Finding]:
    """Find texts of one split in another."""
    first_row = {name: _first_rows(split["text"]) for name, split in splits.items()}
    names = list(splits)
    findings = []
    for held, other in ((b, a) for i, a in enumerate(names) for b in names[i + 1 :]):
        shared = [text for text in first_row[held] if text in first_row[other]]
        if shared:
            rows = f"row {first_row[held][shared[0]]} of {held} is row {first_row[other][shared[0]]} of {other}"
            told = f"{held}: {len(shared)} texts are in {other} too (first: {rows})"
            findings.append(
                Finding("warning", f"{told}; the score on {held} is too good to be true until they are removed")
            )
    return findings or [Finding("ok", f"no text is in more than one of {', '.join(names)}")]


def _first_rows(texts: Iterable[str]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for number, text in enumerate(texts, start=1):
        if text.strip():
            rows.setdefault(normalize(text), number)
    return rows


def load_processor(source: str, config: Config) -> Any:
    """Load the tokenizer."""
    return _text.load_tokenizer(source, config.data.max_length)


def load_model(source: str, spec: Spec, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load the encoder with a head for the labels, a fresh one if the checkpoint has none that fits."""
    import torch
    from transformers import AutoModelForSequenceClassification

    labels = spec["labels"]
    with quiet_transformers():
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=torch.float32,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **_text.dropouts(source, dropout),
        )
    mismatched = {entry[0] for entry in info["mismatched_keys"]}
    return model, sorted({*info["missing_keys"], *mismatched})


def encode(name: str, split: Dataset, processor: Any, spec: Spec, config: Config) -> Encoded:
    """Turn texts into token numbers and labels into theirs."""
    from datasets import Dataset

    limit = processor.model_max_length
    encodings, lengths = _text.tokenize(processor, split["text"], limit)
    number = {label: n for n, label in enumerate(spec["labels"])}
    rows = {
        "input_ids": encodings,
        "labels": [number[label] for label in _names(split)],
        "length": [len(ids) for ids in encodings],
    }
    findings = _text.length_findings(name, lengths, limit, refuse=config.data.too_long == "refuse")
    return Encoded(Dataset.from_dict(rows), findings)


def collator(processor: Any) -> Any:
    """Pad each batch to its own longest text."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(processor)


def loss(rows: Dataset, spec: Spec, config: Config) -> Callable[..., Any] | None:
    """Return cross-entropy with each label weighed by its rarity, if the options ask for it."""
    if config.options["class_weights"] == "none":
        return None
    import torch

    counts = np.bincount(rows["labels"], minlength=len(spec["labels"]))
    weight = torch.tensor(len(rows) / (len(counts) * counts), dtype=torch.float32)

    def balanced(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs["logits"].float()
        total = torch.nn.functional.cross_entropy(logits, labels, weight.to(logits.device), reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return balanced


def validate(outputs: Any) -> dict[str, float]:
    """Measure logits against labels during training."""
    scores = _measure(outputs.label_ids, outputs.predictions.argmax(-1))
    return {name: scores[name] for name in ("accuracy", "macro_f1")}


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Give each text its most probable label."""
    texts = [_text.text_of(text, f"input {number}") for number, text in enumerate(inputs, start=1)]
    encodings, lengths = _text.tokenize(processor, texts, processor.model_max_length)
    answer = lambda output, batch: output.logits.float().softmax(-1)  # noqa: E731
    probabilities = _text.compute(model, processor, encodings, answer, display, "predict")
    names = [model.config.id2label[n] for n in range(model.config.num_labels)]
    return [
        _prediction(names, row, length, len(ids))
        for row, length, ids in zip(probabilities, lengths, encodings, strict=True)
    ]


def _prediction(names: Sequence[str], probabilities: np.ndarray, length: int, read: int) -> Prediction:
    best = int(probabilities.argmax())
    return {
        "label": names[best],
        "probability": round(float(probabilities[best]), 6),
        "probabilities": {name: round(float(p), 6) for name, p in zip(names, probabilities, strict=True)},
        "tokens_cut": length - read,
    }


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Spec) -> dict[str, Score]:
    """Score with accuracy (Wilson's interval), macro F1 and Matthews' correlation (bootstrapped intervals)."""
    truth, predicted = _names(split), [p["label"] for p in predictions]
    counts = _confusion(truth, predicted, spec["labels"])
    draws = np.random.default_rng(0).multinomial(len(truth), counts.ravel() / len(truth), size=RESAMPLES)
    draws = draws.reshape(-1, *counts.shape)
    intervals = {
        "accuracy": wilson(int(np.trace(counts)), len(truth)),
        "macro_f1": _percentiles(macro_f1(draws)),
        "mcc": _percentiles(matthews(draws)),
    }
    return {name: Score(value, intervals[name]) for name, value in _measure(truth, predicted).items()}


def _confusion(truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(truth, predicted, labels=list(labels))


def _measure(truth: Any, predicted: Any) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A single label was found")
        return {
            "accuracy": float(accuracy_score(truth, predicted)),
            "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
            "mcc": float(matthews_corrcoef(truth, predicted)),
        }


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 of the labels that occur, for each of many confusion matrices (..., K, K)."""
    occurred = counts.sum(-1) + counts.sum(-2)
    f1 = 2 * np.diagonal(counts, axis1=-2, axis2=-1) / np.maximum(occurred, 1)
    return f1.sum(-1) / np.maximum((occurred > 0).sum(-1), 1)


def matthews(counts: np.ndarray) -> np.ndarray:
    """Return Matthews' correlation, 0 where it has no value, for each of many confusion matrices (..., K, K)."""
    truth, predicted, total = counts.sum(-1), counts.sum(-2), counts.sum((-1, -2))
    covariance = np.trace(counts, axis1=-2, axis2=-1) * total - (truth * predicted).sum(-1)
    spread = np.sqrt((total**2 - (truth**2).sum(-1)) * (total**2 - (predicted**2).sum(-1)).astype(float))
    return np.where(spread > 0, covariance / np.maximum(spread, 1), 0.0)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, 1927)."""
    p = hits / trials
    centre = p + z**2 / (2 * trials)
    half = z * (p * (1 - p) / trials + z**2 / (4 * trials**2)) ** 0.5
    return max(0.0, (centre - half) / (1 + z**2 / trials)), min(1.0, (centre + half) / (1 + z**2 / trials))


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Spec, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Predict by the commonest label, and by logistic regression on the pretrained model's own embeddings."""
    majority = Counter(_names(train)).most_common(1)[0][0]
    shown = train.shuffle(config.seed).select(range(min(len(train), config.report.baseline_rows)))
    return {
        "majority class": [{"label": majority}] * len(test),
        "frozen embeddings + logistic regression": _frozen(shown, test, processor, config, display),
    }


def _frozen(train: Dataset, test: Dataset, processor: Any, config: Config, display: Display) -> list[Prediction]:
    """Choose the regularisation by cross-validation on the training rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    texts = [*train["text"], *test["text"]]
    vectors = embed(config, processor, texts, display)
    labels = _names(train)
    folds = min(3, *Counter(labels).values())
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    if folds > 1:
        model = GridSearchCV(model, {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]}, cv=folds, scoring="f1_macro")
    model.fit(vectors[: len(train)], labels)
    return [{"label": str(label)} for label in model.predict(vectors[len(train) :])]


def embed(config: Config, processor: Any, texts: Sequence[str], display: Display) -> np.ndarray:
    """Return the mean of the pretrained model's last hidden states over each text's tokens."""
    import torch
    from transformers import AutoModel

    from regard.finetuning.precision import autocast

    with quiet_transformers():
        model = AutoModel.from_pretrained(config.source, dtype=torch.float32)
    encodings, _ = _text.tokenize(processor, texts, processor.model_max_length)

    def mean(output: Any, batch: Any) -> Any:
        mask = batch["attention_mask"][..., None]
        return (output.last_hidden_state * mask).sum(1) / mask.sum(1)

    with autocast(config.train.precision):
        return _text.compute(model, processor, encodings, mean, display, "baseline")


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Spec, config: Config
) -> dict[str, Any]:
    """Return the confusion matrix, the most confident mistakes, and the attention in a few short texts."""
    examples = [
        Example(text, truth, p["label"], p["probability"])
        for text, truth, p in zip(split["text"], _names(split), predictions, strict=True)
    ]
    wrong = sorted((e for e in examples if e.predicted != e.truth), key=lambda e: -e.confidence)
    drawn = _choose(examples, wrong, processor, config.report.attention)
    return {
        "confusion": Confusion(
            spec["labels"],
            _confusion([e.truth for e in examples], [e.predicted for e in examples], spec["labels"]).tolist(),
        ),
        "mistakes": wrong[: config.report.mistakes],
        "attention": [TokenAttention(e, *look(model, processor, e.text)) for e in drawn],
    }


def _choose(examples: list[Example], wrong: list[Example], processor: Any, count: int) -> list[Example]:
    """Take a third of mistakes, the rest right answers of each label in turn; short ones that a person can read."""
    short = {id(e) for e in examples if len(processor(e.text, verbose=False)["input_ids"]) <= READABLE}
    right = sorted((e for e in examples if e.predicted == e.truth), key=lambda e: (id(e) not in short, -e.confidence))
    chosen = sorted(wrong, key=lambda e: id(e) not in short)[: count // 3]
    while len(chosen) < count and right:
        rarest = min(right, key=lambda e: sum(c.truth == e.truth for c in chosen))
        chosen.append(rarest)
        right.remove(rarest)
    return chosen


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put the truth beside the prediction."""
    return {
        "text": row["text"],
        "truth": str(row["label"]),
        "predicted": prediction["label"],
        **{key: prediction[key] for key in ("probability", "probabilities", "tokens_cut")},
    }
