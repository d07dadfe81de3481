"""transformers: attention functions of its families, and windows of small models."""

import types

import torch
import transformers
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.bert import modeling_bert
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama import modeling_llama

from operators import Found, Operators, heads_last
from operators.of_torch import tensors

operators = Operators()
LIBRARIES = ("transformers", "torch")
SMALL = {
    "vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1,
    "sep_token_id": 2, "attn_implementation": "eager",
}  # fmt: skip


def function(attend, query, key, value, mask, dropout=0.0, sinks=None, **call):
    module = types.SimpleNamespace(
        num_key_value_groups=query.shape[1] // key.shape[1], training=dropout > 0, is_causal=False,
        sinks=None if sinks is None else torch.from_numpy(sinks),
    )  # fmt: skip
    *arrays, mask = tensors(query, key, value, mask)
    output, weights = attend(module, *arrays, mask, scaling=query.shape[-1] ** -0.5, dropout=dropout, **call)
    return Found(heads_last(output.numpy()), None if weights is None else weights.numpy())


@operators("transformers `eager` (Llama)", grouped=True, scaled=False)
def llama(query, key, value, *, mask=None, added=None, dropout=0.0, weights=True):
    return function(modeling_llama.eager_attention_forward, query, key, value, added if mask is None else mask, dropout)


@operators("transformers `eager` (BERT)", scaled=False)
def bert(query, key, value, *, mask=None, added=None, dropout=0.0, weights=True):
    return function(modeling_bert.eager_attention_forward, query, key, value, added if mask is None else mask, dropout)


@operators("transformers `eager` (Gemma 2)", grouped=True, scaled=False)
def gemma(query, key, value, *, mask=None, added=None, softcap=None, dropout=0.0, weights=True):
    mask = added if mask is None else mask
    return function(modeling_gemma2.eager_attention_forward, query, key, value, mask, dropout, softcap=softcap)


@operators("transformers `eager` (gpt-oss)", grouped=True, scaled=False)
def gpt_oss(query, key, value, *, added=None, sinks=None, dropout=0.0, weights=True):
    if sinks is None:
        sinks = torch.full((query.shape[1],), -torch.inf).numpy()
    return function(modeling_gpt_oss.eager_attention_forward, query, key, value, added, dropout, sinks=sinks)


@operators("transformers `sdpa`", grouped=True, scaled=False)
def sdpa(query, key, value, *, mask=None, added=None, causal=False):
    return function(sdpa_attention_forward, query, key, value, added if mask is None else mask, is_causal=causal)


def windowed(model, query):
    """What the positions of a model see in its first layer with a window."""
    with torch.no_grad():
        found = model.eval()(torch.full((1, query.shape[2]), 3), output_attentions=True).attentions
    return Found(weights=found[0].numpy())


@operators("transformers `sliding_window` (Mistral)", alone=True, scaled=False)
def mistral(query, key, value, *, window=None):
    return windowed(transformers.MistralModel(transformers.MistralConfig(**SMALL, sliding_window=window)), query)


@operators("transformers `local_attention` (ModernBERT)", alone=True, scaled=False)
def modernbert(query, key, value, *, window=None):
    config = transformers.ModernBertConfig(
        **SMALL, local_attention=window, layer_types=["sliding_attention", "full_attention"]
    )
    return windowed(transformers.ModernBertModel(config), query)


@operators("transformers `sliding_window` (Gemma 3 in both directions)", alone=True, scaled=False)
def gemma3(query, key, value, *, window=None):
    config = transformers.Gemma3TextConfig(
        **SMALL, head_dim=8, sliding_window=window, use_bidirectional_attention=True,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    return windowed(transformers.Gemma3TextModel(config), query)
