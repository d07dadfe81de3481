"""Checkpoints of transformers' Trainer: written whole or not at all, and known again when training goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from regard._files import lacks_room, read_json, remove, replace
from regard.errors import DataError, RegardError
from regard.finetuning.runs.run import ATTENTION, CONFIG, STATE, WRITING
from regard.finetuning.runs.seals import SEAL as SEAL
from regard.finetuning.runs.seals import broken_seal, seal

TRAINER = "trainer_state.json"


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
        return self._run / WRITING

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside) if self._writing else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._writing = True
        try:
            if self.args.should_save:
                remove(self._aside)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            self._writing = False
            self._name_best()
            if self.args.should_save:
                self._publish(Path(super()._get_output_dir(trial)))
            self.accelerator.wait_for_everyone()
        except BaseException:
            remove(self._aside)
            raise
        finally:
            self._writing = False

    def _publish(self, folder: Path) -> None:
        """Seal what was written, move it to its name, and drop checkpoints that nobody needs any more."""
        name = f"checkpoint-{self.state.global_step}"
        self.state.save_to_json(str(self._aside / name / TRAINER))  # with the best checkpoint's new name
        if (self._run / ATTENTION).is_file():
            shutil.copy(
                self._run / ATTENTION, self._aside / name
            )  # what was seen until now, for the monitor to go on from
        seal(self._aside / name, read_json(self._run / STATE).get("id"))
        folder.mkdir(exist_ok=True)
        replace(self._aside / name, folder / name)
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

    def _load_best_model(self) -> None:
        """Load the best checkpoint's weights, once it is known to be as it was written."""
        require_best(self._run, self.state.best_global_step or 0, read_json(self._run / STATE).get("id"))
        super()._load_best_model()

    def _name_best(self) -> None:
        folder = Path(self.args.output_dir or "")
        best = folder / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step == self.state.global_step or best.is_dir():
            self.state.best_model_checkpoint = str(best)


def last_checkpoint(path: Path, best: bool = False) -> Path | None:
    """Return the last checkpoint of a run, if there is one, after making sure that it is whole and of this run.

    Args:
        path: the run directory.
        best: make sure of the best checkpoint, too, which the last one names.

    Raises:
        DataError: one is not; says which file.
    """
    remove(path / WRITING)
    run = read_json(path / STATE).get("id") if (path / STATE).is_file() else None
    folders = [folder for folder in path.glob("checkpoints/checkpoint-*") if folder.name[11:].isdecimal()]
    if not folders:
        return None
    last = max(folders, key=_step)
    if found := broken_seal(last, run):
        before = max((_step(folder) for folder in folders if folder != last), default=0)
        raise DataError(
            f"{last}: need a checkpoint as this run wrote it; got {found}; delete it to go on from step {before}."
        )
    step = read_json(last / TRAINER).get("best_global_step") if best else None
    if step is not None:
        require_best(path, step, run)
    return last


def require_best(path: Path, step: int, run: str | None) -> None:
    """Make sure that the checkpoint that becomes the model is whole and of this run.

    Raises:
        DataError: it is not; says which file.
    """
    folder = path / "checkpoints" / f"checkpoint-{int(step)}"
    if found := broken_seal(folder, run):
        raise DataError(
            f"{folder}: need the best checkpoint as this run wrote it; got {found}; put it back, or start again with "
            "--overwrite."
        )


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


@contextmanager
def room_on_disk(path: Path) -> Iterator[None]:
    """Tell in a sentence that the disk is full, whichever way a library tells it.

    Raises:
        RegardError: it is.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RegardError) or not lacks_room(error):
            raise
        free = shutil.disk_usage(path if path.exists() else path.absolute().parent).free
        last = max((_step(folder) for folder in path.glob("checkpoints/checkpoint-*")), default=None)
        safe = "nothing was saved yet" if last is None else f"the checkpoint of step {last} is whole"
        on = "go on with --resume" if (path / CONFIG).is_file() else "start again"
        raise RegardError(
            f"{path}: need room to write; got a disk with {free / 2**20:,.0f} MB free, or a limit on files; {safe}: "
            f"make room and {on}."
        ) from error
