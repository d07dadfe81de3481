"""ONNX's operator."""

from __future__ import annotations

import numpy as np

from regard._backends import to_numpy
from regard._backends.protocol import Array
from regard.errors import ShapeError
from regard.masks.conventions.said import Arguments, array_of, mask_or_bias, said
from regard.masks.forms import Window
from regard.masks.rules import Mask, boolean, lengths


def from_onnx(
    attn_mask: Array = None,
    *,
    Q: Array = None,  # noqa: N803  (ONNX's own names)
    K: Array = None,  # noqa: N803
    past_key: Array = None,
    nonpad_kv_seqlen: Array = None,
    is_causal: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    left_window_size: int = -1,
    right_window_size: int = -1,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    softmax_precision: int | None = None,
    qk_matmul_output_mode: int = 0,
) -> Arguments:
    """ONNX's operator `Attention`, opsets 23 to 25: its inputs and attributes, by their names.

    Query i stands at key position i, or behind the past where there is one: behind `past_key`, or where the last
    query is the last of `nonpad_kv_seqlen`.

    Args:
        attn_mask: Broadcasts to `(B, H, T, S)`: Boolean, True = may see, or added; shorter than S, the rest is hidden.
        Q: `(B, H, T, D)` or `(B, T, H D)`, looked at for T, with `nonpad_kv_seqlen` beside a corner or a window.
        K: `(B, G, S, D)` or `(B, S, G D)`, looked at for S, there and where `attn_mask` is shorter.
        past_key: `(B, G, P, D)`, looked at for P; keys and values for `regard.attention` begin with the past.
        nonpad_kv_seqlen: `(B,)`: what lies behind is not seen.
        is_causal: Not 0: a query sees no key after its own.
        scale: Factor on the scores; default 1 / sqrt(D).
        softcap: c > 0: the score becomes c tanh(score / c) before the mask; 0 for none.
        left_window_size: Keys before its own that a query sees; -1 for all.
        right_window_size: Keys after its own; -1 for all.
        q_num_heads: Left aside, as are `kv_num_heads`, `softmax_precision` and `qk_matmul_output_mode`.

    Returns:
        Arguments of `regard.attention`.

    Raises:
        ShapeError: `nonpad_kv_seqlen` with a corner or a window, and no `Q` and `K`.

    Cost: `nonpad_kv_seqlen` with a corner or a window makes an array `(B, 1, T, S)` of Booleans.

    Example:
        >>> import numpy as np, regard
        >>> query, key, past = np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 1, 3))
        >>> said = regard.masks.from_onnx(is_causal=1, past_key=past)
        >>> both = np.concatenate([past, key], 2)
        >>> regard.attention(query, both, both, **said).weights.dense().round(2)[0, 0]
        array([[0.5 , 0.5 , 0.  ],
               [0.33, 0.33, 0.33]])
    """
    past = 0 if past_key is None else past_key.shape[2]
    before, after = (None if size < 0 else size for size in (left_window_size, right_window_size))
    after = min(0, 0 if after is None else after) if is_causal else after
    if nonpad_kv_seqlen is None:
        placed = _behind(past, before, after)
    else:
        placed = _each_behind(array_of(nonpad_kv_seqlen), Q, K, before, after)
    seen, bias = mask_or_bias("masks.from_onnx", "attn_mask", _as_long(attn_mask, K, past))
    padding = None if nonpad_kv_seqlen is None else lengths(nonpad_kv_seqlen)
    return said(seen, placed, padding, bias=bias, scale=scale, softcap=softcap or None)


def _behind(past: int, before: int | None, after: int | None) -> Mask | None:
    """What a query sees of the keys around its own, which is that of its number behind the past."""
    if before is None and after is None:
        return None
    sides = (None if before is None else before - past, None if after is None else after + past)
    return Mask(Window(*sides, from_start=True))


def _each_behind(counts: Array, queries: Array, keys: Array, before: int | None, after: int | None) -> Mask | None:
    """The same where the last query is the last of so many keys, which differ from example to example."""
    if before is None and after is None:
        return None
    if queries is None or keys is None:
        raise ShapeError(
            "masks.from_onnx: need Q and K with nonpad_kv_seqlen where is_causal or a window is given; got none; give "
            "them, for their lengths."
        )
    own = np.arange(queries.shape[-2])[:, None] + to_numpy(counts).reshape(-1, 1, 1, 1) - queries.shape[-2]
    distance = np.arange(keys.shape[-2]) - own
    seen = np.ones(distance.shape, bool) if before is None else distance >= -before
    return boolean(seen if after is None else seen & (distance <= after))


def _as_long(mask: Array, keys: Array, past: int) -> Array:
    """A mask for all keys: those behind its end are hidden."""
    if mask is None or keys is None or mask.shape[-1] >= keys.shape[-2] + past:
        return mask
    known = to_numpy(array_of(mask))
    missing = [(0, 0)] * (known.ndim - 1) + [(0, keys.shape[-2] + past - known.shape[-1])]
    return np.pad(known, missing, constant_values=False if known.dtype == bool else -np.inf)
