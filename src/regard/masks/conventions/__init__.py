"""Other libraries' calls in Regard's terms: `regard.attention(query, key, value, **masks.from_torch(...))`.

Each function takes the arguments of a library's own call but for its arrays of queries, keys and values, by their own
names, and returns those of `regard.attention` that say the same: mask, bias, scale and what else was given. What only
chooses a kernel or what is returned is taken and left aside. Where a query sees nothing, Regard's output is 0, whatever
the library's is; what it is, and all else in which they differ, was measured: `docs/conventions.md`.

Shapes:
    Heads stand before positions, `(B, H, T, D)`; Keras' and JAX's arrays `(B, T, H, D)` are transposed by the caller.
    B: examples; H: query heads; T: queries; S: keys.
"""

from regard.masks.conventions.jax import from_jax
from regard.masks.conventions.keras import from_keras
from regard.masks.conventions.onnx import from_onnx
from regard.masks.conventions.torch import from_torch
from regard.masks.conventions.transformers import from_transformers

__all__ = ["from_jax", "from_keras", "from_onnx", "from_torch", "from_transformers"]
