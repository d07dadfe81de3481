"""PyTorch's attention."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

from regard import _check
from regard._backends.protocol import Array
from regard.errors import ShapeError, UnsupportedError
from regard.masks.conventions.said import Arguments, array_of, converted, mask_or_bias, rule_if, said
from regard.masks.rules import causal_top_left


def from_torch(of: str = "scaled_dot_product_attention", **arguments: Any) -> Arguments:
    """PyTorch's attention: `scaled_dot_product_attention`, or `"MultiheadAttention"`.

    A mask that is True means *may see* in the first and *hidden* in the second; floating point is added in both.
    `is_causal` has its corner top left; in a MultiheadAttention it is a hint about `attn_mask`, and that is taken.

    Args:
        of: The function or layer whose arguments they are, by its name.
        arguments: Of the function: `attn_mask`, `dropout_p`, `is_causal`, `scale`, `enable_gqa`. Of the layer:
            `key_padding_mask (B, S)`, `attn_mask (T, S)` or `(B H, T, S)`, which needs `num_heads`, `is_causal`,
            `need_weights`, `average_attn_weights`.

    Returns:
        Arguments of `regard.attention`. Dropout needs a `seed` beside them.

    Raises:
        DtypeError: A mask that is neither Boolean nor floating point, as in PyTorch.
        UnsupportedError: Another layer, or an argument that it has not.

    Example:
        >>> import numpy as np, regard
        >>> query, key = np.zeros((2, 3)), np.zeros((4, 3))
        >>> hidden = np.array([False, False, False, True])
        >>> function = regard.masks.from_torch(attn_mask=~hidden, is_causal=True)
        >>> layer = regard.masks.from_torch("MultiheadAttention", key_padding_mask=hidden)
        >>> regard.attention(query, key, key, **function).weights.dense()
        array([[1. , 0. , 0. , 0. ],
               [0.5, 0.5, 0. , 0. ]])
        >>> regard.attention(query, key, key, **layer).weights.dense().round(2)
        array([[0.33, 0.33, 0.33, 0.  ],
               [0.33, 0.33, 0.33, 0.  ]])
    """
    return converted("masks.from_torch", _TORCH, of, arguments)


def _torch_function(
    who: str,
    attn_mask: Array = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Arguments:
    seen, bias = mask_or_bias(who, "attn_mask", attn_mask)
    return said(seen, rule_if(is_causal, causal_top_left), bias=bias, scale=scale, dropout=dropout_p or None)


def _torch_layer(
    who: str,
    key_padding_mask: Array = None,
    need_weights: bool = True,
    attn_mask: Array = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    num_heads: int | None = None,
) -> Arguments:
    if is_causal and attn_mask is None:
        raise UnsupportedError(
            f"{who}: need attn_mask with is_causal, which is a hint about it in a MultiheadAttention; got none; give "
            "the mask."
        )
    attn_mask, padding = _by_head(who, array_of(attn_mask), num_heads), array_of(key_padding_mask)
    if padding is not None and len(padding.shape) == 2:
        padding = padding[:, None, None, :]
    pairs = [
        mask_or_bias(who, name, array, hides=True)
        for name, array in (("attn_mask", attn_mask), ("key_padding_mask", padding))
    ]
    biases = [bias for _, bias in pairs if bias is not None]
    return said(*(seen for seen, _ in pairs), bias=functools.reduce(operator.add, biases) if biases else None)


def _by_head(who: str, mask: Array, heads: int | None) -> Array:
    """`(B H, T, S)` as `(B, H, T, S)`, and `(H, T, S)` of one example as it is."""
    if mask is None or len(mask.shape) != 3 or mask.shape[0] == heads:
        return mask
    if heads is None or mask.shape[0] % heads:
        raise ShapeError(
            f"{who}: need num_heads of the layer, which divides the first axis of attn_mask (B H, T, S); got "
            f"{heads} for {_check.spelled(mask.shape)}."
        )
    return mask.reshape(-1, heads, *mask.shape[1:])


_TORCH: dict[str, Callable[..., Arguments]] = {
    "scaled_dot_product_attention": _torch_function,
    "MultiheadAttention": _torch_layer,
}
