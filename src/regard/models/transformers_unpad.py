"""Unpadding encoders of transformers: the encoder's forward is called with one sequence of real tokens.

A masked language model is called so as a whole: its head would take longer than its encoder.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedModel

from regard.errors import UnsupportedError
from regard.models.torch import being_watched
from regard.models.transformers_packed import NAME, Packed, Packing


def _by_column(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """Positions count the columns, padding or not."""
    return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)


def _behind_padding_index(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """Positions count the tokens that are no padding, from padding_idx + 1, as RoBERTa's do."""
    padding = encoder.embeddings.padding_idx
    real = ids.ne(padding).long()
    return real.cumsum(1) * real + padding


# How a family numbers positions where its encoder takes `position_ids`; what is nowhere here is not known to come out
# right.
POSITIONS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "bert": _by_column,
    "electra": _by_column,
    "albert": _by_column,
    "distilbert": _by_column,
    "modernbert": _by_column,
    "eurobert": _by_column,
    "roberta": _behind_padding_index,
    "xlm-roberta": _behind_padding_index,
    "camembert": _behind_padding_index,
}
COUNTING = ("bart", "mbart", "marian", "pegasus")
"""Encoders of encoder-decoders that count columns in `embed_positions`, which has to be told otherwise."""
RELATIVE = ("t5", "mt5")
"""Encoders that know distances alone."""
FAMILIES = (*POSITIONS, *COUNTING, *RELATIVE)

IGNORED = -100
"""The label of a token that does not count in a loss, in transformers as in PyTorch."""

_OWN_SCORES = ("deberta", "deberta-v2")


def is_model(value: Any) -> bool:
    return isinstance(value, PreTrainedModel) or hasattr(value, "get_base_model")


def unpad(model: Any, logits: Literal["all", "labelled"] = "all") -> Any:
    encoder, whole = _encoder(model), _base(model)
    _require_family(encoder)
    if not hasattr(encoder, "_regard_padded"):
        encoder._regard_padded = encoder.forward, encoder.config, encoder.config._attn_implementation
        if encoder.config.is_encoder_decoder:
            _use_config(encoder, copy.copy(encoder.config))  # the decoder's attention stays what it is
        encoder.set_attn_implementation(NAME)
        encoder.forward = functools.wraps(encoder.forward)(functools.partial(_forward, encoder))
        for attention in _relative(encoder):
            attention.compute_bias = functools.partial(_bias_by_distance, attention)
    if _guesses(whole):
        if not hasattr(whole, "_regard_padded_head"):
            whole._regard_padded_head = whole.forward
            whole.forward = functools.wraps(whole.forward)(functools.partial(_guess, whole, encoder))
        whole._regard_logits = logits
    return model


def pad(model: Any) -> Any:
    encoder, whole = _encoder(model), _base(model)
    if hasattr(whole, "_regard_padded_head"):
        del whole.forward, whole._regard_padded_head, whole._regard_logits
    if hasattr(encoder, "_regard_padded"):
        _, config, implementation = encoder._regard_padded
        del encoder.forward, encoder._regard_padded
        _use_config(encoder, config)
        encoder.set_attn_implementation(implementation)
        for attention in _relative(encoder):
            del attention.compute_bias
    return model


def _base(model: Any) -> Any:
    """The model inside a peft model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _guesses(model: Any) -> bool:
    """Whether a model is one of the encoders that guess tokens, with a head that looks at each by itself."""
    return model.config.model_type in POSITIONS and type(model) in MODEL_FOR_MASKED_LM_MAPPING.values()


def _encoder(model: Any) -> Any:
    """The encoder inside a head, an encoder-decoder or a peft model."""
    base = _base(model).base_model
    return base.encoder if base.config.model_type in (*COUNTING, *RELATIVE) else base


def _require_family(encoder: Any) -> None:
    family = encoder.config.model_type
    if family in FAMILIES:
        return
    if encoder.main_input_name == "pixel_values" or family == "whisper":
        raise UnsupportedError(
            f"unpad: need a model of texts; got {family}, whose inputs all have one length and no padding; use it as "
            "it is."
        )
    if family in _OWN_SCORES:
        raise UnsupportedError(
            f"unpad: need an encoder with attention of PyTorch's; got {family}, whose relative scores need every text "
            "in a row of its own; use it padded, with texts of like length in a batch."
        )
    raise UnsupportedError(
        f"unpad: need an encoder of one of the families {', '.join(FAMILIES)}; got {family}, which is not known "
        "to come out right; use it padded."
    )


def _use_config(encoder: Any, config: Any) -> None:
    before = encoder.config
    for module in encoder.modules():
        if getattr(module, "config", None) is before:
            module.config = config


def _relative(encoder: Any) -> list[Any]:
    return [module for module in encoder.modules() if getattr(module, "has_relative_attention_bias", False)]


def _bias_by_distance(attention: Any, queries: int, keys: int, device: Any = None, **options: Any) -> torch.Tensor:
    """T5's bias for each distance between two of n tokens, `(1, H, 1, 2 n - 1)`, instead of for each two of them."""
    compute = functools.partial(type(attention).compute_bias, attention)
    if attention.config._attn_implementation != NAME:
        return compute(queries, keys, device=device, **options)
    return compute(1, 2 * keys - 1, device=device, past_seen_tokens=keys - 1)


