"""What heads of transformers read of their encoder's states, which decides what calls can leave padding out.

Left out, padding has states of zero. The padded model has numbers there, since a token of padding sees the real ones;
so a head that reads them, as the first column of texts padded on the left, needs its encoder to compute them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto as auto

IGNORED = -100
"""The label of a token that does not count in a loss, in transformers as in PyTorch."""

Rule = Callable[[Any, torch.Tensor, dict[str, Any]], bool]
"""Whether a head, in a call with this mask and these inputs, reads nothing at padding."""


def always(model: Any, mask: torch.Tensor, inputs: dict[str, Any]) -> bool:
    """What reads nothing at padding; or what the encoder pools, which decides by itself."""
    return True


def token_by_token(model: Any, mask: torch.Tensor, inputs: dict[str, Any]) -> bool:
    """Each token is read by itself, so a label counts where it is; ELECTRA's discriminator leaves padding out."""
    labels = inputs.get("labels")
    if labels is None or hasattr(model, "discriminator_predictions"):
        return True
    return labels.shape == mask.shape and not bool(labels[mask == 0].ne(IGNORED).any())


def pooled(model: Any, mask: torch.Tensor, inputs: dict[str, Any]) -> bool:
    """One vector is read for each text: the first column's, or the mean over its tokens."""
    pooling = getattr(model, "classifier_pooling", getattr(model.config, "classifier_pooling", "cls"))
    if pooling in ("mean", "late"):
        return bool((mask != 0).any(-1).all())
    summary = getattr(getattr(model, "sequence_summary", None), "summary_type", "first")
    return pooling in ("cls", "bos") and summary == "first" and bool((mask[..., 0] != 0).all())


# Question answering is in neither table of encoders' heads: it normalises over all columns. Nor are language models
# that guess the next token, which the last column of padding on the left does, too.
OF_ENCODERS: tuple[tuple[Any, Rule], ...] = (
    (auto.MODEL_MAPPING, always),
    (auto.MODEL_FOR_MASKED_LM_MAPPING, token_by_token),
    (auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, token_by_token),
    (auto.MODEL_FOR_PRETRAINING_MAPPING, token_by_token),
    (auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, pooled),
    (auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING, pooled),
    (auto.MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING, pooled),
)
OF_ENCODER_DECODERS: tuple[tuple[Any, Rule], ...] = (
    (auto.MODEL_MAPPING, always),
    (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, always),
    (auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, always),
    (auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING, always),
    (auto.MODEL_FOR_TEXT_ENCODING_MAPPING, always),
    (auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, token_by_token),
)
"""Heads on a decoder, which sees the encoder's states with their mask; and two families' heads on the encoder."""


def rule(model: Any, of: tuple[tuple[Any, Rule], ...]) -> Rule | None:
    """What a head reads; None if that is not known, or always includes padding."""
    config = CONFIG_MAPPING[model.config.model_type]
    for mapping, found in of:
        known = mapping.get(config, None)
        if known is not None and type(model).forward is known.forward:  # a class of yours may have its own
            return found
    return None


def guesses(model: Any) -> bool:
    """Whether a model is an encoder that guesses tokens, with a head that looks at each by itself."""
    return rule(model, ((auto.MODEL_FOR_MASKED_LM_MAPPING, token_by_token),)) is not None
