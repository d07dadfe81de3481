"""How a run directory begins: it is free, or its run goes aside until there is a better one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard._files import is_leftover, read_json, remove, write_json, write_text
from regard.errors import ConfigError
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config
from regard.finetuning.locks import LOCK, alone
from regard.finetuning.runs import processes
from regard.finetuning.runs.inputs import describe_model, describe_rows, require_same_inputs
from regard.finetuning.runs.run import CONFIG, MODEL, STATE, WRITING
from regard.finetuning.runs.seals import require_own

if TYPE_CHECKING:
    from regard.finetuning.prepared import Prepared

FREE_TO_CHANGE = ("output", "monitor.", "report.", "search.", "train.keep_checkpoints")
"""Keys that may differ when a run is resumed: they do not touch the weights."""
BEFORE = ".before"
"""The run that was in the directory, until the new one has a model."""
MOVING = ".before.moving"
"""The same while it goes there or comes back."""


def require_free(path: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Refuse an output directory that holds anything, unless told what to do with it.

    Raises:
        ConfigError: it is taken, or there is nothing to resume, or it began otherwise.
    """
    held = any((path / place / STATE).is_file() for place in (".", BEFORE, MOVING))
    if resume and overwrite:
        raise ConfigError("finetune: need either resume or overwrite; got both; choose one.")
    if resume and not held:
        raise ConfigError(f"{path}: need a run to resume; got none; leave out --resume.")
    if path.is_symlink() and not path.exists():
        raise ConfigError(f"{path}: need an output directory; got a link to nothing; make what it points to.")
    if held and not resume and not overwrite:
        raise ConfigError(
            f"{path}: need an output directory without a run; got one that holds a run; go on with it (--resume), "
            f"replace it (--overwrite), or choose another output."
        )
    if not held and path.exists() and (not path.is_dir() or _of_others(path)):
        raise ConfigError(
            f"{path}: need a new or empty output directory; got one with other files; choose another output."
        )


def require_resumable(path: Path, config: Config) -> None:
    """Refuse to go on with a finished run, with other settings, or among more or fewer processes, than it began with.

    Raises:
        ConfigError: names what differs.
        DataError: the run refers to what lies outside of its directory.
    """
    state = read_json(path / STATE)
    if state.get("finished"):
        raise ConfigError(f"{path}: need an unfinished run to resume; got a finished one; choose another output.")
    require_own(path)
    if not has_begun(path):
        return
    began = state.get("processes", 1)
    if began != processes.count():
        raise ConfigError(
            f"{path}: need {began} processes to resume the run, as it began; got {processes.count()}; start as many, "
            "or start again with --overwrite."
        )
    before, now = load_config(path / CONFIG).flat(), config.flat()
    changed = [
        f"{key} {now.get(key)!r} where the run has {before.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not key.startswith(FREE_TO_CHANGE)
    ]
    if changed:
        raise ConfigError(
            f"{path}: need the configuration that the run began with to resume it; got {', '.join(changed)}; undo the "
            f"change, or start again with --overwrite."
        )
    if processes.is_first():
        require_same_inputs(path, state.get("inputs", {}))


def begin(path: Path, prepared: Prepared, fresh: list[str]) -> None:
    """Make the run directory, once nothing else can fail; the run that is there goes aside until this one has a model.

    The configuration is written last: a run that has one has all that it needs to be resumed.
    """
    path.mkdir(parents=True, exist_ok=True)
    put_aside(path)
    config, spec = prepared.config, prepared.check.spec.dump()
    known: dict[str, Any] = {"id": uuid.uuid4().hex, "task": config.task, "spec": spec, "newly_initialised": fresh}
    inputs = prepared.inputs and prepared.inputs | describe_model(config)
    rows = describe_rows(prepared.splits) if inputs else {}
    write_json(
        path / STATE, {**known, "processes": processes.count(), "finished": False, "inputs": inputs, "rows": rows}
    )
    write_text(path / CONFIG, config.dump())


def has_begun(path: Path) -> bool:
    """Tell whether there is what a run needs to be resumed."""
    return (path / CONFIG).is_file()


def is_unfinished(path: Path) -> bool:
    """Tell whether there is a run to be resumed."""
    return has_begun(path) and (path / STATE).is_file() and not read_json(path / STATE).get("finished")


def put_aside(path: Path) -> None:
    """Move the run in a directory into `BEFORE`; without a run there are leftovers alone, which go.

    Where a run is aside already, what replaced it never had a model, and goes.
    """
    if not (path / STATE).is_file() or (path / BEFORE).exists():
        _clear(path)
        return
    (path / MOVING).mkdir(exist_ok=True)
    for entry in _entries(path):
        entry.rename(path / MOVING / entry.name)
    (path / MOVING).rename(path / BEFORE)


def put_back(path: Path) -> None:
    """Let the run that is aside take the place of the one that replaced it."""
    _clear(path)
    (path / BEFORE).rename(path / MOVING)
    recover(path)


def recover(path: Path) -> None:
    """Bring a directory in order that was left in the middle of a replacement."""
    if (path / MOVING).is_dir():
        for entry in reversed(_entries(path / MOVING)):
            entry.rename(path / entry.name)
        (path / MOVING).rmdir()
    elif (path / BEFORE).is_dir() and (path / MODEL).is_dir():
        remove(path / BEFORE)
    elif (path / BEFORE).is_dir() and not (path / STATE).is_file():
        put_back(path)
    for left in [path / WRITING, *filter(is_leftover, path.rglob(".*"))]:
        remove(left)


@contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Put the former run back if the block fails before the new one has a checkpoint or a model; else let it go."""
    try:
        yield
    except BaseException:
        if processes.is_first() and (path / BEFORE).is_dir() and not _worth_keeping(path):
            put_back(path)
        raise
    if processes.is_first():
        remove(path / BEFORE)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Be the only program that writes to a run directory, which is in order and goes again if nothing is written."""
    if not processes.is_first():
        processes.wait()
        yield
        return
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path}: need an output directory; got none that can be made ({error.strerror}); choose another output."
        ) from None
    try:
        with alone(path, path / LOCK):
            recover(path)
            processes.wait()
            yield
    finally:
        if new:
            with suppress(OSError):
                path.rmdir()  # which refuses unless it is empty


def _worth_keeping(path: Path) -> bool:
    return (path / MODEL).is_dir() or any(path.glob("checkpoints/checkpoint-*"))


def _of_others(path: Path) -> list[Path]:
    """What is in a directory that no run wrote."""
    return [entry for entry in path.iterdir() if entry.name != LOCK and not is_leftover(entry)]


def _entries(path: Path) -> list[Path]:
    """What a run directory holds, what makes it a run first."""
    beside = (LOCK, BEFORE, MOVING)
    return sorted((e for e in path.iterdir() if e.name not in beside), key=lambda entry: entry.name != STATE)


def _clear(path: Path) -> None:
    for entry in _entries(path):
        remove(entry)
