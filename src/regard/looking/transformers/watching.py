"""A model of transformers run once while it is watched: what it takes, sees, decides and answers."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import torch
from transformers.utils import logging

from regard._digits import digits
from regard.errors import RegardError, UnsupportedError
from regard.models.seen import Seen
from regard.models.watch import watch


def watched(model: Any, batch: Any, gradients: bool, **options: Any) -> tuple[Seen, Any]:
    with torch.set_grad_enabled(gradients), watch(model, values=gradients) as seen:
        output = model(**batch, **options)
    if gradients:
        decision(model, output).amax(-1).sum().backward()
    return seen, output


def decision(model: Any, output: Any) -> torch.Tensor:
    """The logits of what a model decides by one position of its input, `(1, answers)`."""
    logits = getattr(output, "logits", None)
    if logits is not None and logits.ndim == 2:
        return logits
    if logits is not None and logits.ndim == 3 and is_causal(model, output):
        return logits[:, -1]
    raise undecided(model)


def undecided(model: Any) -> UnsupportedError:
    return UnsupportedError(
        "relevance: need a model that decides something by one position of its input; got "
        f"{type(model).__name__}; use --method rollout."
    )


def is_causal(model: Any, output: Any) -> bool:
    return not model.config.is_encoder_decoder and getattr(output, "past_key_values", None) is not None


def tower(model: Any, kind: str) -> Any:
    """The part that reads texts or images, of a model that reads both apart, such as CLIP; else the model."""
    towers = [getattr(model, f"{name}_model", None) for name in ("text", "vision")]
    return model if None in towers else towers[kind == "image"]


def taken(model: Any, batch: Any) -> dict[str, torch.Tensor]:
    """What the model takes of what a tokenizer makes: some make token types for models that have none."""
    known = inspect.signature(model.forward).parameters
    return {name: array.to(model.device) for name, array in batch.items() if name in known}


def answer_of(model: Any, output: Any) -> str:
    logits = getattr(output, "logits", None)
    if logits is None or logits.ndim != 2:
        return ""
    found, scale = logits[0].detach().float(), getattr(model.config, "label_scale", None)
    if not found.isfinite().all():
        raise RegardError(
            "look: need finite numbers for an answer; got NaN or infinity from the model; look at another input, or "
            "train again with a lower train.learning_rate or train.precision float32."
        )
    if scale:
        return digits(float(found[0]) * scale["deviation"] + scale["mean"])
    several = getattr(model.config, "problem_type", None) == "multi_label_classification"
    chances = found.sigmoid() if several else found.softmax(-1)
    best = int(chances.argmax())
    return f"{model.config.id2label.get(best, best)} {digits(float(chances[best]))}"


CASES = 64  # inputs that are scored at once


def decides(output: Any) -> bool:
    logits = getattr(output, "logits", None)
    return logits is not None and logits.ndim == 2


@contextlib.contextmanager
def silent() -> Any:
    """Without transformers' remarks and bars."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
