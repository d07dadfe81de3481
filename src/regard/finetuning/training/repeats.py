"""The same training from other seeds: how much of a score is luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from regard._files import read_json, write_json
from regard.finetuning.frameworks import get_framework
from regard.finetuning.prepared import Prepared
from regard.finetuning.progress import Display
from regard.finetuning.runs import processes
from regard.finetuning.runs.beginning import has_begun
from regard.finetuning.runs.run import METRICS, MODEL, STATE, Run, drop_weights, require_unchanged
from regard.finetuning.runs.seals import describe
from regard.finetuning.tasks import get_task
from regard.finetuning.training.calibration import settle

FOLDER = "repeats"


def train_others(path: Path, prepared: Prepared, display: Display) -> None:
    """Train and measure once for each further seed, in `path / "repeats"`; what is there already is not done again.

    The data are parted by the first seed alone, so that the scores are of the same rows. Their models are deleted.
    """
    for seed in _seeds(prepared)[1:]:
        folder = path / FOLDER / f"seed-{seed}"
        if _is_measured(folder):
            if processes.is_first():
                drop_weights(folder)
            continue
        display.say(f"  again with seed {seed}")
        config = prepared.config.model_copy(update={"seed": seed, "output": str(folder), "repeats": 1})
        again = replace(prepared, config=config, inputs={})  # which the whole run describes
        processes.wait()
        if not (folder / MODEL).is_dir():
            resume = has_begun(folder)
            get_framework(config.framework).train_into(folder, again, resume, display)
        if processes.is_first():
            _measure(folder, again, display)
        processes.wait()


def _seeds(prepared: Prepared) -> list[int]:
    return [prepared.config.seed + number for number in range(prepared.config.repeats)]


def _measure(folder: Path, prepared: Prepared, display: Display) -> None:
    config, run = prepared.config, Run.load(folder)
    settle(run, prepared, display)
    task, split = get_task(config.task), prepared.splits.get("test", prepared.splits["validation"])
    predictions = task.respond(run.model, run.processor, split[task.INPUT], display)
    scores = task.measure(split, predictions, prepared.check.spec)
    write_json(folder / METRICS, {name: round(score.value, 6) for name, score in scores.items()})
    measured = {"finished": True, "files": describe(folder, [folder / METRICS])}
    write_json(folder / STATE, run.state | measured)
    drop_weights(folder)


def _is_measured(folder: Path) -> bool:
    """Whether a seed's scores are there, as they were written.

    Raises:
        DataError: they are not as they were written.
    """
    state = read_json(folder / STATE) if (folder / STATE).is_file() else {}
    if state.get("finished"):
        require_unchanged(folder, state["files"], METRICS)
    return bool(state.get("finished"))


def summarise(path: Path, prepared: Prepared, first: Mapping[str, float]) -> dict[str, Any]:
    """Return mean and deviation of each measure over the seeds, and each value; nothing if there is one seed."""
    seeds = _seeds(prepared)
    if len(seeds) < 2:
        return {}
    others = [read_json(path / FOLDER / f"seed-{seed}" / METRICS) for seed in seeds[1:]]
    values = {name: [round(value, 6), *(other[name] for other in others)] for name, value in first.items()}
    return {"seeds": seeds, **{name: _describe(each) for name, each in values.items()}}


def _describe(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": round(mean(values), 6), "deviation": round(stdev(values), 6), "values": list(values)}
