"""One file a task, each a plain module with the names of `Task`.

A new task adds its file, its line in `TASKS`, and nothing else: reading data, training, resuming, measuring and
reporting are the same for all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from regard._files import whole
from regard.errors import ConfigError, DataError
from regard.finetuning.words import nearest

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from regard.finetuning.config import Config, Section
    from regard.finetuning.progress import Display
    from regard.inspection.report.content import Finding

TASKS = {
    "text-classification": "texts.text_classification",
    "translation": "texts.translation",
    "summarization": "texts.summarization",
    "image-classification": "pictures.image_classification",
    "object-detection": "pictures.object_detection",
    "image-generation": "pictures.image_generation",
    "speech-recognition": "speech.speech_recognition",
    "speech-synthesis": "speech.speech_synthesis",
    "masked-language-modeling": "texts.masked_language_modeling",
}

Prediction = dict[str, Any]


class Spec(BaseModel):
    """What must be known of the training data to build a model and to measure it, such as the names of the labels.

    Each task has its own, `Known`; what is not given to it is not saved.

    Attributes:
        reading: how cells are written that can be written in several ways; see `Task.reading`.
    """

    model_config = ConfigDict(frozen=True)

    reading: dict[str, Any] | None = None

    def dump(self) -> dict[str, Any]:
        """Return it as plain JSON, `reading` last, which `load_spec` reads; it stays in the run."""
        known = self.model_dump(exclude_unset=True)
        return {key: known[key] for key in sorted(known, key="reading".__eq__)}


@dataclass(frozen=True)
class Score:
    """A measure with its 95 % confidence interval, which nobody computed if it is None.

    Attributes:
        draws: the measure of each of many resamples of the rows, if it was computed. They are the same resamples for
            whatever is measured on as many rows, so that the draws of two models on the same rows make pairs.
    """

    value: float
    interval: tuple[float, float] | None = None
    higher_is_better: bool = True
    draws: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Part:
    """A part that a data set names its own: where it lies, and what yields its rows."""

    path: Path
    rows: Callable[[], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class Encoded:
    """A split as the model reads it, and what had to be said of it."""

    rows: Dataset
    findings: list[Finding]


@dataclass(frozen=True)
class Made:
    """What a prediction holds that is a file, such as a picture or a sound: it is written beside the predictions.

    Attributes:
        content: of the file.
        suffix: what its name ends in, `.png`.
        sketch: a few numbers that tell what is in it: of two files that should be the same, these are compared.
    """

    content: bytes
    suffix: str
    sketch: tuple[float, ...] = ()

    def save(self, path: Path) -> Path:
        """Write the file, unless there is one of its name.

        Raises:
            DataError: there is.
        """
        if path.exists():
            raise DataError(f"{path}: need a new file to write; got one that exists; name another.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as aside:
            aside.write_bytes(self.content)
        return path


@dataclass(frozen=True)
class Template:
    """What a task says of the configuration that `regard init` writes for it; the keys say the rest themselves.

    Attributes:
        model: the name of one to begin with.
        train: what `data.train` may be called.
        output: what the run directory may be called.
        examples: dotted key -> an example of its value, in place of the key's own.
        comments: dotted key -> what it means for this task, in place of what it says of itself.
        additions: dotted key -> what is said behind that.
        hidden: keys that mean nothing to this task.
    """

    model: str
    train: str
    output: str
    examples: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    additions: dict[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()


BY_LOSS = "the best has the least loss"
"""Of `train.keep`, for tasks that measure no more than that in a validation."""


class Task(Protocol):
    """What a task's module holds.

    Where it says `Spec`, a task takes its own, `Known`. A `Prediction` is one answer as plain JSON, but for values of
    `Made`.
    """

    COLUMNS: dict[str, str]
    """The task's columns -> what each holds; rows whose first is equal are never parted by a split."""
    INPUT: str
    """The column that is there when someone asks for predictions."""
    FORMATS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]]
    """What else than tables holds this task's rows: a file's ending, or "" for a folder -> what yields the rows."""
    alike: Callable[[Any], Any]
    """Gives equal values for inputs that shall not be parted when rows are set aside; None for one tied to no other."""
    parts: Callable[[Path], dict[str, Part]] | None
    """Finds the parts that a data set names its own: of a folder or file, `train` and what else there is of
    `validation` and `test`; none if it has none."""
    reading: Callable[[Dataset, Config], tuple[dict[str, Any], list[Finding]]] | None
    """Tells from the training rows how cells are written that can be written in several ways, as plain JSON."""
    read: Callable[[Dataset, dict[str, Any], str], Dataset] | None
    """Returns a table, from a path, with its cells in the task's one way, as `reading` says how they are written."""
    strata: Callable[[Dataset, Config], Sequence[Sequence[str]]] | None
    """Returns for each row what a part that is set aside shall hold as often as the rest: its labels."""
    TEMPLATE: Template
    """What a configuration to start from holds."""
    Options: type[Section]
    """Keys of the configuration that only this task knows."""
    Known: Any
    """The task's own `Spec`, or a union of several."""

    def inspect(self, splits: dict[str, Dataset], config: Config) -> tuple[Spec, list[Finding]]:
        """Learn the spec from the training data and look for trouble; raise DataError if no model can come of it."""

    def metric(self, spec: Spec) -> str:
        """Return which measure of `validate` chooses the best checkpoint, higher is better; or `loss`, lower is."""

    def inspect_held_out(self, split: Dataset, path: str, spec: Spec) -> None:
        """Raise DataError if a split that came later does not fit the spec."""

    def load_processor(self, source: str, config: Config, train: Dataset | None = None) -> Any:
        """Load the tokenizer, image processor or the like; from scratch, make it by the training rows."""

    def load_model(self, source: str, spec: Spec, dropout: float | None = None) -> tuple[Any, list[str]]:
        """Load the pretrained model in float32; also return the names of its newly initialised parameters."""

    def encode(self, name: str, split: Dataset, processor: Any, spec: Spec, config: Config) -> Encoded:
        """Turn the rows of the split `name` into the model's inputs, `length` among them where lengths differ."""

    def collator(self, processor: Any) -> Any:
        """Return what makes a batch of encoded rows; its `follow`, if any, is given the sampler, with the epoch."""

    def loss(self, rows: Dataset, spec: Spec, config: Config) -> Callable[..., Any] | None:
        """Return a loss in place of the model's own, or None."""

    tally: Callable[[Any, Spec], np.ndarray] | None
    """Counts what a batch's outputs in a validation come to, in numbers that add up over batches; None leaves it at
    the loss."""

    validate: Callable[[np.ndarray, Spec], dict[str, float]] | None
    """Returns the measures of a whole validation from the sum of its batches, if they are counted."""

    def respond(self, model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
        """Predict, in the order of the inputs."""

    def measure(self, split: Dataset, predictions: Sequence[Prediction], spec: Spec) -> dict[str, Score]:
        """Score predictions against the truth."""

    def baselines(
        self, train: Dataset, test: Dataset, processor: Any, spec: Spec, config: Config, display: Display
    ) -> dict[str, list[Prediction]]:
        """Predict with models so simple that ours must do better: name -> predictions."""

    def illustrate(
        self, model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Spec, config: Config
    ) -> dict[str, Any]:
        """Return the parts of the report that show single inputs: any of those of `Report` from `confusion` on."""

    def record(self, row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
        """Return a line of predictions.jsonl."""

    def tell(self, prediction: Prediction) -> str:
        """Return a prediction as a line to read."""


def get_task(name: str) -> Task:
    """Return the module of a task.

    Raises:
        ConfigError: there is no such task.
    """
    if name not in TASKS:
        near = nearest(name, TASKS)
        meant = f"did you mean '{near}'?" if near else "choose one."
        raise ConfigError(f"task: need one of {', '.join(TASKS)}; got '{name}'; {meant}")
    return cast(Task, importlib.import_module(f"{__name__}.{TASKS[name]}"))


def load_spec(task: str, saved: Any, who: str | Path) -> Spec:
    """Return what a run of a task knows of its training data.

    Raises:
        DataError: something else was saved.
    """
    try:
        return TypeAdapter(get_task(task).Known).validate_python(saved)
    except ValidationError as error:
        where = ".".join(map(str, ("spec", *error.errors()[0]["loc"])))
        raise DataError(f"{who}: need what a run of {task} knows; got '{where}' otherwise; train again.") from None
