"""How every head attends while transformers' Trainer trains: recorded, logged, and warned of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback, get_available_reporting_integrations

from regard.errors import ConfigError, UnsupportedError
from regard.finetuning.config import Config, in_steps
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import ATTENTION, is_pretrained
from regard.finetuning.training.precision import autocast
from regard.inspection.history import History, Recorder
from regard.models.watch import watch


class AttentionMonitor(TrainerCallback):
    """Looks at a fixed probe of validation rows every so many steps, and at the end.

    Training is the same with it as without, to the last bit: it runs the model without gradients and dropout, and
    touches no random state.

    Args:
        trainer: whose model is looked at, before it begins; it logs the means of each layer to every tracker.
        path: the run directory; the history is kept in `attention.json`.
        config: of the run.
        rows: the encoded rows that the probe is chosen from.
        display: says what asks for a decision, once.
    """

    def __init__(self, trainer: Trainer, path: Path, config: Config, rows: Any, display: Display) -> None:
        self.trainer, self.path, self.config, self.display = trainer, path / ATTENTION, config, display
        chosen = np.random.default_rng(config.seed).permutation(len(rows))[: config.monitor.rows]
        batch = trainer.data_collator([rows[int(number)] for number in np.sort(chosen)])
        known = getattr(trainer.accelerator.unwrap_model(trainer.model), "config", None)
        # A decoder reads what it is to write, but for a detector's, whose labels are lists of boxes.
        read = getattr(known, "is_encoder_decoder", False) and isinstance(batch["labels"], torch.Tensor)
        self.probe = {name: value for name, value in batch.items() if name != "length" and (read or name != "labels")}
        self.told: set[str] = set()
        self.pretrained = is_pretrained(path)
        self.every = 0
        seen = self._look()
        for remark in seen.remarks:
            display.say(f"  {remark}", style="yellow")
        self.recorder = Recorder([real_queries(name, self.probe) for name in seen.names])
        self.recorder.compare_with(seen)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.every = in_steps(self.config.monitor.every, state.max_steps)
        if not state.global_step:
            self._record(0)
            return
        sealed = self.path.parent / "checkpoints" / f"checkpoint-{state.global_step}" / ATTENTION
        kept = sealed if sealed.is_file() else self.path
        if kept.is_file():
            self.recorder.history = History.load(kept).until(state.global_step)
            self.recorder.history.save(self.path)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            self._record(state.global_step)

    def _record(self, step: int) -> None:
        history = self.recorder.history
        if step in history.steps or not self.trainer.is_world_process_zero():
            return
        self.recorder.record(step, self._look())
        history.save(self.path)
        self._log(layer_means(history))
        for warning in history.warnings(self.pretrained):
            kind = warning.partition(" have ")[2] or "drift"
            if kind not in self.told:
                self.told.add(kind)
                self.display.say(f"  {warning}", style="yellow")

    def _log(self, values: dict[str, float]) -> None:
        """Tell the trackers, and leave it to the Trainer whether the loss is due to be logged too."""
        due = self.trainer.control.should_log
        self.trainer.log(values)
        self.trainer.control.should_log = due

    def _look(self) -> Any:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        inputs = {name: value.to(model.device) for name, value in self.probe.items()}
        with as_for_predictions(model), autocast(self.config.train.precision), watch(model) as seen:
            model(**inputs)
        return seen


def watch_training(trainer: Trainer, path: Path, config: Config, rows: Any, display: Display) -> None:
    """Add the monitor to a Trainer, unless the configuration or the model's kind of attention forbids it."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(path / "tensorboard")  # not with the checkpoints, which go
    if not config.monitor.every or not trainer.is_world_process_zero():
        return
    try:
        trainer.add_callback(AttentionMonitor(trainer, path, config, rows, display))
    except UnsupportedError as error:
        display.say(f"  attention is not monitored: {error}")


def real_queries(name: str, batch: dict[str, Any]) -> np.ndarray | None:
    """Return which queries of the attention with this name are no padding, `(B, T)`; None where all count."""
    decodes = "decoder" in name.split(".")
    flags = batch.get("attention_mask") if "input_ids" in batch else None  # of a sound it counts samples
    if decodes and "labels" in batch:
        flags = batch["labels"].ne(-100)
    return None if flags is None or flags.ndim != 2 else flags.numpy(force=True).astype(bool)


@contextmanager
def as_for_predictions(model: Any) -> Iterator[None]:
    """Without gradients and dropout for a while; everything is as it was afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            yield
    finally:
        for module, was in training.items():
            module.training = was


def layer_means(history: History) -> dict[str, float]:
    """The mean of what was recorded last over the heads of each layer; of scores, the largest."""
    return {
        f"attention/layer_{layer}/{measure}": float((np.max if measure == "largest_score" else np.mean)(heads))
        for measure in history.measures
        for layer, heads in enumerate(getattr(history, measure)[-1])
    }


def require_trackers(names: list[str]) -> None:
    """Raise ConfigError if a tracker that is wanted is not installed."""
    missing = [name for name in names if name not in get_available_reporting_integrations()]
    if missing:
        raise ConfigError(
            f"monitor.report_to: need trackers that are installed; got {', '.join(missing)}; pip install it, or leave "
            "it out."
        )
