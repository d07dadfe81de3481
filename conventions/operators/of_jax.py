"""JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from operators import Found, Operators, heads_last

operators = Operators()
LIBRARIES = ("jax",)


@operators("jax `nn.dot_product_attention`", grouped=True)
def function(query, key, value, *, mask=None, added=None, causal=False, window=None, logsumexp=False):
    arrays = [jnp.asarray(heads_last(array)) for array in (query, key, value)]
    output, residual = jax.nn.dot_product_attention(
        *arrays, mask=mask, bias=added, is_causal=causal, local_window_size=window, return_residual=True
    )
    return Found(heads_last(np.asarray(output)), logsumexp=np.swapaxes(np.asarray(residual), 1, 2))
