"""The saved model must answer as the trained one: it is loaded and asked in a process that never saw the other."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import RegardError
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config
from regard.finetuning.frameworks import get_framework
from regard.finetuning.progress import Display
from regard.finetuning.tasks import Made, Prediction, Spec, get_task, load_spec

if TYPE_CHECKING:
    from regard.finetuning.prepared import Prepared

INPUTS = 32
"""Rows of the validation split that both are asked about."""
TOLERANCE = 1e-4
FRESH = True
"""Whether to start a process; where many small models are trained, that would take longer than they."""
OF_SEVERAL = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What tells a process that it is one of several, which the new one is not."""


def require_same_answers(model: Any, folder: Path, prepared: Prepared) -> None:
    """Compare the answers of what was saved, loaded anew, with those of the model in memory.

    Raises:
        RegardError: they differ, or it does not load.
    """
    config, spec = prepared.config, prepared.check.spec
    task, split = get_task(config.task), prepared.splits["validation"]
    inputs = split.select(range(min(len(split), INPUTS)))[task.INPUT]
    before = [_plain(p) for p in task.respond(model, prepared.processor, inputs, Display(quiet=True))]
    after, missing = (_in_a_fresh_process if FRESH else answers)(folder, config, spec, inputs)
    if missing or not alike(before, after):
        raise RegardError(
            f"{folder}: need the saved model to answer as the trained one; it does not; please report this."
        )


def answers(folder: Path, config: Config, spec: Spec, inputs: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Return the predictions of a saved model, and the names of parameters that it lacks."""
    task = get_task(config.task)
    model, missing = get_framework(config.framework).load(folder, config, spec)
    processor = task.load_processor(str(folder), config)
    return [_plain(p) for p in task.respond(model, processor, inputs, Display(quiet=True))], missing


def _plain(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON has it: a file by its sketch, or by what it holds."""

    def plain(value: Any) -> Any:
        if not isinstance(value, Made):
            return value
        return list(value.sketch) or value.content.hex()

    return {key: plain(value) for key, value in prediction.items()}


def _in_a_fresh_process(folder: Path, config: Config, spec: Spec, inputs: Sequence[Any]) -> tuple[list[Any], list[str]]:
    given = {
        "folder": str(folder),
        "config": config.model_dump(mode="json"),
        "spec": spec.dump(),
        "inputs": list(inputs),
    }
    environment = {name: value for name, value in os.environ.items() if name not in OF_SEVERAL}
    done = subprocess.run(
        [sys.executable, "-m", "regard.finetuning.training.reload"],
        input=json.dumps(given), env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RegardError(f"{folder}: need the saved model to load in a new process; got '{told}'; please report this.")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["answers"], found["missing"]


def alike(one: Any, other: Any) -> bool:
    """Compare two predictions, numbers to within rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return math.isclose(one, other, abs_tol=TOLERANCE) if isinstance(one, float) else one == other


def main() -> None:
    """Answer what comes as JSON, in the last line that is printed."""
    given = json.load(sys.stdin)
    config = load_config(given["config"])
    spec = load_spec(config.task, given["spec"], given["folder"])
    found, missing = answers(Path(given["folder"]), config, spec, given["inputs"])
    print(json.dumps({"answers": found, "missing": missing}))


if __name__ == "__main__":
    main()
