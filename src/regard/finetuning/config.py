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
    """Base of every part of a configuration: unchangeable, and closed to keys that do not exist.

    The text under a key describes it: its first paragraph stands in what `regard init` writes (`template.py`), all of
    it in the reference of keys. A key that has no default worth showing has an example.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

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
    """Which files, and which of their columns."""

    train: str
    """What to learn from: a table (`.csv`, `.tsv`, `.jsonl`, `.parquet`, `.xlsx`).

    Each may also end in `.gz`, but for `.parquet` and `.xlsx`.
    """
    validation: str | Fraction = 0.1
    """The same, or a fraction to set aside of `train`: chooses the checkpoint."""
    test: str | Fraction | None = None
    """The same, or a fraction of what `validation` leaves: measures the result; without it `validation` does."""
    columns: dict[str, str | list[str]] = {}
    """The task's name of each column, then yours.

    The same name if left out. Labels with a column each are a list of names, or a pattern such as `genre_*`.
    """
    sheet: Annotated[str | None, Field(examples=["Sheet2"])] = None
    """Which sheet of workbooks; their first if left out."""
    group: Annotated[str | None, Field(examples=["document"])] = None
    """A column whose equal cells stay together when rows are set aside.

    Such as a speaker, a patient or a document: none of them is on both sides of what is set aside.
    """
    max_length: Annotated[PositiveInt | None, Field(examples=[128])] = None
    """Tokens to read of each text at most; what the model can read if left out."""
    too_long: Literal["cut", "refuse"] = "cut"
    """What to do with longer texts: `cut` their ends and report how many, or `refuse` to start."""


class Training(Section):
    """How to learn."""

    epochs: PositiveFloat = 3
    """Passes over the training data; may be a fraction."""
    max_steps: Annotated[PositiveInt | None, Field(examples=[1000])] = None
    """Stop after so many optimizer steps instead."""
    batch_size: PositiveInt = 32
    """Examples in a forward pass."""
    accumulate: PositiveInt = 1
    """Batches in an optimizer step."""
    max_tokens: PositiveInt = 16_384
    """Tokens in a forward pass at most: bounds the memory, not the step.

    A batch with more runs in several passes, with the same gradient.
    """
    unpad: Literal["auto"] | bool = "auto"
    """Compute real tokens only: `true`, `false`, or `auto`, where the model's family allows.

    See `regard.unpad`.
    """
    learning_rate: PositiveFloat = 5e-5
    """At its highest, after the warm-up."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer's rate is this times that of the one above it.

    Down to the embeddings; 1 makes all learn alike.
    """
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the steps over which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How the learning rate falls afterwards: `linear`, `cosine` or `constant_with_warmup`."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    dropout: Annotated[Annotated[float, Field(ge=0, lt=1)] | None, Field(examples=[0.1])] = None
    """Of every dropout in the model; the model's own if left out.

    At 0, attention can run on fused kernels that have none.
    """
    max_gradient_norm: PositiveFloat = 1.0
    """Longer gradients are shortened to it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """To compute in: `float32`, `bfloat16`, or `auto`: `bfloat16` where the hardware is made for it.

    `bfloat16` keeps float32 weights and computes in bfloat16 where that is safe.
    """
    evaluate_every: Steps | Share = 0.2
    """Validate and save a checkpoint after this fraction of the run, or a number of steps.

    A number of steps is whole (`1`, `2`, ...); a fraction is up to `1.0`, at the end alone.
    """
    patience: Annotated[PositiveInt | None, Field(examples=[3])] = None
    """Stop after so many validations without a better score; never if left out."""
    keep: Literal["best", "last"] = "best"
    """Which weights become the model: those of the `best` validation, or of the `last` step."""
    keep_checkpoints: bool = False
    """Leave the checkpoints in a finished run."""


class Adapter(Section):
    """Whether all parameters are trained, or few in their place."""

    kind: Literal["none", "lora", "dora"] = "none"
    """`lora` or `dora`: train a few parameters in place of all.

    `none` trains the whole model; `lora` adds a product of two narrow matrices to each attention's query and value and
    trains that with what is new, such as the head (Hu et al. 2021, arXiv 2106.09685); `dora` also trains the lengths of
    the columns (Liu et al. 2024, arXiv 2402.09353).
    """
    rank: PositiveInt = 8
    """Width of the narrow matrices."""
    alpha: PositiveFloat = 16
    """Their product is multiplied by `alpha / rank`."""
    targets: Annotated[list[str] | None, Field(examples=[["query", "value"]])] = None
    """Ends of names of linear layers to adapt; the family's queries and values if left out."""


class Reporting(Section):
    """What the report holds."""

    baselines: bool = True
    """Measure simple models beside ours."""
    baseline_rows: PositiveInt = 20_000
    """Training rows that a baseline learns from at most."""
    mistakes: Annotated[int, Field(ge=0)] = 20
    """Wrong predictions to show, the most confident first."""
    right: Annotated[int, Field(ge=0)] = 6
    """Right predictions to show beside them."""
    attention: Annotated[int, Field(ge=0)] = 6
    """Inputs whose attention is drawn token by token."""
    license: Annotated[str | None, Field(examples=["apache-2.0"])] = None
    """Of the model, as hubs write it, for its card; the base model's if left out."""


class Monitor(Section):
    """How training is watched."""

    every: Steps | Annotated[float, Field(ge=0, le=1)] = 0.1
    """Look at how each head attends after this fraction of the run, or so many steps; 0: never."""
    rows: PositiveInt = 8
    """Validation rows to look at, the same each time."""
    report_to: Annotated[list[str], Field(examples=[["tensorboard"]])] = []
    """Experiment trackers that are told the losses, scores and attention.

    `tensorboard`, `wandb`, `mlflow` and whatever else transformers' Trainer knows.
    """


class Range(Section):
    """Values between two numbers, whole ones if both are."""

    low: int | float
    """The least."""
    high: int | float
    """The greatest."""
    log: bool = False
    """Draw each order of magnitude as often."""


SPACE = {
    "train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "train.batch_size": [16, 32],
}


class Search(Section):
    """What `regard search` tries; `regard finetune` leaves it alone."""

    trials: PositiveInt = 20
    """How often to train."""
    space: Annotated[dict[str, list[Any] | Range], Field(examples=[SPACE])] = {}
    """Dotted key -> a list of values, or `low`, `high` and `log`."""


class Config(Section):
    """One run."""

    task: str
    """What to learn; `regard init` lists the names."""
    model: str
    """Where the pretrained model lies: a directory, `package:NAME/PATH` in an installed Python package, or a name on
    the Hugging Face hub."""
    data: Data
    output: str
    """The run directory to make."""
    train: Training = Training()
    framework: Literal["torch", "tensorflow", "jax", "torch-keras"] = "torch"
    """What trains the model: `torch`, or KerasHub on `tensorflow`, `jax` or `torch-keras`.

    `torch` is transformers' Trainer, `torch-keras` Keras' PyTorch backend. A checkpoint whose logits in KerasHub are
    not those in transformers, as for an activation that KerasHub does not read, is refused.
    """
    adapter: Adapter = Adapter()
    options: dict[str, Any] = {}
    """What only this task knows."""
    monitor: Monitor = Monitor()
    report: Reporting = Reporting()
    seed: NonNegativeInt = 42
    """Of everything random."""
    repeats: PositiveInt = 1
    """Train with so many seeds: mean and deviation of the scores.

    With `seed`, which gives the model, and with the seeds after it, which tell how far the scores vary.
    """
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
