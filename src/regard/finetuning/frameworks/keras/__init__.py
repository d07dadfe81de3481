"""Fine-tuning with KerasHub on Keras' TensorFlow, JAX or PyTorch backend.

The backend is chosen before this package is imported; see `get_framework`.
"""

from __future__ import annotations

from typing import Any

import keras

from regard.errors import ConfigError
from regard.finetuning.config import Config, Data
from regard.finetuning.frameworks.keras.batches import logits
from regard.finetuning.frameworks.keras.models import load, require_family
from regard.finetuning.frameworks.keras.train import train_into
from regard.looking.keras import look, read

__all__ = ["PACKAGES", "labels", "load", "logits", "look", "parameters", "read", "require", "train_into"]


PACKAGES = ("keras", "keras-hub", keras.backend.backend())


TASKS = ("text-classification", "image-classification")


HONOURED = {
    "epochs", "max_steps", "batch_size", "accumulate", "learning_rate", "warmup", "schedule", "weight_decay", "dropout",
    "max_gradient_norm", "precision", "evaluate_every", "patience", "keep", "keep_checkpoints",
}  # fmt: skip
"""The keys of `train` that this framework does as it is told."""


def require(config: Config) -> None:
    """Refuse keys and models that only PyTorch knows.

    Raises:
        ConfigError: names the key, or the families of models that KerasHub reads.
    """
    if config.task not in TASKS:
        raise ConfigError(
            f"framework: need task {' or '.join(TASKS)} on {config.framework}; got '{config.task}', which only torch "
            "does; set framework: torch."
        )
    asked = {f"train.{key}": value for key, value in config.train if key not in HONOURED}
    asked |= {f"monitor.{key}": value for key, value in config.monitor if value}
    standard = Config(task="", model="", data=Data(train=""), output="").flat()
    for key, value in asked.items():
        if value != standard[key]:
            raise ConfigError(
                f"framework: need '{key}' left out on {config.framework}; got {value!r}, which only torch does; "
                "remove the key, or set framework: torch."
            )
    if config.adapter.kind == "dora":
        raise ConfigError(
            f"framework: need adapter.kind none or lora on {config.framework}; got 'dora', which only torch does; "
            "change it."
        )
    if config.adapter.targets:
        raise ConfigError(
            f"framework: need adapter.targets left out on {config.framework}; got {config.adapter.targets}, which only "
            "torch does; remove the key."
        )
    require_family(config)


def labels(model: Any) -> list[str]:
    """Return the names in the order of the logits."""
    return list(model.label_names)


def parameters(model: Any) -> int:
    """Count the model's weights."""
    return model.count_params()
