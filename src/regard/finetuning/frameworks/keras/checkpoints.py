"""Everything that a run on Keras needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

STATE, ARRAYS = "state.json", "variables.npz"


class Checkpoints:
    """The variables of a model and its optimizer, the states of its random generators among them, by step.

    Args:
        folder: where they lie, `checkpoint-STEP/` each.
        model: a built model.
        optimizer: its built optimizer.
    """

    def __init__(self, folder: Path, model: Any, optimizer: Any) -> None:
        self.folder, self.model, self.optimizer = folder, model, optimizer

    def save(self, step: int, state: dict[str, Any], keep: int | None) -> None:
        """Write a checkpoint whole or not at all; of the others, leave the one to `keep`."""
        target, temporary = self._path(step), self.folder / "writing.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        arrays = {f"{n}": ops.convert_to_numpy(ops.copy(v)) for n, v in enumerate(self._variables())}
        np.savez(temporary / ARRAYS, **arrays)
        (temporary / STATE).write_text(json.dumps(state), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        for other in self.folder.glob("checkpoint-*"):
            if other not in (target, self._path(keep or step)):
                shutil.rmtree(other)

    def load_last(self) -> dict[str, Any] | None:
        """Put the last checkpoint's values in place, and return its state; None if there is none."""
        steps = [int(path.parent.name.rpartition("-")[2]) for path in self.folder.glob(f"checkpoint-*/{STATE}")]
        if not steps:
            return None
        self._load(max(steps), self._variables())
        return json.loads((self._path(max(steps)) / STATE).read_text(encoding="utf-8"))

    def load_weights(self, step: int) -> None:
        """Put the model's values of a checkpoint in place."""
        self._load(step, self.model.variables)

    def _load(self, step: int, variables: list[Any]) -> None:
        with np.load(self._path(step) / ARRAYS) as arrays:
            for number, variable in enumerate(variables):
                variable.assign(arrays[f"{number}"])

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables]

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"
