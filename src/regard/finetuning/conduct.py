"""Fine-tune: check, train, save, measure, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from regard._files import read_json, write_json
from regard.finetuning.check import prepare
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config
from regard.finetuning.frameworks import get_framework
from regard.finetuning.measure import finish
from regard.finetuning.prepared import Prepared
from regard.finetuning.progress import Clock, Display
from regard.finetuning.runs import processes
from regard.finetuning.runs.beginning import has_begun, only_writer, replacing, require_free, require_resumable
from regard.finetuning.runs.inputs import describe_data, describe_named, require_same_rows
from regard.finetuning.runs.run import ADAPTER, ATTENTION, MODEL, STATE, Run, require_unchanged
from regard.finetuning.training.checkpoints import room_on_disk
from regard.finetuning.training.interrupts import Interrupted
from regard.finetuning.training.repeats import train_others


def finetune(
    config: Config | dict[str, Any] | str | Path, *, resume: bool = False, overwrite: bool = False, quiet: bool = False
) -> Run:
    """Check the data, fine-tune a model on it, measure it beside baselines, and write a report.

    Args:
        config: a configuration, its values, or the YAML file that holds them.
        resume: go on with the run that was interrupted in the output directory.
        overwrite: delete the run in the output directory, once all checks have passed.
        quiet: print nothing.

    Returns:
        The run: `run.predict(texts)`, `run.metrics`, `run.path / "report.html"`.

    Raises:
        ConfigError: the configuration names what does not exist, or the output directory is taken.
        DataError: the data cannot be trained on.
        Interrupted: on Ctrl-C during training, after a checkpoint is saved.
    """
    config = load_config(config)
    processes.join(config.framework)
    path, display = Path(config.output), Display(quiet or not processes.is_first())
    require_free(path, config, resume, overwrite)
    with only_writer(path):
        require_free(path, config, resume, overwrite)  # again, now that nobody else begins there
        if resume:
            require_resumable(path, config)
        _conduct(path, config, resume and has_begun(path), overwrite, display)
    return Run(path)


def _conduct(path: Path, config: Config, resume: bool, overwrite: bool, display: Display) -> None:
    """Do what is left to do of a run."""
    clock = Clock(read_json(path / STATE).get("seconds") if resume else None)
    with clock("check"):
        prepared = _prepare(config, resume)
        if resume and processes.is_first():
            require_same_rows(path, read_json(path / STATE).get("rows", {}), prepared.splits)
        _announce(prepared, display)
    processes.wait()  # until all have looked, before anything is written
    if not (path / MODEL).is_dir() or overwrite:
        with replacing(path), _remembering(path, clock), clock("train"), room_on_disk(path):
            get_framework(config.framework).train_into(path, prepared, resume, display)
    elif processes.is_first():
        _require_as_trained(path)
    if config.repeats > 1:
        with _remembering(path, clock), clock("repeats"), room_on_disk(path):
            train_others(path, prepared, display)
    if processes.is_first():
        with room_on_disk(path):
            finish(path, prepared, display, clock)
    processes.wait()


def _prepare(config: Config, resume: bool) -> Prepared:
    """Prepare the data, and describe the files before they are read, unless the run that is resumed did so."""
    if resume or not processes.is_first():
        return prepare(config)
    inputs = describe_data(config)
    prepared = prepare(config)
    return replace(prepared, inputs=inputs | describe_named(prepared.splits.values(), inputs))


def _require_as_trained(path: Path) -> None:
    """Make sure that what is measured is what was trained."""
    described = read_json(path / STATE).get("files", {})
    for part in (MODEL, ADAPTER, ATTENTION):
        require_unchanged(path, described, part)


@contextmanager
def _remembering(path: Path, clock: Clock) -> Iterator[None]:
    """Remember how long a run took so far, if it is to go on later."""
    interrupt = None
    try:
        yield
    except Interrupted as error:
        interrupt = error
    if processes.is_first():
        write_json(path / STATE, read_json(path / STATE) | {"seconds": clock.seconds})
    if interrupt:
        raise interrupt


def _announce(prepared: Prepared, display: Display) -> None:
    for finding in prepared.check.findings:
        display.say(f"  {finding.message}", style="yellow" if finding.level == "warning" else None)
