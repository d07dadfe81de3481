"""What a run was: its model, data, steps and time, as a report tells them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.finetuning.config import Config
from regard.finetuning.data.splits import PARTS
from regard.finetuning.frameworks import framework_of
from regard.finetuning.prepared import Prepared
from regard.finetuning.reporting.environment import versions
from regard.finetuning.runs.inputs import Inputs, fingerprint
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import get_task
from regard.inspection.report.content import Source


def facts(run: Run, prepared: Prepared, seconds: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the settings that matter most, what came of them, and how long it took."""
    config, state = prepared.config, run.state
    parameters = framework_of(run.model).parameters(run.model)
    fresh = ", ".join(state["newly_initialised"])
    rows = ", ".join(f"{name} {count:,}" for name, count in prepared.check.rows.items())
    return [
        ("Model", config.model),
        (
            "Parameters",
            f"{parameters:,}, {_trained(config, state)}" + (f"; new at the start: {fresh}" if fresh else ""),
        ),
        ("Rows", rows),
        ("Training", course(prepared, state)),
        (
            "Learning rate",
            f"{config.train.learning_rate:g}, {config.train.schedule}, warm-up {config.train.warmup:.0%}",
        ),
        ("Precision", state["precision"]),
        ("Time", ", ".join(f"{phase} {spent:.0f} s" for phase, spent in seconds.items())),
        ("Seed", str(config.seed)),
        ("Framework", config.framework),
        ("Versions", ", ".join(f"{package} {number}" for package, number in versions(config).items())),
    ]


def _trained(config: Config, state: dict[str, Any]) -> str:
    kind, rank, stored = config.adapter.kind, config.adapter.rank, state.get("base", {}).get("stored")
    if kind == "none":
        return "all trained"
    merged = f", merged in float32 with a base that is stored in {stored}" if stored else ""
    return f"{state['trained']:,} of them or beside them trained ({kind}, rank {rank}{merged})"


def course(prepared: Prepared, state: dict[str, Any]) -> str:
    """Say how many steps there were, whether they ended early, and which of them became the model."""
    config, steps = prepared.config, state["steps"]
    planned, best = state.get("planned", steps), best_step(prepared, state)
    told = f"{steps} steps of {config.train.batch_size * config.train.accumulate} rows"
    if steps < planned:
        told += f", of {planned} planned: stopped early, {config.train.patience} validations after the best"
    if best is not None:
        told += f"; step {best} validated best" + (
            " and is the model" if config.train.keep == "best" else ", the last is the model"
        )
    return told


def best_step(prepared: Prepared, state: dict[str, Any]) -> int | None:
    """Return the step whose validation was best, the first of several; none without validations."""
    name = get_task(prepared.config.task).metric(prepared.check.spec)
    sign = -1 if name == "loss" else 1
    found = [(entry["step"], sign * entry[f"eval_{name}"]) for entry in state["history"] if f"eval_{name}" in entry]
    return max(found, key=lambda pair: pair[1])[0] if found else None


def sources(config: Config, rows: Mapping[str, int], inputs: Inputs) -> list[Source]:
    """Return which files the rows came from, and their fingerprints as the run described them when it began."""
    found = []
    for part in PARTS:
        if part not in rows:
            continue
        given = getattr(config.data, part)
        path = Path(given if isinstance(given, str) else config.data.train)
        name = path.name if isinstance(given, str) else f"{given:.0%} of {path.name}, set aside"
        found.append(Source(part, name, rows[part], fingerprint(path, inputs)))
    return found
