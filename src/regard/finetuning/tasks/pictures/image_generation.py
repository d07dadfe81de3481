"""Image generation: pictures of a class, made of noise by a diffusion transformer."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from regard.errors import ConfigError
from regard.finetuning.config import Config, Section
from regard.finetuning.data import duplicates
from regard.finetuning.finite import require_finite
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import BY_LOSS, Encoded, Made, Prediction, Score, Spec, Template, input_files
from regard.finetuning.tasks.pictures import generated, shared
from regard.finetuning.tasks.targets import classes, intervals
from regard.inspection.report.content import Finding, Picture
from regard.looking.pictures import open_picture

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"image": "the file of a picture", "label": "the name of its class"}
TRAINING_PICTURES = "pictures of the training data"
INPUT = "label"
FORMATS = {"": shared.in_folders}
BATCH = 64
"""Pictures that are made at a time."""
MOMENTS = 4
"""Steps of the denoising whose attention is drawn."""

alike, parts, strata = input_files.alike, shared.own_parts, classes.strata
reading = read = None
tally = validate = None


class Scratch(Section):
    """The sizes of a diffusion transformer that begins at random and works on pixels."""

    layers: PositiveInt = 6
    """Of the transformer."""
    width: PositiveInt = 128
    """Of the hidden states; a multiple of `heads`."""
    heads: PositiveInt = 4
    """Of each layer's attention."""
    image: PositiveInt = 32
    """Pixels of a side of what it makes; a multiple of `patch`."""
    patch: PositiveInt = 4
    """Pixels of a side of what becomes one position."""
    channels: PositiveInt = 3
    """1 for grey pictures, 3 for colour."""


class Options(Section):
    """Keys of this task."""

    guidance: PositiveFloat = 3.0
    """Classifier-free; 1 does not guide.

    How far to go from what is made of no class in particular to what is made of the class asked for, and beyond.
    """
    steps: PositiveInt = 40
    """From noise to a picture."""
    from_scratch: Scratch | None = None
    """No pretrained model, but a random one of these sizes, on pixels; then `model`: `dit`."""


class Known(Spec):
    """What is known of the training data."""

    labels: list[str]
    guidance: float
    steps: int
    from_scratch: dict[str, int] | None


