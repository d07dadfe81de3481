"""Paddle, on a CPU."""

import numpy as np
import paddle

from operators import Found, Operators, by_head, heads_last, side_by_side

operators = Operators()
LIBRARIES = ("paddlepaddle",)


def tensors(*arrays):
    return [None if array is None else paddle.to_tensor(array) for array in arrays]


@operators("paddle `scaled_dot_product_attention`", grouped=True)
def function(query, key, value, *, mask=None, added=None, causal=False):
    *arrays, mask = tensors(*map(heads_last, (query, key, value)), added if mask is None else mask)
    output = paddle.nn.functional.scaled_dot_product_attention(
        *arrays, attn_mask=mask, is_causal=causal, training=False
    )
    return Found(heads_last(output.numpy()))


@operators("paddle `nn.MultiHeadAttention`")
def layer(query, key, value, *, mask=None, added=None, dropout=0.0, weights=True):
    heads, width = query.shape[1], query.shape[1] * query.shape[3]
    made = paddle.nn.MultiHeadAttention(width, heads, dropout=dropout, need_weights=True)
    made.train() if dropout else made.eval()
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        getattr(made, name).weight.set_value(np.eye(width, dtype="float32"))
        getattr(made, name).bias.set_value(np.zeros(width, dtype="float32"))
    *flat, mask = tensors(*map(side_by_side, (query, key, value)), added if mask is None else mask)
    output, found = made(*flat, attn_mask=mask)
    return Found(by_head(output.numpy(), heads), found.numpy())
