"""Keras' attention, of layers and of `keras.ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from regard._backends.protocol import Array
from regard.errors import UnsupportedError
from regard.masks.conventions.said import Arguments, converted, rule_if, said, truth
from regard.masks.rules import boolean, causal_top_left, window_top_left


def from_keras(of: str = "MultiHeadAttention", **arguments: Any) -> Arguments:
    """Keras' attention: `"MultiHeadAttention"`, `"GroupQueryAttention"`, `"Attention"`, `"dot_product_attention"`.

    A mask that is True, or not 0, means *may see*. Causal corner and window stand top left: query i at key position i.
    Padded queries see nothing, so their output is 0; Keras gives them an even average, or 0 where weights are returned
    and in `Attention`.

    Args:
        of: The layer, or the function of `keras.ops`, whose arguments they are, by its name.
        arguments: Of the layers of several heads: `query_mask (B, T)`, `value_mask`, `key_mask (B, S)`,
            `attention_mask (T, S)`, `(B, T, S)` or `(B, H, T, S)`, `use_causal_mask`; and what the layer was made
            with, `sliding_window`. Of `Attention`, whose arrays are `(B, T, D)`: `mask`, a list of the query's
            and the value's, `use_causal_mask`, and the layer's `scale`, without which scores are not scaled. Of the
            function: `bias`, `mask`, `scale`, `is_causal`.

    Returns:
        Arguments of `regard.attention`.

    Raises:
        UnsupportedError: Another layer, an argument that it has not, or a soft cap, which Keras has on TPUs alone and
            of another formula.

    Example:
        >>> import numpy as np, regard
        >>> query, key = np.zeros((1, 1, 3, 2)), np.zeros((1, 1, 3, 2))
        >>> said = regard.masks.from_keras(value_mask=np.array([[0, 1, 1]]), use_causal_mask=True)
        >>> regard.attention(query, key, key, **said).weights.dense()[0, 0]
        array([[0. , 0. , 0. ],
               [0. , 1. , 0. ],
               [0. , 0.5, 0.5]])
    """
    return converted("masks.from_keras", _KERAS, of, arguments)


def _keras_heads(
    who: str,
    query_mask: Array = None,
    value_mask: Array = None,
    key_mask: Array = None,
    attention_mask: Array = None,
    return_attention_scores: bool = False,
    training: bool | None = None,
    use_causal_mask: bool = False,
    sliding_window: int | None = None,
) -> Arguments:
    pairs = truth(attention_mask)
    if pairs is not None and len(pairs.shape) == 3:
        pairs = pairs[:, None]
    queries, *keys = (truth(mask) for mask in (query_mask, value_mask, key_mask))
    return said(
        None if pairs is None else boolean(pairs),
        None if queries is None else boolean(queries[:, None, :, None]),
        *(None if mask is None else boolean(mask[:, None, None, :]) for mask in keys),
        rule_if(use_causal_mask, causal_top_left),
        None if sliding_window is None else window_top_left(sliding_window - 1, sliding_window - 1),
    )


def _keras_single(
    who: str,
    mask: Sequence[Array] | None = None,
    training: bool | None = False,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    scale: Any = None,
) -> Arguments:
    queries, keys = (truth(each) for each in (*(mask or ()), None, None)[:2])
    return said(
        None if queries is None else boolean(queries[:, :, None]),
        None if keys is None else boolean(keys[:, None, :]),
        rule_if(use_causal_mask, causal_top_left),
        scale=1.0 if scale is None else scale,
    )


def _keras_function(
    who: str,
    bias: Array = None,
    mask: Array = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Arguments:
    if attn_logits_soft_cap is not None:
        raise UnsupportedError(
            f"{who}: need attn_logits_soft_cap=None, since Keras has it on TPUs alone and of another formula; got a "
            "number; softcap of regard.attention is c tanh(score / c)."
        )
    seen = None if mask is None else boolean(truth(mask))
    return said(seen, rule_if(is_causal, causal_top_left), bias=bias, scale=scale)


_KERAS: dict[str, Callable[..., Arguments]] = {
    "MultiHeadAttention": _keras_heads, "GroupQueryAttention": _keras_heads, "Attention": _keras_single,
    "dot_product_attention": _keras_function,
}  # fmt: skip