TEMPLATE = Template(
    model="facebook/DiT-XL-2-256",
    train="pictures",
    output="runs/made",
    examples={"data.group": "series"},
    hidden=(*shared.HIDDEN, "framework", "adapter", "train.dropout", "report.mistakes", "report.right"),
    comments=shared.COMMENTS | {"report.attention": "Pictures whose making is drawn"},
    additions={
        "model": "a DiT pipeline of diffusers",
        "data.train": "or a folder with a folder for each class",
        "data.test": "as many are made and compared",
        "train.epochs": "from scratch, tens or hundreds of them",
        "train.keep": BY_LOSS,
        "report.baselines": "the mean picture of the class, and training pictures, which no model can better",
    },
)


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Name the classes, and look for pictures in several places."""
    if config.adapter.kind != "none":
        raise ConfigError(
            f"adapter.kind: need none for image-generation; got {config.adapter.kind}; train all parameters."
        )
    paths = {name: classes.where(name, config) for name in splits}
    for name, split in splits.items():
        shared.require_cells(split, paths[name])
    labels = classes.label_names(splits["train"], paths["train"], config)
    findings: list[Finding] = []
    for name, split in splits.items():
        classes.require_known(split, labels, paths[name], paths["train"])
        findings.append(classes.balance(name, split, labels))
    keys = {name: shared.digests(split["image"]) for name, split in splits.items()}
    return Known(labels=labels, **config.options), findings + duplicates.leaks(keys, "picture")


def loss(rows: Dataset, spec: Known, config: Config) -> None:
    """Leave the loss to the model: how well it tells the noise."""


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint."""
    return "loss"


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require files, and classes that the model knows."""
    shared.require_cells(split, path)
    classes.require_known(split, spec.labels, path, "the training data")


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the image processor, or make one for what the model works on: pixels from -1 to 1."""
    with quiet_transformers():
        from transformers import ViTImageProcessor  # which says at once what it would rather be
    if (Path(source) / "preprocessor_config.json").is_file():
        with quiet_transformers():
            return ViTImageProcessor.from_pretrained(source, trust_remote_code=False)
    scratch = config.options["from_scratch"]
    if scratch:
        shared.require_sizes(source, ("dit",), scratch)
    side = scratch["image"] if scratch else _side(source)
    with quiet_transformers():
        return ViTImageProcessor(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def _side(source: str) -> int:
    """Pixels of a side of what a pipeline makes."""
    from regard.finetuning.tasks.pictures.denoiser import Denoiser

    model, _ = Denoiser.from_pretrained(source, [])
    size = model.transformer.config.sample_size
    return size if model.autoencoder is None else size * 2 ** (len(model.autoencoder.config.block_out_channels) - 1)


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the diffusion transformer."""
    from regard.finetuning.tasks.pictures.denoiser import Denoiser

    options: dict[str, Any] = {"guidance": spec.guidance, "steps": spec.steps}
    if spec.from_scratch and not Path(source).is_dir():
        return Denoiser.from_scratch(spec.from_scratch, spec.labels, dropout or 0.0, **options), ["everything"]
    return Denoiser.from_pretrained(source, spec.labels, **options)


def encode(name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
    """Look into every picture once; they are read again when they are trained on, since all of them may not fit."""
    return shared.encode_files(name, split, processor, spec)


collator = shared.collator


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Make a picture of each class that is asked for: the first of a class, the second, ... whatever is beside them."""
    import torch

    model.eval()
    numbers = [model.number(name, f"input {n}") for n, name in enumerate(inputs, start=1)]
    found: list[Prediction] = []
    before: Counter[int] = Counter()
    seeds = []
    for number in numbers:
        seeds.append(before[number])
        before[number] += 1
    with display.bar("predict", len(inputs)) as advance:
        for start in range(0, len(inputs), BATCH):
            batch = numbers[start : start + BATCH]
            made = model.generate(torch.tensor(batch), seeds=seeds[start : start + BATCH])
            arrays = made.permute(0, 2, 3, 1).cpu().numpy()
            require_finite(arrays)
            found += [{"picture": generated.made(array)} for array in arrays]
            advance(len(batch))
    return found


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score what was made by a classifier that learned from the real pictures of the split.

    Returns:
        `agreement`, the share that the classifier takes for the class that was asked for (Wilson's interval), and the
        Fréchet and kernel distances between its features of made and real pictures; lower is better. The features are
        not Inception's, so that the distances compare with each other alone.
    """
    judge = _judge(tuple(split["image"]), tuple(classes.names_of(split)))
    made = judge.pixels([open_picture(io.BytesIO(p["picture"].content))[0] for p in predictions])
    taken = judge.labels(made)
    hits = [label == asked for label, asked in zip(taken, classes.names_of(split), strict=True)]
    frechet, kernel = generated.distances(judge.features(judge.real), judge.features(made))
    return {
        "agreement": intervals.share(hits),
        "frechet_distance": Score(frechet, higher_is_better=False),
        "kernel_distance": Score(kernel, higher_is_better=False),
    }


@lru_cache(maxsize=2)
def _judge(files: tuple[str, ...], names: tuple[str, ...]) -> generated.Judge:
    return generated.Judge([open_picture(file)[0] for file in files], list(names))


CEILINGS = (TRAINING_PICTURES,)
"""Baselines that no model can better."""


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Give the mean picture of the class, and a training picture of it, which is as good as can be."""
    shown = classes.drawn_from(train, config.seed, config.report.baseline_rows)
    files: dict[str, list[str]] = {}
    for file, name in zip(shown["image"], classes.names_of(shown), strict=True):
        files.setdefault(name, []).append(file)
    means = {name: generated.mean_picture(listed) for name, listed in files.items()}
    counts: dict[str, int] = {}
    copies = []
    for name in classes.names_of(test):
        counts[name] = counts.get(name, -1) + 1
        copied = open_picture(files[name][counts[name] % len(files[name])])[0]
        copies.append({"picture": generated.made(np.asarray(copied) / 255)})
    blurred = [{"picture": Made(means[name], ".png")} for name in classes.names_of(test)]
    return {"mean picture of the class": blurred, TRAINING_PICTURES: copies}


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return pictures of each class, and where the patches look while a few are made."""
    sheet = Picture(
        "Made for each class",
        generated.sheet(predictions, classes.names_of(split)),
        "A row for each class.",
    )
    drawn = [
        Picture(
            f"Making {name}",
            generated.making(model, spec.labels.index(name), seed, MOMENTS),
            "Where the marked patch looks as the picture comes out of the noise: the mean of layers and heads.",
            inside=True,
        )
        for seed, name in enumerate(spec.labels[: config.report.attention])
    ]
    judge = _judge(tuple(split["image"]), tuple(classes.names_of(split)))
    told = (
        f"The classifier that judges learned from {len(split)} real pictures of the {judge.classes} classes; on a "
        f"fifth of them that it had not seen, before it learned from all, it was right in {judge.accuracy:.1%}. "
        "Distances are between its features, not Inception's: compare them with each other alone."
    )
    return {"pictures": [sheet, *drawn], "notes": [told]}


def tell(prediction: Prediction) -> str:
    """Say what was made."""
    width, height = open_picture(io.BytesIO(prediction["picture"].content))[0].size
    return f"a picture of {width} x {height} pixels"


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Return what was asked for; the pictures are in the report."""
    return {"label": str(row["label"]), "beside": row["image"]}
