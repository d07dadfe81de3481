"""What happens beside the steps of transformers' Trainer: progress, Ctrl-C, and a loss that is no number."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback

from regard._digits import digits
from regard._spoken import tell
from regard.errors import RegardError
from regard.finetuning.progress import Advance, Display
from regard.finetuning.runs import processes
from regard.finetuning.training.adapters import require_gradients


class Watcher(TrainerCallback):
    """Shows progress, stops on Ctrl-C after a checkpoint, and stops at once when the loss is no number."""

    def __init__(self, display: Display, metric: str) -> None:
        self.display, self.metric = display, metric
        self.advance: Advance = lambda *_, **__: None
        self.interrupted = self.told = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not state.global_step:
            require_gradients(model)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self.advance()
        self.interrupted = processes.anyone(self.interrupted)
        self._tell_of_interruption()
        if self.interrupted:
            control.should_save = control.should_training_stop = True
        elif state.global_step >= state.max_steps:
            control.should_evaluate = True
        return control

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell_of_interruption()

    def _tell_of_interruption(self) -> None:
        """Say what happens now; not in the signal's handler, which may come in the middle of another line."""
        if self.interrupted and not self.told:
            self.told = True
            self.display.say("  interrupted: saving a checkpoint; press Ctrl-C again to stop without")

    def on_log(self, args: Any, state: Any, control: Any, **events: Any) -> None:
        logs = events["logs"]
        if "loss" not in logs:
            return
        require_finite(logs["loss"], state.global_step, args.bf16)
        self.advance(0, remark=f"loss {digits(logs['loss'])}, rate {logs['learning_rate']:.2g}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **events: Any) -> None:
        metrics = events["metrics"]
        scores = ", ".join(
            f"{tell(name.removeprefix('eval_').replace('_', ' '), word=True)} {digits(metrics[name])}"
            for name in metrics
            if name == "eval_loss" or not name.endswith(("_runtime", "_per_second", "epoch"))
        )
        self.display.say(f"  step {state.global_step:>5}: validation {scores}")


def require_finite(loss: float, step: int, half: bool) -> None:
    """Raise RegardError if a loss is no number."""
    if not math.isfinite(loss):
        more = ", or set train.precision to float32" if half else ""
        raise RegardError(f"finetune: need a finite loss; got {loss} at step {step}; lower train.learning_rate{more}.")
