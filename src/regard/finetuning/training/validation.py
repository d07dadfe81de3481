"""A validation measured as it goes, so that no outputs are kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from regard.finetuning.tasks import Spec, Task


class Tally:
    """Measures a validation as Trainer goes through it, so that no outputs are kept."""

    def __init__(self, task: Task, spec: Spec) -> None:
        self.task, self.spec = task, spec
        self.total: Any = 0

    def __call__(self, outputs: Any, compute_result: bool) -> dict[str, float]:
        """Count a batch; behind the last one, return the measures and start anew."""
        task: Any = self.task
        arrays = SimpleNamespace(predictions=_array(outputs.predictions), label_ids=_array(outputs.label_ids))
        self.total = self.total + task.tally(arrays, self.spec)
        if not compute_result:
            return {}
        total, self.total = self.total, 0
        return task.validate(total, self.spec)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).cpu())  # NumPy has no bfloat16


def logits_alone(outputs: Any, labels: Any) -> Any:
    """Leave the hidden states and caches that some models return too: a validation would keep them all."""
    return outputs[0] if isinstance(outputs, tuple) else outputs
