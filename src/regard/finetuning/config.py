"""What a run is told: the sections of a configuration, each key with its default."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from regard.errors import ConfigError

S = TypeVar("S", bound="Section")


Fraction = Annotated[float, Field(gt=0, lt=1)]


Steps = Annotated[int, Field(gt=0, strict=True)]  # so that 1.0 is no number of steps


Share = Annotated[float, Field(gt=0, le=1)]


MOST = 2**31 - 1
"""What numbers in a configuration are at most."""


def in_steps(every: float, steps: int) -> int:
    """Return how many steps `every` is, of `steps` in all: itself, or that fraction of them if it is a float."""
    return math.ceil(steps * every) if isinstance(every, float) else every


class Section(BaseModel):
    """Base of every part of a configuration: unchangeable, and closed to keys that do not exist."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _require_no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number belongs, which would be 1 and 0."""
        kinds = set(re.findall(r"\w+", str(cls.model_fields[str(info.field_name)].annotation)))
        if isinstance(value, bool) and "bool" not in kinds and kinds & {"int", "float"}:
            raise PydanticCustomError("truth", "Input should be a number")
        return value

    @field_validator("*")
    @classmethod
    def _require_usable(cls, value: Any) -> Any:
        """Refuse numbers that no machine counts to, and names that no file can have."""
        if isinstance(value, int | float) and abs(value) > MOST:
            raise PydanticCustomError("too_large", f"Input should be a number of at most {MOST:,}")
        if isinstance(value, str) and "\0" in value:
            raise PydanticCustomError("null", "Input should be a text without null characters")
        return value


class Data(Section):
    """Which files, and which of their columns.

    Attributes:
        train: file to learn from (`.csv`, `.tsv`, `.jsonl`, each also with `.gz` behind, `.parquet`, `.xlsx`).
        validation: file that chooses the checkpoint, or a fraction to set aside of `train`.
        test: file that measures the result, or a fraction to set aside of what `validation` leaves of `train`; without
            it `validation` does.
        columns: the task's name of a column -> your name of it; the same name if left out. Labels with a column each
            are a list of names, or a pattern such as `genre_*`.
        sheet: which sheet of workbooks; their first if left out.
        group: column whose equal cells keep rows together, such as a speaker, a patient or a document: none of them is
            on both sides of what is set aside.
        max_length: tokens to read of each text at most; what the model can read if left out.
        too_long: what to do with longer texts: `cut` them at the end and report how many, or `refuse` to start.
    """

    train: str
    validation: str | Fraction = 0.1
    test: str | Fraction | None = None
    columns: dict[str, str | list[str]] = {}
    sheet: str | None = None
    group: str | None = None
    max_length: PositiveInt | None = None
    too_long: Literal["cut", "refuse"] = "cut"


class Training(Section):
    """How to learn.

    Attributes:
        epochs: passes over the training data; may be a fraction.
        max_steps: stop after so many optimizer steps instead.
        batch_size: examples in a forward pass.
        accumulate: batches in an optimizer step.
        max_tokens: tokens in a forward pass at most, which bounds the memory: a batch with more runs in several
            passes, with the same gradient.
        unpad: compute real tokens only (`regard.unpad`): `true`, `false`, or `auto`, where the model's family allows.
        learning_rate: at its highest, after the warm-up.
        layer_decay: each layer learns at this times the rate of the one above it, down to the embeddings; 1 makes all
            learn alike.
        warmup: fraction of the steps over which the learning rate rises.
        schedule: how the learning rate falls afterwards.
        weight_decay: of AdamW.
        dropout: probability of every dropout in the model; the model's own if left out. At 0, attention can run on
            fused kernels that have none.
        max_gradient_norm: longer gradients are shortened to it.
        precision: `bfloat16` keeps float32 weights and computes in bfloat16 where that is safe; `auto` does so where
            the hardware is made for it.
        evaluate_every: validate and save a checkpoint after this many steps (`1`, `2`, ...), or this fraction of all
            steps (up to `1.0`: at the end alone).
        patience: stop after so many validations without a better score; never if left out.
        keep: which weights become the model, those of the `best` validation or of the `last` step.
        keep_checkpoints: leave the checkpoints in a finished run.
    """

    epochs: PositiveFloat = 3
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 32
    accumulate: PositiveInt = 1
    max_tokens: PositiveInt = 16_384
    unpad: Literal["auto"] | bool = "auto"
    learning_rate: PositiveFloat = 5e-5
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    max_gradient_norm: PositiveFloat = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    evaluate_every: Steps | Share = 0.2
    patience: PositiveInt | None = None
    keep: Literal["best", "last"] = "best"
    keep_checkpoints: bool = False


