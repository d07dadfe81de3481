"""Text classification: for each text a label, such as the sentiment of a review, a set of labels, or a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from regard._digits import digits
from regard.errors import ConfigError
from regard.finetuning.config import Config, Section
from regard.finetuning.data import duplicates
from regard.finetuning.data.columns import put_column
from regard.finetuning.data.tables import Formats
from regard.finetuning.frameworks import framework_of
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import Encoded, Prediction, Score, Template, bases, input_files
from regard.finetuning.tasks.targets import calibration, classes, label_sets, numbers, one_label, readings
from regard.finetuning.tasks.texts import tokenizing, wording
from regard.finetuning.training.padding import is_rounded, runs_side_by_side
from regard.inspection.report.content import Finding, TokenAttention

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"text": "the text to classify", "label": "the name of its class, a list of names, or a number"}
INPUT = "text"
FORMATS: Formats = {}
alike = wording.likeness
parts = None
READABLE = 32
"""Tokens of the longest input whose attention is drawn, unless all are longer."""

KINDS: dict[str, ModuleType] = {"single": one_label, "multi": label_sets, "regression": numbers}
PROBLEMS = {kind.PROBLEM: kind for kind in KINDS.values()}


class Options(Section):
    """Keys of this task."""

    kind: Literal["auto", "single", "multi", "regression"] = "auto"
    """`single`: one label a text; `multi`: a list of labels; `regression`: a number; `auto`: what the column holds.

    `auto` goes by the column: lists, vectors of 0 and 1 and names with a separator are several labels, numbers with
    decimals are numbers, all else is one label.
    """
    separator: Annotated[str, Field(min_length=1)] = "auto"
    """Between the labels of a text, where they are no list, such as `";"`; `auto` finds it."""
    names: Annotated[list[str] | None, Field(examples=[["bad", "good"]])] = None
    """Of the labels, where they are vectors of 0 and 1."""
    class_weights: classes.ClassWeights = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the truth that is spread over all labels."""
    calibrate: calibration.Calibrate = False
    thresholds: Literal["validation", "half"] = "validation"
    """Of several labels: each from its own probability, fitted on `validation`; or `half`.

    The probability from which one of several labels is given: for each label the one with the best F1 on the
    `validation` rows, if at least five of them have it and five have not, or `half` for all.
    """


Known = one_label.Known | label_sets.Known | numbers.Known


TEMPLATE = Template(
    model="answerdotai/ModernBERT-base",
    train="reviews.csv",
    output="runs/reviews",
    examples={"data.group": "author", "data.max_length": 256},
    additions={
        "model": "a pretrained encoder with its tokenizer",
        "report.baselines": "majority class, and frozen embeddings with logistic regression",
    },
)


def reading(train: Dataset, config: Config) -> tuple[readings.Reading, list[Finding]]:
    """Tell how the labels are written, and what kind they are."""
    cells, options = train["label"], config.options
    if options["kind"] == "regression" or (options["kind"] == "auto" and _are_numbers(cells)):
        if options["kind"] == "regression":
            return {}, []
        return {}, [Finding("ok", "train: the labels are numbers, to be predicted (options.kind: regression)")]
    found = readings.find(cells, options["kind"], options["separator"], options["names"] or [])
    if not found:
        return {}, readings.doubts(cells) if options["kind"] == "auto" else []
    if options["kind"] == "single":
        return found | {"one": True}, []
    return found, [readings.told(cells, found, config.data.columns["label"])]


def _are_numbers(cells: Sequence[Any]) -> bool:
    """Tell whether a column is one of numbers with decimals; cells that hold none, such as NaN, are refused later."""
    return all(map(numbers.is_meant_as_one, cells)) and any(
        math.isfinite(float(cell)) and not float(cell).is_integer() for cell in cells
    )


def read(table: Dataset, reading: readings.Reading, path: str) -> Dataset:
    """Return a table with its labels as lists, if they are written so that there may be several."""
    if not reading:
        return table
    cells: list[Any] = [
        readings.labels_of(cell, reading, (path, row)) for row, cell in enumerate(table["label"], start=1)
    ]
    if reading.get("one"):
        cells = [readings.only(cell, path, row) for row, cell in enumerate(cells, start=1)]
    return put_column(table, "label", cells)


