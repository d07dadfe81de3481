"""MLX, on a CPU."""

import mlx.core as mx
import mlx.nn
import numpy as np

from operators import Found, Operators, by_head, side_by_side

operators = Operators()
LIBRARIES = ("mlx",)


@operators("mlx `fast.scaled_dot_product_attention`", grouped=True, scaled=False)
def function(query, key, value, *, mask=None, added=None, causal=False, sinks=None):
    mask = added if mask is None else mask
    if causal and mask is not None:
        raise TypeError("one argument is both")
    mask = "causal" if causal else None if mask is None else mx.array(mask)
    output = mx.fast.scaled_dot_product_attention(
        *map(mx.array, (query, key, value)), scale=query.shape[-1] ** -0.5, mask=mask,
        sinks=None if sinks is None else mx.array(sinks),
    )  # fmt: skip
    return Found(np.array(output))


@operators("mlx `nn.MultiHeadAttention`")
def layer(query, key, value, *, mask=None, added=None):
    heads, width = query.shape[1], query.shape[1] * query.shape[3]
    made = mlx.nn.MultiHeadAttention(width, heads)
    for name in ("query_proj", "key_proj", "value_proj", "out_proj"):
        getattr(made, name).weight = mx.eye(width)
    mask = added if mask is None else mask
    mask = None if mask is None else mx.array(mask)
    return Found(by_head(np.array(made(*(mx.array(side_by_side(each)) for each in (query, key, value)), mask)), heads))
