"""Unpadding encoders of transformers: the encoder's forward is called with one sequence of real tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from regard.errors import UnsupportedError
from regard.masks import Segments
from regard.models.transformers import NAME, Prepared


def _by_column(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """Positions count the columns, padding or not."""
    return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)


def _behind_padding_index(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """Positions count the tokens that are no padding, from padding_idx + 1, as RoBERTa's do."""
    padding = encoder.embeddings.padding_idx
    real = ids.ne(padding).long()
    return real.cumsum(1) * real + padding


# How a family numbers positions; what is not here is not known to come out right.
POSITIONS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "bert": _by_column,
    "electra": _by_column,
    "albert": _by_column,
    "modernbert": _by_column,
    "eurobert": _by_column,
    "roberta": _behind_padding_index,
    "xlm-roberta": _behind_padding_index,
    "camembert": _behind_padding_index,
}


def is_model(value: Any) -> bool:
    return isinstance(value, PreTrainedModel) or hasattr(value, "get_base_model")


def unpad(model: Any) -> Any:
    encoder = _encoder(model)
    family = encoder.config.model_type
    if family not in POSITIONS:
        raise UnsupportedError(
            f"unpad: need an encoder of one of the families {', '.join(POSITIONS)}; got {family}, which is not known "
            "to come out right; use it padded."
        )
    if not hasattr(encoder, "_regard_padded"):
        encoder._regard_padded = encoder.forward, encoder.config._attn_implementation
        encoder.set_attn_implementation(NAME)
        encoder.forward = functools.wraps(encoder.forward)(functools.partial(_forward, encoder))
    return model


def pad(model: Any) -> Any:
    encoder = _encoder(model)
    if hasattr(encoder, "_regard_padded"):
        _, implementation = encoder._regard_padded
        del encoder.forward, encoder._regard_padded
        encoder.set_attn_implementation(implementation)
    return model


def _encoder(model: Any) -> Any:
    """The encoder inside a head, or inside a peft model."""
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model


@dataclass(frozen=True)
class _Packing:
    """Where the real tokens of a batch `(B, T)` are, as one sequence of N."""

    places: torch.Tensor  # (N,), into B x T
    texts: torch.Tensor  # (1, N): which text each token is of
    shape: tuple[int, int]

    @property
    def square(self) -> tuple[int, int, int, int]:
        """The shape of a mask over it."""
        return (1, 1, len(self.places), len(self.places))

    def pack(self, array: torch.Tensor) -> torch.Tensor:
        """`(B, T, ...)` to `(1, N, ...)`."""
        return array.reshape(-1, *array.shape[2:])[self.places][None]

    def unpack(self, array: torch.Tensor) -> torch.Tensor:
        """`(1, N, ...)` to `(B, T, ...)`, zero where there was padding."""
        whole = array.new_zeros(self.shape[0] * self.shape[1], *array.shape[2:])
        return whole.index_copy(0, self.places, array[0]).reshape(*self.shape, *array.shape[2:])


def _packing(mask: torch.Tensor) -> _Packing:
    places = mask.reshape(-1).nonzero()[:, 0]
    return _Packing(places, (places // mask.shape[1])[None], (mask.shape[0], mask.shape[1]))


_AS_BEFORE = ("inputs_embeds", "past_key_values", "encoder_hidden_states", "output_attentions")


def _forward(
    encoder: Any, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, **inputs: Any
) -> Any:
    padded = encoder._regard_padded[0]
    if (
        input_ids is None
        or attention_mask is None
        or attention_mask.ndim != 2
        or any(inputs.get(name) is not None and inputs[name] is not False for name in _AS_BEFORE)
        or bool(attention_mask.all())
    ):
        return padded(input_ids, attention_mask=attention_mask, **inputs)
    packing = _packing(attention_mask)
    positions = inputs.pop("position_ids", None)
    if positions is None:
        positions = POSITIONS[encoder.config.model_type](encoder, input_ids)
    packed = {
        name: packing.pack(value) if isinstance(value, torch.Tensor) and value.shape == input_ids.shape else value
        for name, value in inputs.items()
    }
    as_tuple = packed.pop("return_dict", None) is False
    outputs = padded(
        packing.pack(input_ids),
        attention_mask=Prepared(Segments(), (packing.texts, packing.texts), packing.square),
        position_ids=packing.pack(positions.expand_as(input_ids)),
        **packed,
    )
    outputs.last_hidden_state = packing.unpack(outputs.last_hidden_state)
    if getattr(outputs, "hidden_states", None) is not None:
        outputs.hidden_states = tuple(packing.unpack(each) for each in outputs.hidden_states)
    if getattr(outputs, "pooler_output", None) is not None:
        outputs.pooler_output = _pooled(encoder, outputs.last_hidden_state)
    return outputs.to_tuple() if as_tuple else outputs


def _pooled(encoder: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What the encoder pools from the first token of each text; it saw the first of all texts only."""
    if encoder.config.model_type == "albert":
        return encoder.pooler_activation(encoder.pooler(hidden[:, 0]))
    return encoder.pooler(hidden)