class Adapter(Section):
    """What is trained instead of every parameter.

    Attributes:
        kind: `none` trains the whole model; `lora` adds a product of two narrow matrices to each attention's query and
            value and trains that with what is new, such as the head (Hu et al. 2021, arXiv 2106.09685); `dora` also
            trains the lengths of the columns (Liu et al. 2024, arXiv 2402.09353).
        rank: width of the narrow matrices.
        alpha: the product is multiplied by `alpha / rank`.
        targets: ends of the names of the linear layers to adapt; the family's queries and values if left out.
    """

    kind: Literal["none", "lora", "dora"] = "none"
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16
    targets: list[str] | None = None


class Reporting(Section):
    """What the report holds.

    Attributes:
        baselines: measure simple models beside ours.
        baseline_rows: training rows that a baseline learns from at most.
        mistakes: wrong predictions to show, the most confident first.
        right: right predictions to show beside them.
        attention: inputs whose attention is drawn token by token.
        license: of the model, as hubs write it (`apache-2.0`), for its card; what the base model's card says if left
            out.
    """

    baselines: bool = True
    baseline_rows: PositiveInt = 20_000
    mistakes: Annotated[int, Field(ge=0)] = 20
    right: Annotated[int, Field(ge=0)] = 6
    attention: Annotated[int, Field(ge=0)] = 6
    license: str | None = None


class Monitor(Section):
    """How training is watched.

    Attributes:
        every: look at how each head attends every so many steps, or this fraction of all steps; 0 never does.
        rows: validation rows to look at, the same each time.
        report_to: experiment trackers that are told the losses, scores and attention: `tensorboard`, `wandb`, `mlflow`
            and whatever else transformers' Trainer knows.
    """

    every: Steps | Annotated[float, Field(ge=0, le=1)] = 0.1
    rows: PositiveInt = 8
    report_to: list[str] = []


class Range(Section):
    """Values from `low` to `high`, whole numbers if both are; `log` draws each order of magnitude as often."""

    low: int | float
    high: int | float
    log: bool = False


class Search(Section):
    """What `regard search` tries.

    Attributes:
        trials: how often to train.
        space: dotted key, such as `train.learning_rate` -> a list of values, or `low`, `high` and `log`.
    """

    trials: PositiveInt = 20
    space: dict[str, list[Any] | Range] = {}


class Config(Section):
    """One run.

    Attributes:
        task: what to learn; `regard init` lists the names.
        model: where the pretrained model lies: a directory, `package:NAME/PATH` inside an installed Python package, or
            a name on the Hugging Face hub.
        data: which files and columns.
        output: the run directory to make.
        train: how to learn.
        framework: what trains the model: `torch` (transformers' Trainer), or KerasHub on `tensorflow`, `jax` or
            `torch-keras`, Keras' PyTorch backend.
        adapter: whether all parameters are trained, or few in their place.
        options: what only this task knows.
        monitor: how training is watched.
        report: what the report holds.
        seed: of everything random.
        repeats: how often to train: with `seed`, which gives the model, and with the seeds after it, which tell how far
            the scores vary.
        search: what `regard search` tries; `regard finetune` leaves it alone.
    """

    task: str
    model: str
    data: Data
    output: str
    train: Training = Training()
    framework: Literal["torch", "tensorflow", "jax", "torch-keras"] = "torch"
    adapter: Adapter = Adapter()
    options: dict[str, Any] = {}
    monitor: Monitor = Monitor()
    report: Reporting = Reporting()
    seed: NonNegativeInt = 42
    repeats: PositiveInt = 1
    search: Search = Search()

    @property
    def source(self) -> str:
        """Where the pretrained model lies."""
        return find_model(self.model)

    def dump(self) -> str:
        """Return everything, defaults included, as YAML that `load` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def flat(self) -> dict[str, Any]:
        """Return dotted key -> value."""
        return _flatten(self.model_dump(mode="json"))


def find_model(name: str) -> str:
    """Resolve `package:NAME/PATH` to a directory, without importing the package; other names stay as they are."""
    if not name.startswith("package:"):
        return name
    package, _, inner = name.removeprefix("package:").partition("/")
    top, *below = package.split(".")
    folder = _folder_of(top)
    if folder is None:
        raise ConfigError(f"model: need an installed package; got '{name}'; pip install it or name a directory.")
    if Path(inner).is_absolute() or ".." in Path(inner).parts:
        raise ConfigError(f"model: need a path inside of the package; got '{name}'; name a directory.")
    return str(folder.joinpath(*below, inner))


def _folder_of(package: str) -> Path | None:
    """Return where a package lies; only of its top can that be asked without running its code."""
    try:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
    except ValueError:  # a module without a place, such as __main__
        found = None
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
