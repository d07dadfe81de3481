"""A model of transformers shown a text: what it attends to while it reads, and while it writes."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from regard.errors import DataError, UnsupportedError
from regard.looking.looked import Looked
from regard.looking.tokens import readable
from regard.looking.transformers.watching import (
    CASES,
    answer_of,
    decides,
    is_causal,
    silent,
    taken,
    tower,
    undecided,
    watched,
)
from regard.models.seen import Seen


def read(model: Any, processor: Any, text: str, gradients: bool = False) -> Looked:
    """Shows a model a text; see `look`."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if not callable(getattr(tokenizer, "convert_ids_to_tokens", None)):
        raise DataError("look: need the file of a picture or a sound for this model; got a text; name the file.")
    model = tower(model, "text")
    if gradients and model.config.is_encoder_decoder:
        raise undecided(model)
    text = f"{getattr(model.config, 'prefix', None) or ''}{text}"
    most = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 10**9))
    whole = tokenizer(text, verbose=False)["input_ids"]
    batch = taken(model, tokenizer(text, return_tensors="pt", truncation=True, max_length=most, verbose=False))
    options, written = {}, None
    if model.config.is_encoder_decoder and model.can_generate():
        written = _write(model, batch)
        options["decoder_input_ids"] = written[:, :-1]
    seen, output = watched(model, batch, gradients, **options)
    length = batch["input_ids"].shape[1]
    return Looked(
        "text",
        readable(tokenizer, batch["input_ids"][0].tolist()),
        _reading(seen).over(length),
        answer_of(model, output) if written is None else tokenizer.decode(written[0], skip_special_tokens=True).strip(),
        -1 if is_causal(model, output) else 0,
        max(len(whole) - length, 0),
        score=_score_without_tokens(model, batch, output) if decides(output) else None,
        removable=~np.isin(batch["input_ids"][0].numpy(force=True), tokenizer.all_special_ids),
        written=[] if written is None else readable(tokenizer, written[0, 1:].tolist()),
        across=None if written is None else across(seen),
    )


def _write(model: Any, batch: Any) -> torch.Tensor:
    """What a decoder writes, `(1, T + 1)`, what it begins with included."""
    with torch.no_grad(), silent():
        return model.generate(**batch)


_DECODER, _ACROSS = "*decoder.*", ("*encoder_attn*", "*EncDecAttention*", "*crossattention*")


def _reading(seen: Seen) -> Seen:
    """Those of the part that reads, where there is one that writes."""
    read = [name for name in seen.names if not fnmatch.fnmatchcase(name, _DECODER)]
    return seen.only("*encoder.*") if 0 < len(read) < len(seen) else seen


def across(seen: Seen) -> Seen:
    """Those of a decoder to what was read."""
    fitting = [pattern for pattern in _ACROSS if fnmatch.filter(seen.names, pattern)]
    if not fitting:
        raise UnsupportedError(f"look: need a decoder that attends to what was read; saw {seen!r}.")
    return seen.only(fitting[0])


def _score_without_tokens(model: Any, batch: Any, output: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of what was decided, where tokens that are not kept are hidden from all others."""
    decided = int(output.logits[0].argmax())

    def score(kept: np.ndarray) -> np.ndarray:
        mask = torch.tensor(kept, dtype=torch.long, device=model.device)
        found = []
        with torch.no_grad():
            for some in mask.split(CASES):
                inputs = {name: array.expand(len(some), -1) for name, array in batch.items()}
                found.append(model(**{**inputs, "attention_mask": some}).logits.softmax(-1)[:, decided])
        return torch.cat(found).float().cpu().numpy()

    return score
