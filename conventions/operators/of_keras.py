"""Keras, on the backend that this process has."""

import keras
import numpy as np
from keras import ops

from operators import Found, Operators, by_head, heads_last, side_by_side

operators = Operators()
BACKEND = keras.backend.backend()
LIBRARIES = ("keras", {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}[BACKEND])


def several(layer, query, key, value, mask, dropout, weights, **call):
    """A layer of several heads, whose projections change nothing."""
    heads, groups = query.shape[1], key.shape[1]
    flat = [ops.convert_to_tensor(side_by_side(array)) for array in (query, value, key)]
    layer.build(*(each.shape for each in flat))
    eyes = [np.eye(count * query.shape[3], dtype="float32") for count in (heads, groups, groups, heads)]
    layer.set_weights([eye.reshape(kept.shape) for eye, kept in zip(eyes, layer.weights, strict=False)])
    found = layer(
        *flat[:2], key=flat[2], attention_mask=mask, return_attention_scores=weights, training=dropout > 0, **call
    )
    output, scores = found if weights else (found, None)
    return Found(by_head(ops.convert_to_numpy(output), heads), None if scores is None else ops.convert_to_numpy(scores))


@operators(f"keras/{BACKEND} `MultiHeadAttention`")
def heads(query, key, value, *, mask=None, causal=False, window=None, dropout=0.0, weights=False):
    count, width = query.shape[1], query.shape[3]
    layer = keras.layers.MultiHeadAttention(
        count, width, use_bias=False, dropout=dropout, output_shape=count * width, sliding_window=window
    )
    return several(layer, query, key, value, mask, dropout, weights, use_causal_mask=causal)


@operators(f"keras/{BACKEND} `MultiHeadAttention(return_attention_scores=True)`")
def heads_with_scores(query, key, value, *, mask=None):
    return heads(query, key, value, mask=mask, weights=True)


@operators(f"keras/{BACKEND} `GroupQueryAttention`", grouped=True)
def groups(query, key, value, *, mask=None, causal=False, dropout=0.0, weights=False):
    layer = keras.layers.GroupQueryAttention(query.shape[3], query.shape[1], key.shape[1], dropout, use_bias=False)
    return several(layer, query, key, value, mask, dropout, weights, use_causal_mask=causal)


@operators(f"keras/{BACKEND} `Attention`", heads=1)
def single(query, key, value, *, mask=None, causal=False, dropout=0.0, weights=True):
    layer = keras.layers.Attention(dropout=dropout)
    given = [ops.convert_to_tensor(array[:, 0]) for array in (query, value, key)]
    masks = None if mask is None else [None, ops.convert_to_tensor(mask[:, 0, 0])]
    output, found = layer(given, mask=masks, return_attention_scores=True, training=dropout > 0, use_causal_mask=causal)
    return Found(ops.convert_to_numpy(output)[:, None], ops.convert_to_numpy(found)[:, None])


@operators(f"keras/{BACKEND} `ops.dot_product_attention`", grouped=True)
def function(query, key, value, *, mask=None, added=None, causal=False):
    arrays = [ops.convert_to_tensor(heads_last(array)) for array in (query, key, value)]
    output = ops.dot_product_attention(*arrays, mask=mask, bias=added, is_causal=causal)
    return Found(heads_last(ops.convert_to_numpy(output)))
