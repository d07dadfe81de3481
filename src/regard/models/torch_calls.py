"""The calls of attention that PyTorch's modules make: query, key, value and rules of each, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from regard import masks
from regard._backends import get_backend
from regard.attention import make_problem
from regard.errors import UnsupportedError
from regard.models.torch_onlooker import attention, encoder_layer, projected
from regard.weights import AttentionWeights


def weights_of(
    query: torch.Tensor, key: torch.Tensor, attn_mask: torch.Tensor | None, is_causal: bool, scale: float | None
) -> AttentionWeights:
    """The weights of one call of PyTorch's attention, whose causal mask has its corner top-left."""
    backend = get_backend("watch", query=query)
    corner = None if attn_mask is None else backend.corner(attn_mask)
    if corner is not None and (corner[0] or corner[1][0] == corner[1][1]):  # to PyTorch, whatever its sizes are
        attn_mask, is_causal = None, True
    said = masks.from_torch(attn_mask=attn_mask, is_causal=is_causal, scale=scale)
    with backend.recording():  # whatever mode the weights are asked about in
        problem, _ = make_problem(backend, query, key, key, **said)
    return AttentionWeights(problem, kernel="the model's own", reason="watched")


def _called(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple:
    """Query, key, value, mask, causal, scale and projection of a call of `scaled_dot_product_attention`."""
    query, attn_mask = _unpacked(module, query, attn_mask)
    return query, key, value, attn_mask, is_causal, scale, None


def _unpacked(
    module: torch.nn.Module, query: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """transformers hands over the heads that share a key as if they were positions, while it generates."""
    repeats = getattr(module, "num_key_value_groups", 1)
    heads = _heads(module)
    if repeats == 1 or query.ndim != 4 or query.shape[2] != repeats or query.shape[1] * repeats != heads:
        return query, mask
    whole = query.reshape(query.shape[0], heads, 1, query.shape[-1])
    if mask is not None and mask.shape[1] != 1:
        mask = mask.reshape(mask.shape[0], heads, 1, mask.shape[-1])
    return whole, mask


def _heads(module: torch.nn.Module) -> int | None:
    """How many heads an attention of transformers has."""
    try:
        return module.config.num_attention_heads  # type: ignore[union-attr, return-value]
    except (AttributeError, RuntimeError):  # transformers' where layers differ in it
        return getattr(module, "num_heads", None)


def _called_whole(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: torch.Tensor | None,
    in_proj_bias: torch.Tensor | None,
    bias_k: torch.Tensor | None,
    bias_v: torch.Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    training: bool = True,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: torch.Tensor | None = None,
    k_proj_weight: torch.Tensor | None = None,
    v_proj_weight: torch.Tensor | None = None,
    static_k: torch.Tensor | None = None,
    static_v: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple:
    """The same of `nn.MultiheadAttention`, whose call hides the inner one: query and key are projected once more."""
    if bias_k is not None or add_zero_attn or static_k is not None:
        raise UnsupportedError(
            "watch, edit: need a MultiheadAttention without add_bias_kv, add_zero_attn and static keys; got one with; "
            "leave it out by layers."
        )
    given = [(array if array.ndim == 3 else array.unsqueeze(1)).transpose(0, 1) for array in (query, key, value)]
    matrices: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight and in_proj_weight is not None:
        matrices = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    query, key, value = projected(given, matrices, biases, num_heads)
    mask = _merged(attn_mask, key_padding_mask, query)
    return query, key, value, mask, is_causal and mask is None, None, out_proj_weight.T


# What is seen, and what reads each call. The last two are calls of PyTorch's fused path, with nested tensors too.
CALLS: dict[Any, Callable[..., tuple]] = {
    functional.scaled_dot_product_attention: _called,
    torch.ops.aten.scaled_dot_product_attention.default: _called,  # of exported programs
    functional.multi_head_attention_forward: _called_whole,
}
READING = {
    functional.multi_head_attention_forward,
    torch._native_multi_head_attention,
    torch._transformer_encoder_layer_fwd,
}
FUSED: dict[Any, Callable[..., tuple]] = {
    torch._transformer_encoder_layer_fwd: encoder_layer,
    torch._native_multi_head_attention: attention,
}


def _merged(mask: torch.Tensor | None, padding: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor | None:
    """PyTorch's two masks, whose True means hidden and whose numbers are added, as one whose True means seen."""
    parts = []
    if mask is not None:
        shape = (-1, query.shape[1], *mask.shape[-2:]) if mask.ndim == 3 else (1, 1, *mask.shape[-2:])
        parts.append(mask.reshape(shape))
    if padding is not None:
        parts.append(padding.reshape(query.shape[0], 1, 1, -1))
    if not parts:
        return None
    if all(part.dtype == torch.bool for part in parts):
        return ~(parts[0] | parts[-1])
    numbers = [
        torch.zeros_like(part, dtype=query.dtype).masked_fill(part, -torch.inf) if part.dtype == torch.bool else part
        for part in parts
    ]
    return sum(numbers[1:], numbers[0])
