"""Flax."""

import flax.linen as nn
import jax
import numpy as np
from flax import nnx

from operators import Found, Operators, by_head, heads_last, side_by_side

operators = Operators()
LIBRARIES = ("flax",)


@operators("flax `linen.MultiHeadDotProductAttention`")
def layer(query, key, value, *, mask=None, dropout=0.0, weights=False):
    heads, width = query.shape[1], query.shape[3]
    made = nn.MultiHeadDotProductAttention(
        heads, use_bias=False, dropout_rate=dropout, deterministic=not dropout, broadcast_dropout=False
    )
    eye = np.eye(heads * width, dtype="float32").reshape(-1, heads, width)
    kernels = {name: {"kernel": eye} for name in ("query", "key", "value")}
    kernels["out"] = {"kernel": eye.reshape(heads, width, -1)}
    output, beside = made.apply(
        {"params": kernels}, *map(side_by_side, (query, key, value)), mask=mask, sow_weights=True,
        rngs={"dropout": jax.random.key(0)}, mutable=["intermediates"],
    )  # fmt: skip
    [found] = jax.tree.leaves(beside)
    return Found(by_head(output, heads), np.asarray(found))


@operators("flax `nnx.dot_product_attention`")
def function(query, key, value, *, mask=None, added=None):
    output = nnx.dot_product_attention(*map(heads_last, (query, key, value)), mask=mask, bias=added)
    return Found(heads_last(np.asarray(output)))
