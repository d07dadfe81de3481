"""Everything that a run on Keras needs to go on as if it had never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from regard._files import read_json, remove, whole
from regard.finetuning.runs.run import STATE as RUN
from regard.finetuning.runs.seals import seal
from regard.finetuning.training.checkpoints import last_checkpoint, require_best

STATE, ARRAYS = "state.json", "variables.npz"


class Checkpoints:
    """The variables of a model and its optimizer, the states of its random generators among them, by step.

    Args:
        path: the run directory, in whose `checkpoints/` they lie, `checkpoint-STEP/` each.
        model: a built model.
        optimizer: its built optimizer.
    """

    def __init__(self, path: Path, model: Any, optimizer: Any) -> None:
        self.path, self.folder, self.model, self.optimizer = path, path / "checkpoints", model, optimizer
        self.run = read_json(path / RUN).get("id")

    def save(self, step: int, state: dict[str, Any], keep: int | None) -> None:
        """Write a checkpoint whole or not at all; of the others, leave the one to `keep`."""
        target = self._path(step)
        with whole(target) as aside:
            aside.mkdir(parents=True)
            arrays = {f"{n}": ops.convert_to_numpy(ops.copy(v)) for n, v in enumerate(self._variables())}
            np.savez(aside / ARRAYS, **arrays)
            (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
            seal(aside, self.run)
        for other in self.folder.iterdir():
            if other not in (target, self._path(keep or step)):
                remove(other)

    def load_last(self) -> dict[str, Any] | None:
        """Put the last checkpoint's values in place, and return its state; None if there is none.

        Raises:
            DataError: it, or the best one, is not as this run wrote it.
        """
        last = last_checkpoint(self.path)
        if last is None:
            return None
        state = read_json(last / STATE)
        if state["best"] is not None:
            require_best(self.path, state["best"], self.run)
        self._load(state["step"], self._variables())
        return state

    def load_best(self, step: int) -> None:
        """Put the model's values of the best checkpoint in place.

        Raises:
            DataError: it is not as this run wrote it.
        """
        require_best(self.path, step, self.run)
        self._load(step, self.model.variables)

    def _load(self, step: int, variables: list[Any]) -> None:
        with np.load(self._path(step) / ARRAYS) as arrays:
            for number, variable in enumerate(variables):
                variable.assign(arrays[f"{number}"])

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables]

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"
