"""Checkpoints of transformers' Trainer: written whole or not at all, and known again when training goes on."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from regard.errors import DataError, RegardError
from regard.finetuning.run import STATE, read_json, write_json

SEAL = "checkpoint.json"
"""What a checkpoint holds, and of which run it is; written last."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointTrainer(Trainer):
    """A Trainer that writes each checkpoint to a side, seals it, and gives it its name when it is whole.

    Its `output_dir` is `checkpoints/` in the run directory.
    """

    _writing = False

    @property
    def _run(self) -> Path:
        return Path(self.args.output_dir or "").parent

    @property
    def _aside(self) -> Path:
        return self._run / "checkpoint.tmp"

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside) if self._writing else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._writing = True
        try:
            if self.args.should_save:
                shutil.rmtree(self._aside, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            self._writing = False
            self._name_best()
            if self.args.should_save:
                self._publish(Path(super()._get_output_dir(trial)))
            self.accelerator.wait_for_everyone()
        except BaseException:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise
        finally:
            self._writing = False

    def _publish(self, folder: Path) -> None:
        """Seal what was written, move it to its name, and drop checkpoints that nobody needs any more."""
        name = f"checkpoint-{self.state.global_step}"
        self.state.save_to_json(str(self._aside / name / "trainer_state.json"))  # with the best checkpoint's new name
        seal(self._aside / name, read_json(self._run / STATE).get("id"))
        shutil.rmtree(folder / name, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        (self._aside / name).replace(folder / name)
        self._aside.rmdir()
        rotate_checkpoints(str(folder), self.args.save_total_limit, self.state.best_model_checkpoint)

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        """Train for an epoch; Trainer alone takes one step more if all were taken before it was stopped."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **options)

    def _init_training_state(self, *args: Any, **options: Any) -> Any:
        """Find the best checkpoint again, also where the run directory was moved."""
        found = super()._init_training_state(*args, **options)
        self._name_best()
        return found

    def _name_best(self) -> None:
        folder = Path(self.args.output_dir or "")
        best = folder / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step == self.state.global_step or best.is_dir():
            self.state.best_model_checkpoint = str(best)


def seal(folder: Path, run: str | None) -> None:
    """Write down the run that a checkpoint is of and what it holds, once all of it has reached the disk."""
    files = {str(path.relative_to(folder)): _describe(path) for path in _files(folder)}
    write_json(folder / SEAL, {"run": run, "files": files})


def last_checkpoint(path: Path) -> Path | None:
    """Return the last checkpoint of a run, if there is one, after making sure that it is whole and of this run.

    Raises:
        DataError: it is not; says which file.
    """
    shutil.rmtree(path / "checkpoint.tmp", ignore_errors=True)
    folders = [folder for folder in path.glob("checkpoints/checkpoint-*") if folder.name[11:].isdecimal()]
    if not folders:
        return None
    last = max(folders, key=_step)
    found = _fault(last, read_json(path / STATE).get("id"))
    if found:
        before = max((_step(folder) for folder in folders if folder != last), default=0)
        raise DataError(
            f"{last}: need a checkpoint as this run wrote it; got {found}; delete it to go on from step {before}."
        )
    return last


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _fault(folder: Path, run: str | None) -> str | None:
    """Say what is wrong with a checkpoint."""
    if not (folder / SEAL).is_file():
        return f"one without {SEAL}"
    try:
        sealed = read_json(folder / SEAL)
    except ValueError:
        return f"one whose {SEAL} is no JSON"
    if sealed["run"] != run:
        return "one of another run"
    for name, described in sealed["files"].items():
        path = folder / name
        if not path.is_file():
            return f"one without {name}"
        if path.stat().st_size != described["bytes"]:
            return f"{path.stat().st_size} of the {described['bytes']} bytes of {name}"
        if _digest(path) != described["sha256"]:
            return f"other bytes in {name}"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def room_on_disk(path: Path) -> Iterator[None]:
    """Tell in a sentence that the disk is full, whichever way a library tells it.

    Raises:
        RegardError: it is.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RegardError) or not _no_room(error):
            raise
        free = shutil.disk_usage(path if path.exists() else path.absolute().parent).free
        last = max((_step(folder) for folder in path.glob("checkpoints/checkpoint-*")), default=None)
        safe = "nothing was saved yet" if last is None else f"the checkpoint of step {last} is whole"
        raise RegardError(
            f"{path}: need room to write; got a disk with {free / 2**20:,.0f} MB free, or a limit on files; {safe}: "
            "make room and go on with --resume."
        ) from error


def _no_room(error: BaseException) -> bool:
    """Whether an error says that a file could not grow; PyTorch says only that it could not write."""
    told = str(error)
    return (
        getattr(error, "errno", None) in NO_ROOM
        or any(f"os error {number})" in told for number in NO_ROOM)
        or ("PytorchStreamWriter" in told or "unexpected pos" in told)
    )
