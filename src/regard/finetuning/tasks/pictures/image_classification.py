"""Image classification: one label for each picture, such as what it shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PositiveInt

from regard.finetuning.config import Config, Section
from regard.finetuning.data import duplicates
from regard.finetuning.finite import require_finite
from regard.finetuning.frameworks import framework_of
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import Encoded, Prediction, Score, Spec, Template, bases, input_files
from regard.finetuning.tasks.pictures import shared
from regard.finetuning.tasks.targets import calibration, classes, intervals, one_label
from regard.inspection.report.content import Example, Finding, Picture
from regard.looking.pictures import open_picture

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"image": "the file of the picture to classify", "label": "the name of its class"}
INPUT = "image"
FORMATS = {"": shared.in_folders}
BATCH = 32
"""Pictures in a batch without gradients."""
SHRUNK = 16
"""Pixels of a side of the pictures that the baseline sees."""
FAMILIES = ("vit", "deit", "dinov2")
"""Families of models that can begin from scratch."""

alike, parts = input_files.alike, shared.own_parts
reading = read = None
loss, tally = classes.loss, classes.tally


class Scratch(Section):
    """The sizes of a model that begins at random, of the family that `model` names."""

    layers: PositiveInt = 6
    """Of the encoder."""
    width: PositiveInt = 192
    """Of the hidden states; a multiple of `heads`."""
    heads: PositiveInt = 3
    """Of each layer's attention."""
    image: PositiveInt = 32
    """Pixels of a side of what the model reads; a multiple of `patch`."""
    patch: PositiveInt = 4
    """Pixels of a side of what becomes one position."""


class Options(Section):
    """Keys of this task."""

    class_weights: classes.ClassWeights = "none"
    calibrate: calibration.Calibrate = False
    from_scratch: Scratch | None = None
    """No pretrained model, but a random one of these sizes; then `model`: `vit`, `deit` or `dinov2`."""


class Known(Spec):
    """What is known of the training data."""

    labels: list[str]
    from_scratch: dict[str, int] | None


TEMPLATE = Template(
    model="facebook/dinov2-small",
    train="pictures",
    output="runs/pictures",
    examples={"data.group": "patient"},
    hidden=shared.HIDDEN,
    comments=shared.COMMENTS | {"report.attention": "Pictures whose attention is drawn"},
    additions={
        "model": "a pretrained vision transformer with its image processor",
        "data.train": "or a folder with a folder for each class",
        "report.baselines": "majority class, and logistic regression on pixels and on frozen embeddings",
    },
)


strata = classes.strata


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Name the labels and look for what spoils a classifier."""
    paths = {name: classes.where(name, config) for name in splits}
    for name, split in splits.items():
        shared.require_cells(split, paths[name])
    labels = classes.label_names(splits["train"], paths["train"], config)
    keys = {name: shared.digests(split["image"]) for name, split in splits.items()}
    findings: list[Finding] = []
    for name, split in splits.items():
        classes.require_known(split, labels, paths[name], paths["train"])
        findings.append(classes.balance(name, split, labels))
        findings += duplicates.repeats(name, keys[name], classes.names_of(split), "picture")
    findings += classes.rarities(splits["train"], config) + duplicates.leaks(keys, "picture")
    return Known(labels=labels, from_scratch=config.options["from_scratch"]), findings


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint."""
    return "macro_f1"


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require files, and labels that the model knows."""
    shared.require_cells(split, path)
    classes.require_known(split, spec.labels, path, "the training data")


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the image processor, or make one for a model from scratch."""
    scratch = config.options["from_scratch"]
    if scratch and not Path(source).is_dir():
        shared.require_sizes(source, FAMILIES, scratch)
        with quiet_transformers():
            from transformers import ViTImageProcessor  # which says at once what it would rather be

            return ViTImageProcessor(size={"height": scratch["image"], "width": scratch["image"]})
    processor = shared.load_processor(source)
    shared.require_fit(source, processor)
    return processor


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the encoder with a head for the labels, a fresh one if the checkpoint has none that fits."""
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification

    scratch = spec.from_scratch
    if scratch and not Path(source).is_dir():
        dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout or 0.0)
        config = AutoConfig.for_model(source, **_sizes(scratch), **dropouts, **bases.head_options(spec.labels))
        return AutoModelForImageClassification.from_config(config, trust_remote_code=False), ["everything"]
    with quiet_transformers():
        model, info = AutoModelForImageClassification.from_pretrained(
            source,
            trust_remote_code=False,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **bases.head_options(spec.labels),
            **bases.dropouts(source, dropout),
        )
    return model, bases.newly_initialised(source, model, info)


def _sizes(scratch: dict[str, int]) -> dict[str, int]:
    """Return the sizes under transformers' names."""
    return {
        "num_hidden_layers": scratch["layers"],
        "hidden_size": scratch["width"],
        "num_attention_heads": scratch["heads"],
        "intermediate_size": 4 * scratch["width"],
        "image_size": scratch["image"],
        "patch_size": scratch["patch"],
    }


