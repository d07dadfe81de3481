"""diffusers."""

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from operators import Found, Operators, by_head, side_by_side
from operators.of_torch import tensors

operators = Operators()
LIBRARIES = ("diffusers", "torch")


def layer(processor, query, key, value, mask):
    """Keys and values come from one projection's input: they stand side by side in it."""
    heads, width = query.shape[1], query.shape[1] * query.shape[3]
    made = Attention(
        width, cross_attention_dim=2 * width, heads=heads, dim_head=query.shape[3], bias=False, out_bias=False,
        processor=processor,
    ).eval()  # fmt: skip
    eye, none = torch.eye(width), torch.zeros(width, width)
    kernels = {"to_q": eye, "to_k": torch.cat([eye, none], 1), "to_v": torch.cat([none, eye], 1)}
    query, key, value, mask = tensors(*map(side_by_side, (query, key, value)), mask)
    with torch.no_grad():
        for name, kernel in kernels.items():
            getattr(made, name).weight.copy_(kernel)
        made.to_out[0].weight.copy_(eye)
        output = made(query, torch.cat([key, value], -1), None if mask is None else mask[:, 0, :1])
    return Found(by_head(output.numpy(), heads))


@operators("diffusers `AttnProcessor`", heads=1)
def plain(query, key, value, *, mask=None, added=None):
    return layer(AttnProcessor(), query, key, value, added if mask is None else mask)


@operators("diffusers `AttnProcessor2_0`", heads=1)
def fused(query, key, value, *, mask=None, added=None):
    return layer(AttnProcessor2_0(), query, key, value, added if mask is None else mask)
