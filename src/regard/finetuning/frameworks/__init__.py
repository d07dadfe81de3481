"""What trains and runs the model: transformers on PyTorch, or KerasHub on one of Keras' backends.

Data, checks, tokens, measures, baselines and the report are the same for all; a framework's module has the names of
`Framework`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from regard.errors import ConfigError

if TYPE_CHECKING:
    from regard.finetuning.config import Config
    from regard.finetuning.prepared import Prepared
    from regard.finetuning.progress import Display
    from regard.looking.looked import Looked

KERAS_BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch-keras": "torch"}


class Framework(Protocol):
    """What a framework's module holds."""

    PACKAGES: tuple[str, ...]
    """Those whose versions a run remembers."""

    def require(self, config: Config) -> None:
        """Raise ConfigError for what this framework cannot do."""

    def train_into(self, path: Path, prepared: Prepared, resume: bool, display: Display) -> None:
        """Train, and leave the model in `path / "model"`."""

    def load(self, folder: Path, config: Config, spec: Any) -> tuple[Any, list[str]]:
        """Load a fine-tuned model, ready to predict; also return the names of parameters that were not there."""

    def labels(self, model: Any) -> list[str]:
        """Return the names of the labels that a classifier knows."""

    def logits(self, model: Any, batch: Any) -> np.ndarray:
        """Run a classifier without gradients on a batch of PyTorch tensors, as the task's collator makes them."""

    def parameters(self, model: Any) -> int:
        """Count the numbers that a model has learned."""

    def read(self, model: Any, processor: Any, text: str) -> Looked:
        """Show a text to a model: what it attends to."""

    def look(self, model: Any, processor: Any, given: str, gradients: bool = False) -> Looked:
        """Show to a model a text, or the file of a picture or a sound."""


def get_framework(name: str) -> Framework:
    """Return the module of a framework, as `framework` in a configuration names it.

    Raises:
        ConfigError: it is not installed, or Keras already runs on another backend.
    """
    if name not in KERAS_BACKENDS:
        return cast(Framework, importlib.import_module(f"{__name__}.torch"))
    _choose_backend(name)
    with _quietly():
        try:
            return cast(Framework, importlib.import_module(f"{__name__}.keras"))
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"framework: need {error.name} for '{name}'; got an environment without it; pip install "
                "'regard[finetune-keras]'."
            ) from None


def framework_of(model: Any) -> Framework:
    """Return the module of the framework that a model is made of."""
    keras = sys.modules.get("keras")  # first: on Keras' PyTorch backend a model is a module of PyTorch, too
    if keras is not None and isinstance(model, keras.Model):
        return cast(Framework, importlib.import_module(f"{__name__}.keras"))
    return cast(Framework, importlib.import_module(f"{__name__}.torch"))


def _choose_backend(name: str) -> None:
    """Choose the backend that Keras takes when it is imported, once for a process."""
    wanted = KERAS_BACKENDS[name]
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = wanted
        return
    loaded = sys.modules["keras"].backend.backend()
    if loaded != wanted:
        raise ConfigError(
            f"framework: need Keras on {wanted} for '{name}'; got Keras loaded on {loaded} in this process; start a "
            "new one."
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what TensorFlow's libraries write to the error stream while they are loaded."""
    import torch  # noqa: F401  (first: both load libraries of their own)

    if "tensorflow" in sys.modules:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
