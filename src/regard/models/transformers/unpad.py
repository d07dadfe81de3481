"""Unpadding encoders of transformers: the encoder's forward is called with one sequence of real tokens.

A masked language model is called so as a whole: its head would take longer than its encoder.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from regard.errors import UnsupportedError
from regard.models.torch import being_watched
from regard.models.transformers.heads import IGNORED, OF_ENCODER_DECODERS, OF_ENCODERS, Rule, always, guesses, rule
from regard.models.transformers.packed import NAME, Packed, Packing


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

BY_DISTANCE = (*RELATIVE, "modernbert")
"""Families whose attention counts tokens between two, which has to be the columns."""

_PADDED = "regard_padded"
"""By this input a head asks its encoder to compute padding, too."""

_OWN_SCORES = ("deberta", "deberta-v2")


def is_model(value: Any) -> bool:
    return isinstance(value, PreTrainedModel) or hasattr(value, "get_base_model")


@dataclass
class _Before:
    """A module's forward as it was, the names of what it takes, and whether the module had it as its own."""

    forward: Callable[..., Any]
    names: tuple[str, ...]
    own: bool

    @classmethod
    def replace(cls, module: Any, ours: Callable[..., Any], *given: Any) -> _Before:
        known = inspect.signature(type(module).forward).parameters.values()
        names = tuple(each.name for each in known if each.kind is each.POSITIONAL_OR_KEYWORD)[1:]
        before = cls(module.forward, names, "forward" in vars(module))
        module.forward = functools.wraps(before.forward)(functools.partial(ours, module, *given))
        return before

    def restore(self, module: Any) -> None:
        del module.forward
        if self.own:
            module.forward = self.forward

    def named(self, args: tuple, inputs: dict[str, Any]) -> dict[str, Any]:
        """All inputs by name."""
        given = dict(zip(self.names, args, strict=False))
        if len(given) < len(args) or not given.keys().isdisjoint(inputs):
            self.forward(*args, **inputs)  # which says what is wrong
        return {**given, **inputs}


def unpad(model: Any, logits: Literal["all", "labelled"] = "all") -> Any:
    encoder, whole = _encoder(model), _base(model)
    _require_family(encoder)
    reads = _reads(whole, encoder)
    if reads is None:  # a head that needs padding
        return pad(model)
    if not is_unpadded(model):
        encoder._regard_padded = encoder.config, encoder.config._attn_implementation
        if encoder.config.is_encoder_decoder:
            _use_config(encoder, copy.copy(encoder.config))  # the decoder's attention stays what it is
        encoder.set_attn_implementation(NAME)
        encoder._regard_before = _Before.replace(encoder, _forward)
        for attention in _relative(encoder):
            attention.compute_bias = functools.partial(_bias_by_distance, attention)
    if whole is not encoder and reads is not always:
        if not hasattr(whole, "_regard_before"):
            whole._regard_before = _Before.replace(whole, _head, encoder)
        whole._regard_reads, whole._regard_logits = reads, logits if guesses(whole) else None
    return model


def pad(model: Any) -> Any:
    encoder, whole = _encoder(model), _base(model)
    for module in {id(each): each for each in (whole, encoder) if hasattr(each, "_regard_before")}.values():
        module._regard_before.restore(module)
        for name in ("_regard_before", "_regard_reads", "_regard_logits"):
            vars(module).pop(name, None)
    if is_unpadded(model):
        config, implementation = encoder._regard_padded
        del encoder._regard_padded
        _use_config(encoder, config)
        encoder.set_attn_implementation(implementation)
        for attention in _relative(encoder):
            del attention.compute_bias
    return model


def is_unpadded(model: Any) -> bool:
    return hasattr(_encoder(model), "_regard_padded")


