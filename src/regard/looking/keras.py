"""A classifier of KerasHub, shown one text or picture: what it attends to while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from regard._digits import digits
from regard.errors import UnsupportedError
from regard.looking.looked import Looked
from regard.looking.pictures import in_unit_range, open_picture, place_labels
from regard.looking.tokens import readable
from regard.models.seen import Seen
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
    if hasattr(processor, "image_mean"):
        return _look_at_picture(model, processor, given)
    return read(model, processor, given)


def read(model: Any, processor: Any, text: str) -> Looked:
    """Shows a classifier a text."""
    whole = processor(text, verbose=False)["input_ids"]
    options = {"truncation": True, "max_length": processor.model_max_length, "verbose": False}
    ids = np.array([processor(text, **options)["input_ids"]], np.int32)
    mask = np.ones_like(ids)
    seen, logits = _watched(model, _inputs(model, ids, mask))
    return Looked(
        "text",
        readable(processor, ids[0].tolist()),
        seen.over(ids.shape[1]),
        _answer(model, logits),
        cut=len(whole) - ids.shape[1],
        score=_score_without_tokens(model, ids, int(logits.argmax())),
        removable=~np.isin(ids[0], processor.all_special_ids),
    )


def _watched(model: Any, inputs: Any) -> tuple[Seen, np.ndarray]:
    with watch(model) as seen:
        logits = model(inputs)
    return seen, keras.ops.convert_to_numpy(logits)[0]


def _answer(model: Any, logits: np.ndarray) -> str:
    chances = _softmax(logits)
    best = int(chances.argmax())
    return f"{model.label_names[best]} {digits(float(chances[best]))}"


def _look_at_picture(model: Any, processor: Any, path: str) -> Looked:
    picture, _ = open_picture(path)
    pixels = np.moveaxis(processor(images=picture, return_tensors="np")["pixel_values"], 1, -1)
    seen, logits = _watched(model, pixels)
    length = seen[0].shape[-1]
    rows, columns = (side // patch for side, patch in zip(pixels.shape[1:3], model.backbone.patch_size, strict=True))
    prefix = length - rows * columns
    return Looked(
        "image",
        place_labels(rows, columns, prefix),
        seen.over(length),
        _answer(model, logits),
        picture=in_unit_range(pixels[0], processor),
        grid=(rows, columns),
        score=_score_without_patches(model, pixels, int(logits.argmax()), (rows, columns)),
        removable=np.arange(length) >= prefix,
    )


def _inputs(model: Any, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    inputs = {"token_ids": ids, "padding_mask": mask}
    return inputs | ({"segment_ids": np.zeros_like(ids)} if "segment_ids" in model.input else {})


def _score_without_tokens(model: Any, ids: np.ndarray, decided: int) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of what was decided, where tokens that are not kept are hidden from all others."""
    return _scored(model, decided, lambda kept: _inputs(model, np.repeat(ids, len(kept), 0), kept.astype(np.int32)))


def _score_without_patches(
    model: Any, pixels: np.ndarray, decided: int, grid: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of what was decided, where patches that are not kept have the picture's mean colour."""
    rows, columns = grid
    height, width = pixels.shape[1] // rows, pixels.shape[2] // columns
    mean = pixels.mean((1, 2), keepdims=True)

    def shown(kept: np.ndarray) -> np.ndarray:
        large = kept[:, -rows * columns :].reshape(-1, rows, columns).repeat(height, 1).repeat(width, 2)
        return np.where(large[..., None], pixels, mean).astype(np.float32)

    return _scored(model, decided, shown)


def _scored(model: Any, decided: int, inputs: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Score cases in batches of one size, for which the model is compiled once."""

    def score(kept: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(kept), _CASES):
            some = kept[start : start + _CASES]
            filled = np.concatenate([some, np.ones((_CASES - len(some), kept.shape[1]), bool)])
            logits = np.asarray(model.predict_on_batch(inputs(filled)), np.float64)
            found.append(_softmax(logits)[: len(some), decided])
        return np.concatenate(found)

    return score


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)
