"""What a model attends to in a text, for the report: every weight of every layer and head."""

from __future__ import annotations

from typing import Any

import numpy as np


def look(model: Any, processor: Any, text: str) -> tuple[list[str], np.ndarray]:
    """Return the tokens of a text, and the weights of every layer and head as an array (layers, heads, n, n)."""
    from regard.models.transformers_look import read

    looked = read(model.eval(), processor, text)
    return looked.labels, looked.seen.dense()