_AS_BEFORE = ("inputs_embeds", "past_key_values", "encoder_hidden_states", "output_attentions")


def _as_before(encoder: Any, ids: Any, mask: Any, inputs: dict[str, Any]) -> bool:
    """Whether a call has to run padded."""
    return (
        ids is None
        or mask is None
        or mask.ndim != 2
        or any(inputs.get(name) is not None and inputs[name] is not False for name in _AS_BEFORE)
        or getattr(encoder.config, "is_decoder", False)
        or encoder.config._attn_implementation != NAME
        or being_watched()
    )


def _forward(encoder: Any, input_ids: Any = None, attention_mask: Any = None, **inputs: Any) -> Any:
    padded = encoder._regard_padded[0]
    if isinstance(attention_mask, Packed):  # by the head
        outputs = padded(input_ids, attention_mask=attention_mask, **inputs)
        if attention_mask.wanted is not None:
            outputs.last_hidden_state = outputs.last_hidden_state[:, attention_mask.wanted]
        return outputs
    if _as_before(encoder, input_ids, attention_mask, inputs) or bool(attention_mask.all()):
        return padded(input_ids, attention_mask=attention_mask, **inputs)
    packing = Packing.of(attention_mask)
    as_tuple = inputs.pop("return_dict", None) is False
    with _packed(encoder, input_ids, packing, inputs) as packed:
        outputs = padded(packing.pack(input_ids), attention_mask=Packed.of(packing), **packed)
    outputs.last_hidden_state = packing.unpack(outputs.last_hidden_state)
    _unpack_states(outputs, packing)
    if getattr(outputs, "pooler_output", None) is not None:
        outputs.pooler_output = _pooled(encoder, outputs.last_hidden_state)
    return outputs.to_tuple() if as_tuple else outputs


def _guess(
    model: Any, encoder: Any, input_ids: Any = None, attention_mask: Any = None, *, labels: Any = None, **inputs: Any
) -> Any:
    """A masked language model on real tokens only, or its head on those alone that have a label."""
    padded, few = model._regard_padded_head, labels is not None and model._regard_logits == "labelled"
    if (
        _as_before(encoder, input_ids, attention_mask, inputs)
        or getattr(model.config, "sparse_prediction", False)  # ModernBERT's own way to the same
        or (labels is not None and bool(labels[attention_mask == 0].ne(IGNORED).any()))
        or (not few and bool(attention_mask.all()))
    ):
        return padded(input_ids, attention_mask=attention_mask, labels=labels, **inputs)
    packing = Packing.of(attention_mask)
    mask = Packed.of(packing)
    as_tuple = inputs.pop("return_dict", None) is False
    labels = None if labels is None else packing.pack(labels)
    if few:
        mask = replace(mask, wanted=_labelled(labels[0], packing))
        labels = labels[:, mask.wanted]
    with _packed(encoder, input_ids, packing, inputs) as packed:
        outputs = padded(packing.pack(input_ids), attention_mask=mask, labels=labels, **packed)
    outputs.logits = outputs.logits[0] if few else packing.unpack(outputs.logits)
    _unpack_states(outputs, packing)
    return outputs.to_tuple() if as_tuple else outputs


def _labelled(labels: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Which tokens of the sequence have a label, in the order of the batch."""
    found = labels.ne(IGNORED).nonzero()[:, 0]
    return found[packing.places[found].argsort()]


@contextmanager
def _packed(encoder: Any, ids: torch.Tensor, packing: Packing, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What an encoder is given beside ids and mask; each token has the position that it has in its own text."""
    packed = {
        name: packing.pack(value) if isinstance(value, torch.Tensor) and value.shape == ids.shape else value
        for name, value in inputs.items()
    }
    family = encoder.config.model_type
    if family in POSITIONS and packed.get("position_ids") is None:
        packed["position_ids"] = packing.pack(POSITIONS[family](encoder, ids))
    if family not in COUNTING:
        yield packed
        return
    positions = packing.pack(_by_column(encoder, ids))[0]
    hook = encoder.embed_positions.register_forward_pre_hook(
        lambda module, inputs, options: (inputs, {**options, "position_ids": positions}), with_kwargs=True
    )
    try:
        yield packed
    finally:
        hook.remove()


def _unpack_states(outputs: Any, packing: Packing) -> None:
    if getattr(outputs, "hidden_states", None) is not None:
        outputs.hidden_states = tuple(packing.unpack(each) for each in outputs.hidden_states)


def _pooled(encoder: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What the encoder pools from the first token of each text; it saw the first of all texts only."""
    if encoder.config.model_type == "albert":
        return encoder.pooler_activation(encoder.pooler(hidden[:, 0]))
    return encoder.pooler(hidden)
