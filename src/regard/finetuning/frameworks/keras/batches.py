"""Batches as KerasHub's models read them, in few shapes: a compiled function is compiled again for each."""

from __future__ import annotations

from typing import Any

import numpy as np


def padded_length(length: int, most: int) -> int:
    """Return the next of the lengths 8, 16, 24, 32, 48, 64, 96, 128, 192 ..., but at most `most`.

    Powers of two and one and a half times them: no length is padded by more than half of it, few by more than a third.
    """
    size = 8
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 and size > 8 else size * 4 // 3 if size > 8 else 16
    return max(length, min(size, most))


def as_inputs(model: Any, batch: Any, rows: int | None = None) -> Any:
    """Return a task's batch of PyTorch tensors as what a KerasHub classifier takes.

    Args:
        model: the classifier.
        batch: `input_ids` and `attention_mask` (B, T), or `pixel_values` (B, 3, H, W).
        rows: how many rows to fill up to; the next power of two if left out. The first row fills.
    """
    if "pixel_values" in batch:
        return _filled(np.moveaxis(batch["pixel_values"].numpy(), 1, -1), rows)
    ids = batch["input_ids"].numpy()
    length = padded_length(ids.shape[1], model.backbone.max_sequence_length)
    arrays = {"token_ids": ids, "padding_mask": batch["attention_mask"].numpy()}
    if "segment_ids" in model.input:
        types = batch.get("token_type_ids")
        arrays["segment_ids"] = np.zeros_like(ids) if types is None else types.numpy()
    wider = ((0, 0), (0, length - ids.shape[1]))
    return {name: _filled(np.pad(array, wider).astype(np.int32), rows) for name, array in arrays.items()}


def _filled(array: np.ndarray, rows: int | None) -> np.ndarray:
    wanted = 1 << (len(array) - 1).bit_length() if rows is None else rows
    return np.concatenate([array, np.repeat(array[:1], wanted - len(array), 0)])


def logits(model: Any, batch: Any) -> np.ndarray:
    """Run the model as for predictions, compiled."""
    rows = len(next(iter(batch.values())))
    return np.asarray(model.predict_on_batch(as_inputs(model, batch))[:rows], np.float32)
