"""Equinox."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np

from operators import Found, Operators, by_head, side_by_side

operators = Operators()
LIBRARIES = ("equinox",)


@operators("equinox `nn.MultiheadAttention`")
def layer(query, key, value, *, mask=None):
    heads, width = query.shape[1], query.shape[1] * query.shape[3]
    made = equinox.nn.MultiheadAttention(heads, width, inference=True, key=jax.random.key(0))
    eye = jnp.eye(width)
    made = equinox.tree_at(
        lambda it: [it.query_proj.weight, it.key_proj.weight, it.value_proj.weight, it.output_proj.weight],
        made, [eye] * 4,
    )  # fmt: skip
    flat = [jnp.asarray(side_by_side(array)) for array in (query, key, value)]
    rows = [
        made(*(array[place] for array in flat), mask=None if mask is None else jnp.asarray(mask[place]))
        for place in range(len(query))
    ]
    return Found(by_head(np.stack(rows), heads))
