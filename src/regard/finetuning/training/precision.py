"""What numbers are computed in: weights stay float32, and products are bfloat16 where the hardware is made for it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SHORT = 256
"""Up to so many queries and keys, a CPU learns attention sooner in float32: the backward of its fused kernel takes 1.3
to 12 times as long in bfloat16 there (two cores with AMX, 8 to 256 positions; from 384 on bfloat16 is the faster).
"""


def choose_precision(wanted: str) -> str:
    """Return `bfloat16` or `float32`; `auto` means bfloat16 where the hardware multiplies it faster.

    Of CPUs these are the ones with AMX. Instructions of AVX-512 alone took 1.3 to 1.7 times as long a step as float32,
    for five models of 192 to 768 units (two cores of an Intel processor whose AMX is off).
    """
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if capabilities.get("amx_bf16") else "float32"


def autocast(wanted: str) -> AbstractContextManager:
    """Compute in the precision that is wanted, for what runs inside."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, torch.bfloat16, enabled=choose_precision(wanted) == "bfloat16")


class ShortAttention(TorchFunctionMode):
    """Computes short attentions in float32 inside forward passes in bfloat16, where a CPU is to learn from them.

    PyTorch leaves such a mode during the backward pass: what gradient checkpointing computes again there has other
    types, which PyTorch notices and refuses.
    """

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return function(*args, **kwargs)


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
    *rest: Any, **options: Any,
) -> torch.Tensor:  # fmt: skip
    attend: Any = functional.scaled_dot_product_attention
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    half = query.device.type == "cpu" and kind.itemsize < 4
    fused = not dropout_p and any(array.requires_grad for array in (query, key, value))  # else there is no such kernel
    if not (half and fused and max(query.shape[-2], key.shape[-2]) <= SHORT):
        return attend(query, key, value, attn_mask, dropout_p, *rest, **options)
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        attn_mask = attn_mask.float()
    with torch.autocast("cpu", enabled=False):
        output = attend(query.float(), key.float(), value.float(), attn_mask, dropout_p, *rest, **options)
    return output.to(kind)


def without_autocast(model: Any) -> Any:
    """Undo in place what accelerate put around a model's forward.

    accelerate's own way (`keep_fp32_wrapper=False`) also takes off what transformers and `regard.unpad` put there.
    """
    original = vars(model).pop("_original_forward", None)
    if original is not None:
        model.forward = original
    return model
