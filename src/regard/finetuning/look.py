"""What a model attends to in one text."""

from __future__ import annotations

from typing import Any

import numpy as np


def look(model: Any, processor: Any, text: str) -> tuple[list[str], np.ndarray]:
    """Return the tokens of a text, and the weights of every layer and head as an array (layers, heads, n, n)."""
    import torch

    batch = processor([text], truncation=True, max_length=processor.model_max_length, return_tensors="pt", verbose=False)
    tokens = processor.convert_ids_to_tokens(batch["input_ids"][0])
    model.eval()
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            attentions = model(**batch.to(model.device), output_attentions=True).attentions
    finally:
        model.set_attn_implementation(implementation)
    return tokens, np.stack([layer[0].float().cpu().numpy() for layer in attentions])
