"""x-transformers."""

import torch
from x_transformers.attend import Attend

from operators import Found, Operators
from operators.of_torch import tensors

operators = Operators()
LIBRARIES = ("x-transformers", "torch")


@operators("x-transformers `Attend`", grouped=True)
def plain(
    query, key, value, *, mask=None, added=None, causal=False, softcap=None, sinks=None, dropout=0.0, weights=True
):
    clamp = {} if softcap is None else {"softclamp_logits": True, "logit_softclamp_value": softcap}
    made = Attend(
        heads=query.shape[1], causal=causal, dropout=dropout, head_learned_sink=sinks is not None, **clamp
    ).train(dropout > 0)
    *arrays, mask, added = tensors(query, key, value, mask, added)
    with torch.no_grad():
        if sinks is not None:
            made.head_attn_sink.copy_(torch.from_numpy(sinks))
        output, beside = made(*arrays, mask=mask, attn_bias=added)
    return Found(output.numpy(), beside.post_softmax_attn.numpy())


@operators("x-transformers `Attend(flash=True)`", grouped=True)
def flash(query, key, value, *, mask=None, added=None, causal=False):
    *arrays, mask, added = tensors(query, key, value, mask, added)
    with torch.no_grad():
        output, _ = Attend(heads=query.shape[1], causal=causal, flash=True).eval()(*arrays, mask=mask, attn_bias=added)
    return Found(output.numpy())
