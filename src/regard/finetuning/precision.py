"""What numbers are computed in: weights stay float32, and products are bfloat16 where the hardware is made for it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch


def choose_precision(wanted: str) -> str:
    """Return `bfloat16` or `float32`; `auto` means bfloat16 where the hardware has instructions for it."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


def autocast(wanted: str) -> AbstractContextManager:
    """Compute in the precision that is wanted, for what runs inside."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, torch.bfloat16, enabled=choose_precision(wanted) == "bfloat16")


def without_autocast(model: Any) -> Any:
    """Undo in place what accelerate put around a model's forward.

    accelerate's own way (`keep_fp32_wrapper=False`) also takes off what transformers and `regard.unpad` put there.
    """
    original = vars(model).pop("_original_forward", None)
    if original is not None:
        model.forward = original
    return model
