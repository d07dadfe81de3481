"""A classifier of KerasHub, shown one text: what it attends to while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from regard.errors import UnsupportedError
from regard.models.transformers_look import Looked
from regard.models.watch import watch

_CASES = 64  # inputs that are scored at once


def look(model: Any, processor: Any, given: str, gradients: bool = False) -> Looked:
    """Shows a classifier a text, or the file of a picture.

    Args:
        model: a classifier of KerasHub with `label_names`.
        processor: transformers' tokenizer or image processor.
        given: a text, or the path of a picture.
        gradients: not here.

    Raises:
        UnsupportedError: Gradients are asked for, or no attention can be seen.
    """
    if gradients:
        raise UnsupportedError("relevance: need a model of PyTorch; got one of Keras; use --method rollout.")
    return read(model, processor, given)


def read(model: Any, processor: Any, text: str) -> Looked:
    """Shows a classifier a text."""
    whole = processor(text, verbose=False)["input_ids"]
    options = {"truncation": True, "max_length": processor.model_max_length, "verbose": False}
    ids = np.array([processor(text, **options)["input_ids"]], np.int32)
    mask = np.ones_like(ids)
    with watch(model) as seen:
        logits = model(_inputs(model, ids, mask))
    chances = _softmax(keras.ops.convert_to_numpy(logits))[0]
    best = int(chances.argmax())
    return Looked(
        "text",
        processor.convert_ids_to_tokens(ids[0].tolist()),
        seen.over(ids.shape[1]),
        f"{model.label_names[best]} {chances[best]:.3f}",
        cut=len(whole) - ids.shape[1],
        score=_score_without_tokens(model, ids, best),
        removable=~np.isin(ids[0], processor.all_special_ids),
    )


def _inputs(model: Any, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    inputs = {"token_ids": ids, "padding_mask": mask}
    return inputs | ({"segment_ids": np.zeros_like(ids)} if "segment_ids" in model.input else {})


def _score_without_tokens(model: Any, ids: np.ndarray, decided: int) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of what was decided, where tokens that are not kept are hidden from all others."""

    def score(kept: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(kept), _CASES):
            mask = kept[start : start + _CASES].astype(np.int32)
            filled = np.concatenate([mask, np.ones((_CASES - len(mask), mask.shape[1]), np.int32)])
            logits = model.predict_on_batch(_inputs(model, np.repeat(ids, _CASES, 0), filled))
            found.append(_softmax(np.asarray(logits, np.float64))[: len(mask), decided])
        return np.concatenate(found)

    return score


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)
