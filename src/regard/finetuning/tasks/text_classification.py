"""Text classification: one label for each text, such as the sentiment of a review."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regard.errors import DataError
from regard.finetuning.config import Config, Section
from regard.finetuning.data import normalize
from regard.finetuning.frameworks import framework_of
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import Encoded, Prediction, Spec, _classes, _text
from regard.inspection.report.content import Example, Finding, TokenAttention

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"text": "the text to classify", "label": "the name of its class"}
INPUT = "text"
METRIC = "macro_f1"
READABLE = 32
"""Tokens of the longest input whose attention is drawn, unless all are longer."""

loss, validate, measure = _classes.loss, _classes.validate, _classes.measure


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

framework: torch              # or KerasHub on tensorflow, jax or torch-keras
adapter:
  kind: none                  # lora: train few parameters beside the model's own

train:
  epochs: 3
  batch_size: 32
  accumulate: 1               # batches in a step
  max_tokens: 16384           # in a forward pass: bounds the memory, not the step
  unpad: auto                 # compute real tokens only, where the model's family allows; true or false
  learning_rate: 5.0e-5
  warmup: 0.1                 # fraction of the steps
  schedule: linear            # linear, cosine or constant_with_warmup
  weight_decay: 0.01
  # dropout: 0.1              # of every dropout in the model; the model's own if left out
  precision: auto             # float32, or bfloat16 where the hardware is made for it
  evaluate_every: 0.2         # fraction of the run, or a number of steps
  # patience: 3               # stop after so many validations without a better score
  keep: best                  # the best checkpoint, or the last

adapter:
  kind: none                  # lora or dora: train a few parameters in place of all
  # rank: 8
  # alpha: 16
  # targets: [query, value]   # ends of layers' names; the family's queries and values if left out

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
    paths = {name: _classes.where(name, config) for name in splits}
    for name, split in splits.items():
        _require_cells(split, paths[name])
    labels = _classes.label_names(splits["train"], paths["train"], config)
    findings: list[Finding] = []
    for name, split in splits.items():
        _classes.require_known(split, labels, paths[name], paths["train"])
        findings += [
            _classes.balance(name, split, labels),
            *_classes.repeats(name, _keys(split), _classes.names_of(split), "text"),
            *_empty(name, split),
        ]
    findings += _classes.rarities(splits["train"])
    return {"labels": labels}, findings + _classes.leaks({name: _keys(split) for name, split in splits.items()}, "text")


def inspect_held_out(split: Dataset, path: str, spec: Spec) -> None:
    """Require texts, and labels that the model knows."""
    _require_cells(split, path)
    _classes.require_known(split, spec["labels"], path, "the training data")


def _require_cells(split: Dataset, path: str) -> None:
    for number, (text, label) in enumerate(zip(split["text"], split["label"], strict=True), start=1):
        if not isinstance(text, str):
            raise DataError(
                f"{path}: need a text in each row; got {_kind(text)} in row {number}; fill it in or drop the row."
            )
        _classes.require_label(label, path, number)


def _kind(value: Any) -> str:
    return "none" if value is None else f"a value of type {type(value).__name__}"


def _keys(split: Dataset) -> list[str | None]:
    """Return what is alike for texts that differ in case or spaces alone, None for those without any."""
    return [normalize(text) if text.strip() else None for text in split["text"]]


def _empty(name: str, split: Dataset) -> list[Finding]:
    empty = [number for number, text in enumerate(split["text"], start=1) if not text.strip()]
    if not empty:
        return []
    return [Finding("warning", f"{name}: {len(empty)} texts are empty (first in row {empty[0]}); they teach nothing")]


def load_processor(source: str, config: Config) -> Any:
    """Load the tokenizer."""
    return _text.load_tokenizer(source, config.data.max_length)


def load_model(source: str, spec: Spec, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load the encoder with a head for the labels, a fresh one if the checkpoint has none that fits."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers():
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **_text.head_options(spec["labels"]),
            **_text.dropouts(source, dropout),
        )
    return model, _text.newly_initialised(info)


def encode(name: str, split: Dataset, processor: Any, spec: Spec, config: Config) -> Encoded:
    """Turn texts into token numbers and labels into theirs."""
    from datasets import Dataset

    limit = processor.model_max_length
    encodings, lengths = _text.tokenize(processor, split["text"], limit)
    number = {label: n for n, label in enumerate(spec["labels"])}
    rows = {
        "input_ids": encodings,
        "labels": [number[label] for label in _classes.names_of(split)],
        "length": [len(ids) for ids in encodings],
    }
    findings = _text.length_findings(name, lengths, limit, refuse=config.data.too_long == "refuse")
    findings += _text.reading_findings(name, split["text"], encodings, processor)
    return Encoded(Dataset.from_dict(rows), findings)


def collator(processor: Any) -> Any:
    """Pad each batch to its own longest text."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(processor)


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Give each text its most probable label."""
    texts = [_text.text_of(text, f"input {number}") for number, text in enumerate(inputs, start=1)]
    encodings, lengths = _text.tokenize(processor, texts, processor.model_max_length)
    framework = framework_of(model)
    logits = _text.compute(partial(framework.logits, model), processor, encodings, display, "predict")
    return [
        {**_classes.prediction(framework.labels(model), row), "tokens_cut": length - len(ids)}
        for row, length, ids in zip(logits, lengths, encodings, strict=True)
    ]


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Spec, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Predict by the commonest label, and by logistic regression on the pretrained model's own embeddings."""
    shown = _classes.drawn_from(train, config.seed, config.report.baseline_rows)
    vectors = embed(config, processor, [*shown["text"], *test["text"]], display)
    return {
        "majority class": _classes.majority(train, test),
        "frozen embeddings + logistic regression": _classes.logistic_regression(
            vectors[: len(shown)], _classes.names_of(shown), vectors[len(shown) :]
        ),
    }


def embed(config: Config, processor: Any, texts: Sequence[str], display: Display) -> np.ndarray:
    """Return the mean of the pretrained model's last hidden states over each text's tokens."""
    import torch
    from transformers import AutoModel

    from regard.finetuning.precision import autocast

    with quiet_transformers():
        model = AutoModel.from_pretrained(config.source, dtype=torch.float32).eval()
    encodings, _ = _text.tokenize(processor, texts, processor.model_max_length)

    def mean(batch: Any) -> np.ndarray:
        mask = batch["attention_mask"][..., None]
        return ((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)).float().numpy()

    with torch.inference_mode(), autocast(config.train.precision):
        return _text.compute(mean, processor, encodings, display, "baseline")


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Spec, config: Config
) -> dict[str, Any]:
    """Return the confusion matrix, the most confident mistakes, and the attention in a few short texts."""
    examples = [
        Example(text, truth, p["label"], p["probability"])
        for text, truth, p in zip(split["text"], _classes.names_of(split), predictions, strict=True)
    ]
    drawn = _classes.choose(
        examples,
        config.report.attention,
        lambda e: len(processor(e.text, verbose=False)["input_ids"]) <= READABLE,
    )
    looks = [framework_of(model).read(model, processor, e.text) for e in drawn]
    return {
        "confusion": _classes.confusion_of(examples, spec["labels"]),
        "mistakes": _classes.mistakes(examples)[: config.report.mistakes],
        "attention": [
            TokenAttention(e, looked.labels, looked.seen.dense()) for e, looked in zip(drawn, looks, strict=True)
        ],
    }


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put the truth beside the prediction."""
    return {
        "text": row["text"],
        "truth": str(row["label"]),
        "predicted": prediction["label"],
        **{key: prediction[key] for key in ("probability", "probabilities", "tokens_cut")},
    }