def strata(table: Dataset, config: Config) -> list[list[str]]:
    """Return the labels of each row, or the tenth that its number is in."""
    kind = _kind_of(table, config)
    if kind == "regression" and all(map(numbers.is_number, table["label"])):
        return numbers.tenths(table)
    cells = table["label"] if kind == "multi" else classes.names_of(table)
    return [list(cell or []) if kind == "multi" else [cell] for cell in cells]


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Name the labels and look for what spoils a classifier."""
    paths = {name: classes.where(name, config) for name in splits}
    for name, split in splits.items():
        wording.require_texts(split, paths[name])
    kind = _kind_of(splits["train"], config)
    _require_options(kind, config)
    spec, findings = KINDS[kind].learn_spec(splits, paths, config)
    keys = {name: wording.keys(split) for name, split in splits.items()}
    for name, split in splits.items():
        shown = KINDS[kind].shown_of(split, spec)
        findings += [*duplicates.repeats(name, keys[name], shown, "text"), *wording.empty_findings(name, split)]
    return spec, findings + duplicates.leaks(wording.likenesses(splits), "text")


def _kind_of(table: Dataset, config: Config) -> str:
    """Return what the configuration asks for, or go by the column."""
    if config.options["kind"] != "auto":
        return config.options["kind"]
    cells = table["label"]
    return (
        "multi" if any(isinstance(cell, list) for cell in cells) else "regression" if _are_numbers(cells) else "single"
    )


def _require_options(kind: str, config: Config) -> None:
    """Refuse options that mean nothing for what is learned."""
    options, plain = config.options, Options()
    if kind == "regression":
        for key in ("class_weights", "label_smoothing", "calibrate"):
            if options[key] != getattr(plain, key):
                raise ConfigError(
                    f"options.{key}: need labels to apply it to; got numbers; leave it out or set options.kind."
                )
    if config.framework != "torch" and (kind != "single" or options["label_smoothing"]):
        what = "label_smoothing" if kind == "single" else f"kind {kind}"
        raise ConfigError(
            f"framework: need options.{what} left out on {config.framework}; got it, which only torch does; remove it, "
            "or set framework: torch."
        )


def _of(spec: Known) -> ModuleType:
    return KINDS[spec.kind]


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint."""
    return _of(spec).METRIC


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require texts, and labels that the model knows."""
    wording.require_texts(split, path)
    _of(spec).require_targets(split, path, spec)


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the tokenizer."""
    tokenizer = tokenizing.load_tokenizer(source, config.data.max_length)
    if tokenizing.reads_from_the_left(source):
        tokenizer.padding_side = "right"  # which no token sees; on the left, it would move the others' positions
    return tokenizer


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load the encoder with a head for the labels, a fresh one if the checkpoint has none that fits."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers():
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            trust_remote_code=False,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **bases.head_options(spec.labels, _of(spec).PROBLEM),
            **bases.dropouts(source, dropout),
        )
    tokenizing.set_padding(model, source)
    if isinstance(spec, numbers.Known):
        model.config.label_scale = {"mean": spec.mean, "deviation": spec.deviation}
    return model, bases.newly_initialised(source, model, info)


