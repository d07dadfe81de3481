"""A run directory: what one fine-tuning made, to load, predict and measure with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any

from regard._escapes import half
from regard._files import as_folder, read_json, remove, write_json, write_text
from regard.errors import ConfigError, DataError
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config
from regard.finetuning.data.columns import FILES, take_columns
from regard.finetuning.data.tables import read_table
from regard.finetuning.frameworks import get_framework
from regard.finetuning.loading import loading
from regard.finetuning.progress import Display
from regard.finetuning.runs.inputs import MODELS, require_same_inputs
from regard.finetuning.runs.seals import Described, describe, fault, require_own
from regard.finetuning.tasks import Prediction, Score, Spec, Task, get_task, load_spec

STATE, CONFIG, METRICS, ATTENTION = "run.json", "config.yaml", "metrics.json", "attention.json"
PREDICTIONS, DRAWS, CALIBRATION = "predictions.jsonl", "resamples.npz", "calibration.json"
MODEL, ADAPTER, CARD = "model", "adapter", "README.md"
WRITING = "checkpoint.tmp"
"""The checkpoint that is being written."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: the run directory: `model/`, `config.yaml`, `metrics.json`, `predictions.jsonl`, `attention.json`,
            `training-curves.png`, `report.html`.

    Example:
        >>> run = Run.load("runs/reviews")  # doctest: +SKIP
        >>> [answer] = run.predict(["A joy from start to finish."])  # doctest: +SKIP
        >>> answer["label"]  # doctest: +SKIP
        'positive'
    """

    path: Path

    @classmethod
    def load(cls, path: str | Path | Run) -> Run:
        """Open a run directory.

        Raises:
            DataError: there is no run, it is not finished, or it refers to what lies outside of it.
        """
        if isinstance(path, Run):
            return path
        path = as_folder(path, "run", "a run, or the directory of one")
        if not (path / STATE).is_file():
            raise DataError(f"{path}: need a run directory; got {_what(path)}; make one with 'regard finetune'.")
        if not (path / MODEL).is_dir():
            raise DataError(
                f"{path}: need a trained run; got one that was interrupted; go on with 'regard finetune --resume'."
            )
        require_own(path)
        return cls(path)

    @cached_property
    def config(self) -> Config:
        """The configuration of the run, defaults included."""
        return load_config(self.path / CONFIG)

    @cached_property
    def state(self) -> dict[str, Any]:
        """What the run knows of itself: spec, seconds, versions.

        Raises:
            DataError: it lacks what every run knows.
        """
        state = read_json(self.path / STATE)
        wrong = [key for key in ("spec", "files", "inputs") if not isinstance(state.get(key, {}), dict)]
        if wrong or "spec" not in state:
            raise DataError(
                f"{self.path / STATE}: need what the run knows of itself, as it wrote it; got no object for "
                f"'{(wrong or ['spec'])[0]}'; put back what it was, or train again."
            )
        return state

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What was measured at the end of the run."""
        return read_json(self.path / METRICS)

    @cached_property
    def spec(self) -> Spec:
        """What the run knows of its training data."""
        return load_spec(self.config.task, self.state.get("spec"), self.path)

    @cached_property
    def folder(self) -> Path:
        """Where the model lies, as the run left it.

        Raises:
            DataError: a file there, or what it was made to be used with, is not as it was; says which.
        """
        require_unchanged(self.path, self.state.get("files", {}))
        inputs = self.state.get("inputs", {})
        require_same_inputs(self.path, {key: inputs[key] for key in MODELS if key in inputs})
        return self.path / MODEL

    @cached_property
    def model(self) -> Any:
        """The fine-tuned model, ready to predict."""
        framework = get_framework(self.config.framework)
        model, missing = framework.load(self.folder, self.config, self.spec)
        if missing:
            raise DataError(f"{self.folder}: need every parameter; got none for {', '.join(missing)}; train again.")
        return model

    @cached_property
    def processor(self) -> Any:
        """The tokenizer or the like that belongs to the model."""
        with loading("what prepares the inputs of a model", self.folder):
            return self.task.load_processor(str(self.folder), self.config)

    @property
    def input(self) -> str:
        """The task's name of the column that predictions are made from."""
        return self.task.INPUT

    @property
    def task(self) -> Task:
        """The module of the task."""
        return get_task(self.config.task)

    def predict(self, inputs: Sequence[Any] | str, *, progress: bool = False) -> list[Prediction]:
        """Predict in the order of the inputs; see `regard.predict`."""
        return self.respond(_listed(inputs, self.input), Display(quiet=not progress))

    def respond(self, inputs: Sequence[Any], display: Display) -> list[Prediction]:
        """Predict in the order of the inputs, and show how far it is."""
        return self.task.respond(self.model, self.processor, inputs, display)

    def evaluate(
        self,
        data: str | Path,
        *,
        columns: Mapping[str, str | list[str]] | None = None,
        sheet: str | None = None,
        progress: bool = False,
    ) -> dict[str, Score]:
        """Measure on a file with the truth, by other columns, or another sheet, if given; see `regard.evaluate`."""
        one = {*self.config.data.columns} if self.task.reading is None else {self.input}
        _require_columns(columns, self.config.data.columns, one)
        columns, spec = {**self.config.data.columns, **(columns or {})}, self.spec
        split = take_columns(
            read_table(data, self.task.FORMATS, self.config.data.sheet if sheet is None else sheet), columns, data
        )
        if self.task.read and spec.reading:
            split = self.task.read(split, spec.reading, str(data))
        self.task.inspect_held_out(split, str(data), spec)
        predictions = self.respond(split[self.task.INPUT], Display(quiet=not progress))
        return self.task.measure(split, predictions, spec)


