"""Which architectures there are: every type of model that transformers can make by its name."""

from __future__ import annotations

from functools import cache
from typing import Any

import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

# The mappings of transformers from which a class is taken, the first that has it: models that generate come first.
MAPPINGS = [
    "SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "TEXT_TO_WAVEFORM",
    "CAUSAL_LM", "TEXT_RECOGNITION", "", "PRETRAINING", "BACKBONE",
]  # fmt: skip
ENCODERS = ["MASKED_LM"]  # whose models for causal language are an afterthought


@cache
def architectures() -> dict[str, tuple[Any, Any]]:
    """Configuration and model of each type of model; of its models, one that generates, or else the base."""
    found: dict[str, tuple[Any, Any]] = {}
    for model_type in CONFIG_MAPPING:
        name = _class(model_type)
        model = None if name is None else getattr(transformers, name, None)
        if model is not None:
            found[model_type] = CONFIG_MAPPING[model_type], model
    return found


def _class(model_type: str) -> str | None:
    names = MAPPINGS
    if any(model_type in _mapping(each) for each in ENCODERS):
        names = ["SEQ_TO_SEQ_CAUSAL_LM", ""]
    others = [name for name in vars(modeling_auto) if name.startswith("MODEL_FOR") and name.endswith("MAPPING_NAMES")]
    for mapping in (*map(_mapping, names), *(getattr(modeling_auto, name) for name in others)):
        found = mapping.get(model_type)
        if found is not None:
            return found if isinstance(found, str) else found[0]
    return None


def _mapping(name: str) -> Any:
    return getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES" if name else "MODEL_MAPPING_NAMES")
