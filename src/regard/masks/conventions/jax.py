"""JAX's attention."""

from __future__ import annotations

from regard._backends.protocol import Array
from regard.masks.conventions.said import Arguments, rule_if, said
from regard.masks.rules import boolean, causal_top_left, lengths, window_top_left


def from_jax(
    bias: Array = None,
    mask: Array = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Array = None,
    key_value_seq_lengths: Array = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Arguments:
    """`jax.nn.dot_product_attention`, whose causal corner and window stand top left: query i at key position i.

    Args:
        bias: Broadcasts to `(B, H, T, S)`, added to the scaled score.
        mask: Boolean, likewise; True = may see.
        scale: Factor on the scores; default 1 / sqrt(D).
        is_causal: Query i sees keys up to i.
        query_seq_lengths: `(B,)`; what lies behind has the output 0.
        key_value_seq_lengths: `(B,)`; what lies behind is not seen.
        local_window_size: How many keys before and after its own a query sees: one number for both, or a pair.
        implementation: Left aside.
        return_residual: Left aside; `weights.logsumexp` is always there, natural as JAX's, `(B, H, T)`.

    Returns:
        Arguments of `regard.attention`.

    Example:
        >>> import numpy as np, regard
        >>> query = np.zeros((1, 1, 4, 2))
        >>> said = regard.masks.from_jax(local_window_size=(1, 0), key_value_seq_lengths=np.array([3]))
        >>> regard.attention(query, query, query, **said).weights.dense()[0, 0]
        array([[1. , 0. , 0. , 0. ],
               [0.5, 0.5, 0. , 0. ],
               [0. , 0.5, 0.5, 0. ],
               [0. , 0. , 1. , 0. ]])
    """
    sides = (local_window_size,) * 2 if isinstance(local_window_size, int) else local_window_size
    padding = query_seq_lengths is not None or key_value_seq_lengths is not None
    return said(
        None if mask is None else boolean(mask),
        rule_if(is_causal, causal_top_left),
        None if sides is None else window_top_left(*sides),
        lengths(key_value_seq_lengths, query_seq_lengths) if padding else None,
        bias=bias,
        scale=scale,
    )
