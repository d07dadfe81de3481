"""Haiku."""

import haiku
import jax

from operators import Found, Operators, by_head, side_by_side

operators = Operators()
LIBRARIES = ("dm-haiku",)


@operators("haiku `MultiHeadAttention`")
def layer(query, key, value, *, mask=None):
    heads, width = query.shape[1], query.shape[3]

    def attend(*given):
        return haiku.MultiHeadAttention(heads, width, w_init=haiku.initializers.Identity(), with_bias=False)(*given)

    made = haiku.without_apply_rng(haiku.transform(attend))
    given = [*map(side_by_side, (query, key, value)), mask]
    return Found(by_head(made.apply(made.init(jax.random.key(0), *given), *given), heads))
