"""Regard: attention you can look into.

    output, weights = regard.attention(query, key, value)

gives the exact output at fused-kernel speed and exact weights that answer any question, in memory linear in the
length, for arrays of NumPy, TensorFlow, PyTorch and JAX. Importing this imports none of the frameworks.
"""

import importlib
from typing import TYPE_CHECKING, Any

from regard import biases, errors, masks
from regard._compiled import compile
from regard.attention import Attention, attention
from regard.models.edit import edit
from regard.models.unpad import pad, unpad
from regard.models.watch import watch
from regard.weights import AttentionWeights

__version__ = "0.1.0"

if TYPE_CHECKING:
    from regard.exploring.explore import explore
    from regard.finetuning.check import check
    from regard.finetuning.conduct import finetune
    from regard.finetuning.export import export
    from regard.finetuning.predict import predict
    from regard.finetuning.runs.run import evaluate
    from regard.inspection.effects.measure import effects
    from regard.models.files import load, save

# Imported when asked for; most stand on other packages (`pip install "regard[finetune]"`, `regard[explore]`,
# safetensors).
_LATER = {
    "check": "finetuning.check",
    "effects": "inspection.effects.measure",
    "evaluate": "finetuning.runs.run",
    "explore": "exploring.explore",
    "export": "finetuning.export",
    "finetune": "finetuning.conduct",
    "load": "models.files",
    "predict": "finetuning.predict",
    "save": "models.files",
}

__all__ = [
    "Attention",
    "AttentionWeights",
    "attention",
    "biases",
    "check",
    "compile",
    "edit",
    "effects",
    "errors",
    "evaluate",
    "explore",
    "export",
    "finetune",
    "load",
    "masks",
    "pad",
    "predict",
    "save",
    "unpad",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'regard' has no attribute {name!r}")
    return getattr(importlib.import_module(f"regard.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_LATER]
