"""What a model attends to in a text, for the report: every weight of every layer and head."""

from __future__ import annotations

from typing import Any

import numpy as np


def look(model: Any, processor: Any, text: str) -> tuple[list[str], np.ndarray]:
    """Return the tokens of a text, and the weights of every layer and head as an array (layers, heads, n, n)."""
    import torch

    from regard.models.watch import watch

    options = {"truncation": True, "max_length": processor.model_max_length, "verbose": False}
    batch = processor([text], return_tensors="pt", **options).to(model.device)
    model.eval()
    with torch.inference_mode(), watch(model) as seen:
        model(**batch)
    tokens = processor.convert_ids_to_tokens(batch["input_ids"][0])
    return tokens, np.stack([weights[0].dense().float().cpu().numpy() for weights in seen])
