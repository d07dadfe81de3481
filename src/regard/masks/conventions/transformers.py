"""Attention functions of transformers."""

from __future__ import annotations

import functools
import operator

from regard import _check
from regard._backends.protocol import Array
from regard.errors import ShapeError
from regard.masks.conventions.said import Arguments, array_of, mask_or_bias, rule_if, said, truth
from regard.masks.rules import boolean, causal, window


def from_transformers(
    attention_mask: Array = None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = False,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: Array = None,
    position_bias: Array = None,
) -> Arguments:
    """An attention function of transformers: `(module, query, key, value, attention_mask, scaling, dropout, ...)`.

    A mask with heads, `(B, H, T, S)`, says all: True = may see, or numbers that are added, and `is_causal` and
    `sliding_window` are left aside, as eager and sdpa attention do. Beside none, or a tokenizer's `(B, S)` of ones
    and zeros, they count: the last query sees every key, where sdpa, given more keys than several queries and no mask,
    drops the keys behind.

    Args:
        attention_mask: `(B, 1 or H, T, S)`, or `(B, S)`, not 0 = may see.
        scaling: Factor on the scores; default 1 / sqrt(D).
        dropout: Probability of dropping a weight; needs a `seed` beside it.
        is_causal: Whether a query sees no key after its own.
        softcap: The score becomes softcap tanh(score / softcap), before the mask.
        sliding_window: w: a query sees the w - 1 keys before its own, and as many after it unless it is causal.
        s_aux: `(H,)`: sinks.
        position_bias: Broadcasts to `(B, H, T, S)`, added.

    Returns:
        Arguments of `regard.attention`.

    Raises:
        DtypeError: A mask with heads of whole numbers, which eager attention adds and sdpa refuses.
        ShapeError: A mask of other axes.

    Example:
        >>> import numpy as np, regard
        >>> query = np.zeros((1, 1, 3, 2))
        >>> said = regard.masks.from_transformers(np.array([[1, 1, 0]]), is_causal=True, s_aux=np.zeros(1))
        >>> regard.attention(query, query, query, **said).weights.dense().round(2)[0, 0]
        array([[0.5 , 0.  , 0.  ],
               [0.33, 0.33, 0.  ],
               [0.33, 0.33, 0.  ]])
    """
    mask = array_of(attention_mask)
    axes = 0 if mask is None else len(mask.shape)
    if axes not in (0, 2, 4):
        raise ShapeError(
            f"masks.from_transformers: need attention_mask (B, S) or (B, H, T, S); got {_check.spelled(mask.shape)}; "
            "add an axis for the heads."
        )
    others = {"scale": scaling, "softcap": softcap, "sinks": s_aux, "dropout": dropout or None}
    if axes == 4:
        seen, added = mask_or_bias("masks.from_transformers", "attention_mask", mask)
        biases = [each for each in (added, position_bias) if each is not None]
        return said(seen, bias=functools.reduce(operator.add, biases) if biases else None, **others)
    return said(
        None if mask is None else boolean(truth(mask)[:, None, None, :]),
        rule_if(is_causal, causal),
        None if sliding_window is None else window(sliding_window - 1, sliding_window - 1),
        bias=position_bias,
        **others,
    )