def encode(name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
    """Look into every picture once; they are read again when they are trained on, since all of them may not fit."""
    return shared.encode_files(name, split, processor, spec)


collator = shared.collator


def validate(tally: np.ndarray, spec: Known) -> dict[str, float]:
    """Return top-1 and macro F1."""
    scores = classes.validate(tally, spec)
    return {"top_1": scores["accuracy"], "macro_f1": scores["macro_f1"]}


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Give each picture its most probable label."""
    labels, temperature = framework_of(model).labels(model), calibration.temperature_of(model)
    return [classes.prediction(labels, row / temperature) for row in _logits(model, processor, inputs, display)]


def fit(model: Any, processor: Any, split: Dataset, spec: Known, config: Config, display: Display) -> dict[str, Any]:
    """Fit a temperature on validation rows, if the options ask for it."""
    if not config.options["calibrate"]:
        return {}
    logits = np.array(_logits(model, processor, split["image"], display, "calibrate"))
    return classes.fit(logits, classes.numbers_of(split, spec.labels), config)


def _logits(
    model: Any, processor: Any, inputs: Sequence[Any], display: Display, what: str = "predict"
) -> list[np.ndarray]:
    """Return the model's logits of each picture."""
    framework, found = framework_of(model), []
    with display.bar(what, len(inputs)) as advance:
        for start in range(0, len(inputs), BATCH):
            files = [
                input_files.text_of(file, f"input {start + n}")
                for n, file in enumerate(inputs[start : start + BATCH], 1)
            ]
            found += list(framework.logits(model, {"pixel_values": shared.pixels(processor, files)}))
            advance(len(files))
    require_finite(found)
    return found


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with top-1 and, of more than five labels, top-5 (Wilson's intervals), and macro F1 (bootstrapped)."""
    scores = classes.measure(split, predictions, spec)
    found = {"top_1": scores["accuracy"]}
    if len(spec.labels) > 5:
        hits = [_among_five(p, label) for p, label in zip(predictions, classes.names_of(split), strict=True)]
        found["top_5"] = intervals.share(hits)
    return found | {"macro_f1": scores["macro_f1"]}


def _among_five(prediction: Prediction, label: str) -> bool:
    odds = prediction["probabilities"]
    return label in sorted(odds, key=odds.__getitem__, reverse=True)[:5]


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Predict by the commonest label, and by logistic regression on pixels and on a pretrained model's embeddings."""
    shown = classes.drawn_from(train, config.seed, config.report.baseline_rows)
    files = [*shown["image"], *test["image"]]
    kinds = {"logistic regression on pixels": np.stack([_shrunk(file) for file in files])}
    if not spec.from_scratch:
        kinds["frozen embeddings + logistic regression"] = embed(config, processor, files, display)
    learned = {
        name: classes.logistic_regression(vectors[: len(shown)], classes.names_of(shown), vectors[len(shown) :])
        for name, vectors in kinds.items()
    }
    return {"majority class": classes.majority(train, test), **learned}


def _shrunk(file: str) -> np.ndarray:
    return np.asarray(open_picture(file)[0].resize((SHRUNK, SHRUNK)), np.float32).ravel() / 255


def embed(config: Config, processor: Any, files: Sequence[str], display: Display) -> np.ndarray:
    """Return the mean of the pretrained model's last hidden states over each picture's positions."""
    import torch
    from transformers import AutoModel

    from regard.finetuning.training.precision import autocast

    with quiet_transformers():
        model = AutoModel.from_pretrained(config.source, dtype=torch.float32, trust_remote_code=False).eval()
    found = []
    with torch.inference_mode(), autocast(config.train.precision), display.bar("baseline", len(files)) as advance:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            found.append(model(pixel_values=shared.pixels(processor, batch)).last_hidden_state.mean(1).float().numpy())
            advance(len(batch))
    require_finite(np.concatenate(found))
    return np.concatenate(found)


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return how each label fares, right and wrong answers, and the attention in a few pictures."""
    examples = [
        Example(file, truth, p["label"], p["probability"])
        for file, truth, p in zip(split["image"], classes.names_of(split), predictions, strict=True)
    ]
    drawn = classes.choose(examples, config.report.attention, lambda example: True)
    return {
        **one_label.details(model, split, predictions, examples, spec),
        "right": classes.right(examples, config.report.right),
        "mistakes": classes.mistakes(examples)[: config.report.mistakes],
        "pictures": [_drawn(model, processor, example) for example in drawn],
    }


def _drawn(model: Any, processor: Any, example: Example) -> Picture:
    """Draw what a picture's patches are given through all layers."""
    from regard.inspection.look import Look

    looked = framework_of(model).look(model, processor, example.text)
    png = io.BytesIO()
    Look(looked, "rollout", start=0, given=example.text).draw(png)
    told = f"{example.predicted} with probability {example.confidence:.2f}; it is {example.truth}"
    return Picture(
        f"{Path(example.text).name}: {told}",
        png.getvalue(),
        "Where its attention goes, through all layers.",
        inside=True,
    )


tell = classes.tell


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put the truth beside the prediction."""
    return {
        "image": row["image"],
        "truth": str(row["label"]),
        "predicted": prediction["label"],
        **{key: prediction[key] for key in ("probability", "probabilities")},
    }
