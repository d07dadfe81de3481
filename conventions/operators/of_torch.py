"""PyTorch."""

import warnings

import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

from operators import Found, Operators, by_head, side_by_side

operators = Operators()
LIBRARIES = ("torch",)


def tensors(*arrays):
    return [None if array is None else torch.from_numpy(array.copy()) for array in arrays]


@operators("torch `scaled_dot_product_attention`", grouped=True)
def function(query, key, value, *, mask=None, added=None, causal=False):
    *arrays, mask = tensors(query, key, value, added if mask is None else mask)
    grouped = query.shape[1] != key.shape[1]
    return Found(
        functional.scaled_dot_product_attention(*arrays, attn_mask=mask, is_causal=causal, enable_gqa=grouped).numpy()
    )


def layer(query, key, value, mask, dropout, weights):
    heads, width = query.shape[1], query.shape[1] * query.shape[3]
    made = torch.nn.MultiheadAttention(width, heads, dropout=dropout, bias=False, batch_first=True).train(dropout > 0)
    with torch.no_grad():
        made.in_proj_weight.copy_(torch.eye(width).repeat(3, 1))
        made.out_proj.weight.copy_(torch.eye(width))
        *flat, mask = tensors(*map(side_by_side, (query, key, value)), mask)
        output, found = made(*flat, attn_mask=None if mask is None else mask.flatten(0, 1), need_weights=weights)
    return Found(by_head(output.numpy(), heads), None if found is None else found.numpy())


@operators("torch `nn.MultiheadAttention`")
def layer_with_weights(query, key, value, *, mask=None, added=None, dropout=0.0, weights=True):
    return layer(query, key, value, added if mask is None else mask, dropout, True)


@operators("torch `nn.MultiheadAttention(need_weights=False)`")
def layer_without_weights(query, key, value, *, mask=None, added=None):
    return layer(query, key, value, added if mask is None else mask, 0.0, False)


@operators("torch `flex_attention`", grouped=True)
def flex(query, key, value, *, mask=None, logsumexp=False):
    *arrays, mask = tensors(query, key, value, mask)
    block = None
    if mask is not None:
        sizes = (*mask.shape[:2], query.shape[2], key.shape[2])
        block = create_block_mask(lambda b, h, i, j: mask[b, h, i, j], *sizes, device="cpu", BLOCK_SIZE=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it runs uncompiled
        output, beside = flex_attention(
            *arrays, block_mask=block, enable_gqa=query.shape[1] != key.shape[1], return_aux=AuxRequest(lse=True)
        )
    return Found(output.numpy(), logsumexp=beside.lse.numpy())
