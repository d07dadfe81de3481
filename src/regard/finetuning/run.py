"""A run directory: what one fine-tuning made, to load, predict and measure with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regard._escapes import as_json
from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.data import read_table, take_columns
from regard.finetuning.frameworks import get_framework
from regard.finetuning.loading import loading
from regard.finetuning.progress import Display
from regard.finetuning.tasks import Prediction, Score, Task, get_task

STATE, CONFIG, METRICS, ATTENTION = "run.json", "config.yaml", "metrics.json", "attention.json"
PREDICTIONS, DRAWS, CALIBRATION = "predictions.jsonl", "resamples.npz", "calibration.json"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: the run directory: `model/`, `config.yaml`, `metrics.json`, `predictions.jsonl`, `attention.json`,
            `training-curves.png`, `report.html`.

    Example:
        >>> run = regard.Run.load("runs/reviews")  # doctest: +SKIP
        >>> run.predict(["A joy from start to finish."])[0]["label"]  # doctest: +SKIP
        'positive'
    """

    path: Path

    @classmethod
    def load(cls, path: str | Path | Run) -> Run:
        """Open a run directory.

        Raises:
            DataError: there is no run, or it is not finished.
        """
        if isinstance(path, Run):
            return path
        path = Path(path)
        if not (path / STATE).is_file():
            raise DataError(f"{path}: need a run directory; got {_what(path)}; make one with 'regard finetune'.")
        if not (path / "model").is_dir():
            raise DataError(
                f"{path}: need a trained run; got one that was interrupted; go on with 'regard finetune --resume'."
            )
        return cls(path)

    @cached_property
    def config(self) -> Config:
        """The configuration of the run, defaults included."""
        return Config.load(self.path / CONFIG)

    @cached_property
    def state(self) -> dict[str, Any]:
        """What the run knows of itself: spec, seconds, versions."""
        return read_json(self.path / STATE)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What was measured at the end of the run."""
        return read_json(self.path / METRICS)

    @cached_property
    def model(self) -> Any:
        """The fine-tuned model, ready to predict."""
        framework = get_framework(self.config.framework)
        model, missing = framework.load(self.path / "model", self.config, self.state["spec"])
        if missing:
            raise DataError(
                f"{self.path / 'model'}: need every parameter; got none for {', '.join(missing)}; train again."
            )
        return model

    @cached_property
    def processor(self) -> Any:
        """The tokenizer or the like that belongs to the model."""
        with loading("what prepares the inputs of a model", self.path / "model"):
            return self.task.load_processor(str(self.path / "model"), self.config)

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
        return self.respond([inputs] if isinstance(inputs, str) else list(inputs), Display(quiet=not progress))

    def respond(self, inputs: Sequence[Any], display: Display) -> list[Prediction]:
        """Predict in the order of the inputs, and show how far it is."""
        return self.task.respond(self.model, self.processor, inputs, display)

    def evaluate(
        self, data: str | Path, *, columns: Mapping[str, str | list[str]] | None = None, progress: bool = False
    ) -> dict[str, Score]:
        """Measure on a file that holds the truth too, by other columns if they are given; see `regard.evaluate`."""
        columns, spec = {**self.config.data.columns, **(columns or {})}, self.state["spec"]
        split = take_columns(read_table(data, self.task.FORMATS), columns, data)
        if self.task.read and spec.get("reading"):
            split = self.task.read(split, spec["reading"], str(data))
        self.task.inspect_held_out(split, str(data), spec)
        predictions = self.predict(split[self.task.INPUT], progress=progress)
        return self.task.measure(split, predictions, spec)


def predict(run: Run | str | Path, inputs: Sequence[Any] | str, *, progress: bool = False) -> list[Prediction]:
    """Predict with a run.

    Args:
        run: a run, or its directory.
        inputs: one input or several, such as texts.
        progress: show a progress bar.

    Returns:
        A prediction for each input, in order, also when there is but one. For text classification: `label`,
        `probability`, `probabilities` of all labels, and `tokens_cut`, the number of tokens too many for the model.

    Raises:
        DataError: there is no such run, or an input is no text.
    """
    return Run.load(run).predict(inputs, progress=progress)


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


def is_pretrained(path: Path) -> bool:
    """Tell whether what the run in a directory began with had learned anything."""
    return read_json(path / STATE).get("newly_initialised") != ["everything"]


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(as_json(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _what(path: Path) -> str:
    return "a directory without one" if path.is_dir() else "a file" if path.exists() else "nothing there"