def encode(name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
    """Turn texts into token numbers and labels into what the loss takes."""
    from datasets import Dataset

    limit = processor.model_max_length
    encodings, lengths = tokenizing.tokenize(processor, split["text"], limit)
    rows = {
        "input_ids": encodings,
        "labels": _of(spec).targets(split, spec),
        "length": [len(ids) for ids in encodings],
    }
    findings = wording.length_findings(name, lengths, limit, refuse=config.data.too_long == "refuse")
    tokenizing.require_embeddings(processor, encodings, config.source)
    findings += wording.reading_findings(name, split["text"], encodings, processor)
    findings += tokenizing.padding_findings(name, processor)
    return Encoded(Dataset.from_dict(rows), findings)


def collator(processor: Any) -> Any:
    """Pad each batch to its own longest text."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(processor)


def loss(rows: Dataset, spec: Known, config: Config) -> Callable[..., Any]:
    """Return the loss of what is learned, as the options ask for it."""
    return _of(spec).loss(rows, spec, config)


def tally(outputs: Any, spec: Known) -> np.ndarray:
    """Count what a batch comes to."""
    return _of(spec).tally(outputs, spec)


def validate(tally: np.ndarray, spec: Known) -> dict[str, float]:
    """Return the measures of what is learned."""
    return _of(spec).validate(tally, spec)


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Give each text its most probable label, its labels, or its number."""
    logits, cut = _logits(model, processor, inputs, display)
    kind = PROBLEMS[getattr(getattr(model, "config", None), "problem_type", one_label.PROBLEM)]
    labels, scaled = framework_of(model).labels(model), logits / calibration.temperature_of(model)
    return [{**kind.prediction(model, labels, row), "tokens_cut": n} for row, n in zip(scaled, cut, strict=True)]


def _logits(
    model: Any, processor: Any, inputs: Sequence[Any], display: Display, what: str = "predict"
) -> tuple[np.ndarray, list[int]]:
    """Return the model's logits of each text, and how many of its tokens were cut off."""
    texts = [input_files.text_of(text, f"input {number}") for number, text in enumerate(inputs, start=1)]
    encodings, lengths = tokenizing.tokenize(processor, texts, processor.model_max_length)
    answer = partial(framework_of(model).logits, model)
    how = {"alike": is_rounded(model), "threads": runs_side_by_side(model)}
    logits = tokenizing.compute(answer, processor, encodings, display, what, **how)
    return np.asarray(logits), [length - len(ids) for length, ids in zip(lengths, encodings, strict=True)]


def fit(model: Any, processor: Any, split: Dataset, spec: Known, config: Config, display: Display) -> dict[str, Any]:
    """Fit on validation rows what makes answers of logits; see `Options.calibrate` and `Options.thresholds`."""
    several = spec.kind == "multi" and config.options["thresholds"] == "validation"
    if not (config.options["calibrate"] or several):
        return {}
    logits, _ = _logits(model, processor, split["text"], display, "calibrate")
    return _of(spec).fit(logits, split, spec, config)


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score predictions, with 95 % intervals."""
    return _of(spec).measure(split, predictions, spec)


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Predict what is commonest, and by a linear model of the pretrained model's own embeddings."""
    shown = classes.drawn_from(train, config.seed, config.report.baseline_rows)
    vectors = embed(config, processor, [*shown["text"], *test["text"]], display)
    return _of(spec).baselines(shown, test, vectors[: len(shown)], vectors[len(shown) :], spec)


def embed(config: Config, processor: Any, texts: Sequence[str], display: Display) -> np.ndarray:
    """Return the mean of the pretrained model's last hidden states over each text's tokens."""
    import torch
    from transformers import AutoModel

    from regard.finetuning.training.precision import autocast

    with quiet_transformers():
        model = AutoModel.from_pretrained(config.source, dtype=torch.float32, trust_remote_code=False).eval()
    encodings, _ = tokenizing.tokenize(processor, texts, processor.model_max_length)

    def mean(batch: Any) -> np.ndarray:
        mask = batch["attention_mask"][..., None]
        return ((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)).float().numpy()

    with torch.inference_mode(), autocast(config.train.precision):
        return tokenizing.compute(mean, processor, encodings, display, "baseline")


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return where the model errs, its worst mistakes, and the attention in a few short texts."""
    kind = _of(spec)
    rows = zip(split["text"], kind.shown_of(split, spec), predictions, strict=True)
    examples = [kind.example(text, truth, prediction) for text, truth, prediction in rows]
    drawn = kind.choose(
        examples,
        config.report.attention,
        lambda e: len(processor(e.text, verbose=False)["input_ids"]) <= READABLE,
    )
    looks = [framework_of(model).read(model, processor, e.text) for e in drawn]
    return {
        **kind.details(model, split, predictions, examples, spec),
        "mistakes": kind.mistakes(examples)[: config.report.mistakes],
        "right": kind.right(examples, config.report.right),
        "attention": [
            TokenAttention(e, looked.labels, looked.seen.dense()) for e, looked in zip(drawn, looks, strict=True)
        ],
    }


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put the truth beside the prediction."""
    answer = next(key for key in ("label", "labels", "value") if key in prediction)
    rest = {key: value for key, value in prediction.items() if key != answer}
    truth = str(row["label"]) if answer == "label" else row["label"]
    return {"text": row["text"], "truth": truth, "predicted": prediction[answer], **rest}


def tell(prediction: Prediction) -> str:
    """Return the number, or the most probable labels."""
    return digits(prediction["value"]) if "value" in prediction else classes.tell(prediction)
