"""Who may see whom: masks as rules `(query i, key j) -> may see`, evaluated a tile at a time.

A mask is a value. It is combined with `&`, `|` and `~`, it costs no n x n array, and it knows which tiles are
empty (they are skipped, and the time falls with them) and which are full (they need no mask arithmetic).

Positions. The last query is aligned with the last key: query i stands at key position i + S - T. So
`causal()` lets the last query see every key, as in FlashAttention 2.1 and later; the other corner, top-left,
is that of `torch.nn.functional.scaled_dot_product_attention(is_causal=True)`, Keras and JAX. Their calls become
arguments of `regard.attention` by `from_torch`, `from_keras`, `from_jax`, `from_onnx` and `from_transformers`.

Example:
    >>> import numpy as np, regard
    >>> from regard import masks
    >>> x = np.random.default_rng(0).normal(size=(5, 4))
    >>> _, weights = regard.attention(x, x, x, mask=masks.causal() & masks.window(1, 0))
    >>> (weights.dense() > 0).astype(int)
    array([[1, 0, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [0, 1, 1, 0, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 0, 1, 1]])
"""

from regard.masks.conventions import from_jax, from_keras, from_onnx, from_torch, from_transformers
from regard.masks.forms import MaskForm, Segments, Window
from regard.masks.rules import (
    Mask,
    boolean,
    causal,
    causal_top_left,
    corner,
    lengths,
    pairs,
    prefix,
    segments,
    window,
    window_top_left,
)

__all__ = [
    "Mask", "MaskForm", "Segments", "Window", "boolean", "causal", "causal_top_left", "corner", "from_jax",
    "from_keras", "from_onnx", "from_torch", "from_transformers", "lengths", "pairs", "prefix", "segments", "window",
    "window_top_left",
]  # fmt: skip
