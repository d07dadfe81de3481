"""timm."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[2] / "architectures"))

import torchvision_apart  # noqa: F401  (before timm)
from timm.layers import Attention

from operators import Found, Operators, by_head, side_by_side
from operators.of_torch import tensors

operators = Operators()
LIBRARIES = ("timm", "torch")


def layer(fused, query, key, value, mask, causal):
    """Query, key and value come from one projection's input: they stand side by side in it."""
    heads, width = query.shape[1], query.shape[1] * query.shape[3]
    made = Attention(3 * width, heads, attn_head_dim=query.shape[3], dim_out=width, proj_bias=False).eval()
    made.fused_attn = fused
    flat, mask = tensors(np.concatenate([side_by_side(array) for array in (query, key, value)], -1), mask)
    with torch.no_grad():
        made.qkv.weight.copy_(torch.eye(3 * width))
        made.proj.weight.copy_(torch.eye(width))
        return Found(by_head(made(flat, attn_mask=mask, is_causal=causal).numpy(), heads))


@operators("timm `Attention` (fused)", alone=True)
def fused(query, key, value, *, mask=None, added=None, causal=False):
    return layer(True, query, key, value, added if mask is None else mask, causal)


@operators("timm `Attention` (not fused)", alone=True)
def plain(query, key, value, *, mask=None, added=None, causal=False):
    return layer(False, query, key, value, added if mask is None else mask, causal)
