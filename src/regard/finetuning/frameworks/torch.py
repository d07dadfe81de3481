"""Fine-tuning with transformers on PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regard.finetuning.loading import loading
from regard.finetuning.tasks import get_task
from regard.finetuning.training.padding import as_configured, without_padding
from regard.looking.looked import Looked
from regard.looking.transformers.look import look as look_at_transformers
from regard.looking.transformers.texts import read

if TYPE_CHECKING:
    from regard.finetuning.config import Config
    from regard.finetuning.prepared import Prepared
    from regard.finetuning.progress import Display

__all__ = ["PACKAGES", "labels", "load", "logits", "look", "parameters", "read", "require", "train_into"]

PACKAGES = ("torch", "transformers")


def look(model: Any, processor: Any, given: str, gradients: bool = False) -> Looked:
    """Show to a model what it reads, in the model's own way if it has one."""
    if hasattr(model, "look"):
        return model.look(given)
    return look_at_transformers(model, processor, given, gradients)


def require(config: Config) -> None:
    """Require the trackers that are to be told, and the layers that are to be adapted."""
    from regard.finetuning.training.adapters import require_targets
    from regard.finetuning.training.monitor import require_trackers

    require_trackers(config.monitor.report_to)
    require_targets(config.source, config.adapter)


def train_into(path: Path, prepared: Prepared, resume: bool, display: Display) -> None:
    """Train with transformers' Trainer."""
    from regard.finetuning.training.train import train_into

    train_into(path, prepared, resume, display)


def load(folder: Path, config: Config, spec: Any) -> tuple[Any, list[str]]:
    """Load a directory that transformers wrote."""
    with loading("a model", folder):
        model, missing = get_task(config.task).load_model(str(folder), spec)
    without_padding(model, config.train.unpad)
    return model.eval(), missing


def labels(model: Any) -> list[str]:
    """Return the names in the order of the logits."""
    return [model.config.id2label[number] for number in range(model.config.num_labels)]


def logits(model: Any, batch: Any) -> np.ndarray:
    """Run the model as for predictions, whatever it is in the middle of."""
    model.eval()
    inputs = {name: array.to(model.device) for name, array in batch.items()}
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices):
        torch.manual_seed(0)  # of those that hash at random, such as Reformer
        return as_configured(model)(**inputs).logits.float().cpu().numpy()


def parameters(model: Any) -> int:
    """Count the model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