def _base(model: Any) -> Any:
    """The model inside a peft model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _encoder(model: Any) -> Any:
    """The encoder inside a head, an encoder-decoder or a peft model; or what is there instead."""
    base = _base(model).base_model
    return getattr(base, "encoder", base) if base.config.model_type in (*COUNTING, *RELATIVE) else base


def _reads(whole: Any, encoder: Any) -> Rule | None:
    if whole is encoder:
        return always
    return rule(whole, OF_ENCODERS if whole.config.model_type in POSITIONS else OF_ENCODER_DECODERS)


def _require_family(encoder: Any) -> None:
    family = encoder.config.model_type
    if family in (*COUNTING, *RELATIVE) and encoder.config.is_decoder:
        raise UnsupportedError(
            f"unpad: need a model with an encoder; got {type(encoder).__name__}, a decoder of {family}; use it as it "
            "is."
        )
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


_AS_BEFORE = ("inputs_embeds", "past_key_values", "encoder_hidden_states")
_IN_CONFIG = ("output_attentions", "is_causal")
"""Likewise, unless the call says otherwise than the configuration."""


def _as_before(encoder: Any, inputs: dict[str, Any]) -> bool:
    """Whether a call has to run padded, whatever its mask."""
    ids, mask, config = inputs.get("input_ids"), inputs.get("attention_mask"), encoder.config
    return (
        not isinstance(ids, torch.Tensor)
        or not isinstance(mask, torch.Tensor)
        or mask.ndim != 2
        or mask.shape != ids.shape
        or any(inputs.get(name) is not None for name in _AS_BEFORE)
        or any(inputs.get(name, getattr(config, name, None)) for name in _IN_CONFIG)
        or bool(getattr(config, "is_decoder", False))
        or bool(getattr(config, "chunk_size_feed_forward", 0))  # which has to divide the length
        or config._attn_implementation != NAME
        or being_watched()
    )


def _needs_padding(encoder: Any, mask: torch.Tensor) -> bool:
    """Whether what comes from this encoder is read at padding, or depends on where that is."""
    real = mask != 0
    if getattr(encoder, "pooler", None) is not None:  # it pools the first column
        return not bool(real[:, 0].all())
    family = encoder.config.model_type
    if family in BY_DISTANCE and bool(((real[:, 1:] > real[:, :-1]).sum(1) + real[:, 0].long() > 1).any()):
        return True  # padding inside a text
    texts = real.any(1)
    return not bool(texts.all() if family in (*COUNTING, *RELATIVE) else texts.any())  # decoders read empty ones


def _forward(encoder: Any, *args: Any, **options: Any) -> Any:
    before: _Before = encoder._regard_before
    inputs = before.named(args, options)
    told = inputs.pop(_PADDED, False)
    mask: Any = inputs.get("attention_mask")
    _follow(encoder)
    if isinstance(mask, Packed):  # by the head
        outputs = before.forward(**inputs)
        if mask.wanted is not None:
            outputs.last_hidden_state = outputs.last_hidden_state[:, mask.wanted]
        return outputs
    if told or _as_before(encoder, inputs) or bool(mask.all()) or _needs_padding(encoder, mask):
        return before.forward(**_asking(encoder, inputs))
    as_tuple = inputs.pop("return_dict", encoder.config.return_dict) is False
    packing = Packing.of(mask)
    with _packed(encoder, packing, inputs) as packed:
        outputs = before.forward(**packed, return_dict=True)
    outputs.last_hidden_state = packing.unpack(outputs.last_hidden_state)
    _unpack_states(outputs, packing)
    if getattr(outputs, "pooler_output", None) is not None:
        outputs.pooler_output = _pooled(encoder, outputs.last_hidden_state)
    return outputs.to_tuple() if as_tuple else outputs


def _follow(encoder: Any) -> None:
    """Let an encoder with a configuration of its own know what has changed in its model's."""
    config = encoder._regard_padded[0]
    if config is not encoder.config:
        own = encoder.config._attn_implementation_internal
        vars(encoder.config).update(vars(config), _attn_implementation_internal=own)


def _asking(encoder: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs that say themselves that weights are asked for, as our attention wants to hear it."""
    if encoder.config._attn_implementation == NAME and getattr(encoder.config, "output_attentions", False):
        return {"output_attentions": True, **inputs}
    return inputs


def _head(model: Any, encoder: Any, *args: Any, **options: Any) -> Any:
    """A head whose encoder leaves padding out, where the head does not need it."""
    before: _Before = model._regard_before
    inputs = before.named(args, options)
    mask = inputs.get("attention_mask")
    if not hasattr(encoder, "_regard_padded") or not isinstance(mask, torch.Tensor):
        return before.forward(**inputs)
    if not model._regard_reads(model, mask, inputs):
        return before.forward(**inputs, **{_PADDED: True})
    few = model._regard_logits == "labelled" and inputs.get("labels") is not None
    if (
        model._regard_logits is None
        or _as_before(encoder, inputs)
        or getattr(model, "sparse_prediction", False)  # ModernBERT's own way to the same
        or _needs_padding(encoder, mask)
        or (not few and bool(mask.all()))
    ):
        return before.forward(**inputs)
    return _guess(model, encoder, inputs, few)


def _guess(model: Any, encoder: Any, inputs: dict[str, Any], few: bool) -> Any:
    """A masked language model on real tokens only, or its head on those alone that have a label."""
    as_tuple = inputs.pop("return_dict", None)
    as_tuple = not (model.config.return_dict if as_tuple is None else as_tuple)
    packing = Packing.of(inputs["attention_mask"])
    with _packed(encoder, packing, inputs) as packed:
        if few:
            wanted = _labelled(packed["labels"][0], packing)
            packed["attention_mask"] = replace(packed["attention_mask"], wanted=wanted)
            packed["labels"] = packed["labels"][:, wanted]
        outputs = model._regard_before.forward(**packed, return_dict=True)
    outputs.logits = outputs.logits[0] if few else packing.unpack(outputs.logits)
    _unpack_states(outputs, packing)
    return outputs.to_tuple() if as_tuple else outputs


_SHARED = ("token_type_ids", "position_ids")
"""What may be given once for all texts."""


def _labelled(labels: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Which tokens of the sequence have a label, in the order of the batch."""
    found = labels.ne(IGNORED).nonzero()[:, 0]
    return found[packing.places[found].argsort()]


@contextmanager
def _packed(encoder: Any, packing: Packing, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Inputs of real tokens alone; each token has the position that it has in its own text."""
    ids, packed = inputs["input_ids"], dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and (name in _SHARED or value.shape == ids.shape):
            packed[name] = packing.pack(value.expand_as(ids))
    packed["attention_mask"] = Packed.of(packing)
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
        states = (None if each is None else packing.unpack(each) for each in outputs.hidden_states)  # some, if chosen
        outputs.hidden_states = tuple(states)


def _pooled(encoder: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What the encoder pools from the first token of each text; it saw the first of all texts only."""
    if encoder.config.model_type == "albert":
        return encoder.pooler_activation(encoder.pooler(hidden[:, 0]))
    return encoder.pooler(hidden)
