"""Whether a model that KerasHub read from a checkpoint answers as transformers' does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch
from transformers.activations import GELUActivation, NewGELUActivation

from regard.errors import ConfigError
from regard.finetuning.frameworks.keras.batches import as_inputs
from regard.finetuning.training.monitor import as_for_predictions

APART = 1e-3
"""How far logits may be apart at most, as a share of their deviation over the probes."""
PROBES = 8
LENGTH = 24
FIXED: dict[str, dict[str, Any]] = {
    "bert": {"hidden_act": "gelu", "layer_norm_eps": 1e-12},
    "distilbert": {"activation": "gelu"},
    "roberta": {"hidden_act": "gelu", "layer_norm_eps": 1e-5},
    "xlm-roberta": {"hidden_act": "gelu", "layer_norm_eps": 1e-5},
    "vit": {"hidden_act": "gelu"},
}
"""What KerasHub takes for granted of a family, whatever the checkpoint's configuration says."""


def require_same_logits(theirs: Any, ours: Any, source: str) -> None:
    """Compare both models' logits of random inputs, in float32.

    KerasHub reads a checkpoint's weights and sizes, and not all else that its configuration says.

    Raises:
        ConfigError: they differ, beyond what rounding comes to.
    """
    batch = _probes(theirs.config)
    with as_for_predictions(theirs), _approximate(theirs):
        expected = theirs(**batch).logits.numpy()
    found = keras.ops.convert_to_numpy(ours(as_inputs(ours, batch, PROBES), training=False))
    spread, apart = expected.std(0).max(), np.abs(found - expected).max()
    if not apart <= APART * spread + np.finfo(np.float32).eps:
        raise ConfigError(
            f"model: need a model that KerasHub computes as transformers does; got '{source}', of which logits are "
            f"apart by {apart / spread:.2g} of their deviation{_why(theirs.config)}; choose another model, or set "
            "framework: torch."
        )


def _why(config: Any) -> str:
    """Say which entries of a configuration ask for something else than KerasHub has."""
    fixed = FIXED[config.model_type].items()
    told = [f"{name} {getattr(config, name)} ({value} in KerasHub)" for name, value in fixed if _differs(config, name)]
    return f", for its configuration has {' and '.join(told)}" if told else ""


def _differs(config: Any, name: str) -> bool:
    return getattr(config, name) != FIXED[config.model_type][name]


def _probes(config: Any) -> dict[str, torch.Tensor]:
    """Make inputs at random: pictures, or texts of which half are padded."""
    random = np.random.default_rng(0)
    if config.model_type == "vit":
        shape = (PROBES, config.num_channels, *np.broadcast_to(config.image_size, 2))
        return {"pixel_values": torch.tensor(random.normal(size=shape), dtype=torch.float32)}
    padding = config.pad_token_id or 0
    reads = config.max_position_embeddings - (padding + 1 if "roberta" in config.model_type else 0)
    length = min(LENGTH, reads)
    ids = torch.tensor(random.integers(0, config.vocab_size - 1, (PROBES, length)))
    ids += ids >= padding  # no padding among what is read
    mask = torch.ones_like(ids)
    mask[PROBES // 2 :, length // 2 :] = 0
    return {"input_ids": ids.where(mask.bool(), torch.tensor(padding)), "attention_mask": mask}


@contextmanager
def _approximate(model: Any) -> Iterator[None]:
    """Let BERT have KerasHub's approximate GELU for a while: what that changes is known, and small."""
    holders = [each for each in model.modules() if model.config.model_type == "bert" and _is_exact(each)]
    for each in holders:
        each.intermediate_act_fn = NewGELUActivation()
    try:
        yield
    finally:
        for each in holders:
            each.intermediate_act_fn = GELUActivation()


def _is_exact(module: Any) -> bool:
    return isinstance(getattr(module, "intermediate_act_fn", None), GELUActivation)