def evaluate(run: Run | str | Path, data: str | Path, *, progress: bool = False) -> dict[str, Score]:
    """Measure a run on data with the truth in it.

    Args:
        run: a run, or its directory.
        data: a file with the same columns as the run's own.
        progress: show a progress bar.

    Returns:
        The measure's name -> `Score(value, interval)`.

    Raises:
        DataError: the run or the data cannot be used.
    """
    return Run.load(run).evaluate(data, progress=progress)


def _listed(inputs: Any, role: str) -> list[Any]:
    """Return inputs as a list, each of a kind that a task can look at.

    Raises:
        DataError: they have no order, or are none.
    """
    if isinstance(inputs, str | PathLike):
        inputs = [inputs]
    unordered = isinstance(inputs, Mapping | Set | bytes | bytearray) or hasattr(inputs, "columns")
    unordered = unordered or getattr(inputs, "shape", (0,)) == ()  # an array of one value
    if unordered or not isinstance(inputs, Iterable):
        raise DataError(
            f"predict: need a list of inputs, one {role} each; got {type(inputs).__name__}; put them into a list."
        )
    found = [fspath(each) if role in FILES and isinstance(each, PathLike) else each for each in inputs]
    for number, each in enumerate(found, start=1):
        if isinstance(each, str) and not each.strip():
            raise empty_input(role, number)
        if role not in FILES and isinstance(each, str) and (lone := half(each)):
            raise DataError(
                f"predict: need whole characters; got half of a surrogate pair ({lone}) in input {number}; correct it."
            )
    return found


def empty_input(role: str, number: int) -> DataError:
    """Say that there is nothing in an input, of which nothing can be said."""
    return DataError(f"predict: need a {role} to work on; got an empty one, input {number}; leave it out.")


def _require_columns(columns: Any, known: Mapping[str, Any], one: Set[str]) -> None:
    """Raise ConfigError for what are not the task's names of columns and a table's; those in `one` are never lists."""
    if columns is None:
        return
    if not isinstance(columns, Mapping):
        raise ConfigError(
            f"columns: need the task's names -> the table's; got {type(columns).__name__}; give a dictionary."
        )
    for role, name in columns.items():
        if role not in known:
            raise ConfigError(f"columns: need names among {', '.join(known)}; got '{role}'; correct it.")
        several = role not in one and isinstance(name, list) and all(isinstance(each, str) for each in name)
        if not (isinstance(name, str) or (several and name)):
            raise ConfigError(f"columns: need a column of the table for {role}; got {type(name).__name__}; name one.")


def require_unchanged(path: Path, described: Described, part: str = MODEL) -> None:
    """Compare a part of a run with what it was when it was written; nothing can be said of runs from before.

    Raises:
        DataError: a file is not as it was, or is there besides; says which.
    """
    known = {name: each for name, each in described.items() if PurePosixPath(name).is_relative_to(part)}
    if not known:
        return
    found = fault(path, known) or more_than(path / part, known, path)
    if found:
        raise DataError(f"{path}: need the {part} that the run wrote; got {found}; put it back, or train again.")


def rewrite(path: Path, name: str, text: str | None) -> None:
    """Write a file of a run anew, or delete it; if a kill comes in between, the run knows it as it was and as it is."""
    state, file = read_json(path / STATE), path / name
    if "files" not in state:  # a run from before files were described
        remove(file) if text is None else write_text(file, text)
        return
    before = describe(path, [file])[name] if file.is_file() else None
    others = {other: each for other, each in state["files"].items() if other != name}
    after = {name: _described(text.encode())} if text is not None else {}
    between = (after.get(name) or before or {}) | {"before": before if after else None}
    if after or before:
        write_json(path / STATE, state | {"files": others | {name: between}})
    remove(file) if text is None else write_text(file, text)
    write_json(path / STATE, state | {"files": others | after})


def _described(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def more_than(folder: Path, known: Described, home: Path) -> str | None:
    """Name a file in a folder that is not described; notes may be added."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(home)
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".md" and name.as_posix() not in known:
            return f"{name} besides"
    return None


def drop_weights(path: Path) -> None:
    """Delete what is large in a run whose scores alone are of use."""
    for heavy in (MODEL, "checkpoints", ADAPTER, WRITING):
        remove(path / heavy)


def is_pretrained(path: Path) -> bool:
    """Tell whether what the run in a directory began with had learned anything."""
    return read_json(path / STATE).get("newly_initialised") != ["everything"]


def _what(path: Path) -> str:
    return "a directory without one" if path.is_dir() else "a file" if path.exists() else "nothing there"
