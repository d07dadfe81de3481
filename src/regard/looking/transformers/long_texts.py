"""A model of transformers shown a long text: once, or in pieces, and what a decoder writes behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from regard import masks
from regard._problem import Problem
from regard.errors import DataError, UnsupportedError
from regard.looking.tokens import readable
from regard.looking.transformers.watching import silent, taken, tower, watched
from regard.models.seen import Seen
from regard.weights import AttentionWeights

MOST = 100_000
"""Tokens of one text."""


@dataclass(frozen=True)
class Text:
    """A text as a model read it.

    Attributes:
        tokens: as the tokenizer writes them.
        spans: where each stands in the text, `(n, 2)`, (0, 0) where it stands nowhere.
        special: the numbers of special tokens.
        seen: the self-attentions over all of them; of each piece, where their rules do not go together.
        pieces: where pieces begin that were read apart.
        written: how many tokens at the end the model wrote.
        ids: of the tokens.
    """

    tokens: list[str]
    spans: np.ndarray
    special: list[int]
    seen: list[Seen]
    pieces: list[int]
    written: int
    ids: list[int]


def read_whole(
    model: Any, processor: Any, text: str, window: int | None = None, generate: int = 0,
    told: Callable[[str, int], None] | None = None, is_complete: bool = False,
) -> Text:  # fmt: skip
    """Show a model a text once, or in pieces of `window` tokens, and let a decoder go on for `generate` tokens.

    `told` is called before each step: what is done, such as "reading", and with how many tokens. A text that
    `is_complete` has its special tokens in it, as a chat template writes them.

    Raises:
        DataError: The text is empty or longer than the model reads, or than 100,000 tokens.
        UnsupportedError: The model does not write, or no attention over the text can be seen.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    model = tower(model, "text")
    ids, spans = _encoded(tokenizer, text, is_complete)
    known = getattr(model.config, "max_position_embeddings", None) or 0  # XLNet says -1: as many as there are
    limit = int(min(tokenizer.model_max_length, known if known > 0 else 10**9))
    read = len(ids)
    _require_length(read, limit, window)
    if generate:
        if window is not None:
            raise DataError("--generate: need a text that is read at once; got --window; leave one of them out.")
        ids = _continued(model, ids, min(generate, limit - read), told)
    spans = np.concatenate([spans, np.zeros((len(ids) - read, 2), int)])
    pieces = list(range(0, len(ids), min(window or len(ids), limit)))
    if told:
        told("reading", len(ids))
    seen = _read(model, tokenizer, ids, pieces)
    special = [place for place, number in enumerate(ids) if number in tokenizer.all_special_ids]
    tokens = [
        _as_written(token, text[start:stop], tokenizer, number)
        for token, number, (start, stop) in zip(readable(tokenizer, ids), ids, spans, strict=True)
    ]
    return Text(tokens, spans, special, seen, pieces, len(ids) - read, ids)


def _as_written(token: str, part: str, tokenizer: Any, number: int) -> str:
    """A token by its part of the text, which some tokenizers write otherwise; the mark before it stays."""
    if token != tokenizer.convert_ids_to_tokens(number):
        return token  # of bytes
    mark = next((mark for mark in ("##", "Ġ", "▁") if token.startswith(mark) and len(token) > len(mark)), "")
    if part:
        return mark + part.removeprefix(" ") if mark else part
    if number in tokenizer.all_special_ids or not token:
        return token
    return mark + tokenizer.decode([number]).removeprefix(" ")


def _encoded(tokenizer: Any, text: str, is_complete: bool) -> tuple[list[int], np.ndarray]:
    """Numbers of tokens, and where they stand."""
    if not callable(getattr(tokenizer, "convert_ids_to_tokens", None)):
        raise DataError("explore: need the file of a picture or a sound for this model; got a text; name the file.")
    fast = bool(getattr(tokenizer, "is_fast", False))
    found = tokenizer(text, verbose=False, return_offsets_mapping=fast, add_special_tokens=not is_complete)
    ids = list(found["input_ids"])
    return ids, np.array(found["offset_mapping"]) if fast and ids else np.zeros((len(ids), 2), int)


def _require_length(length: int, limit: int, window: int | None) -> None:
    if not length:
        raise DataError("explore: need a text with tokens in it; got none; write some.")
    if length > MOST:
        raise DataError(f"explore: need at most {MOST:,} tokens; got {length:,}; cut the text.")
    if window is not None and not 1 < window <= limit:
        raise DataError(f"--window: need 2 to {limit:,} tokens, which the model reads at once; got {window:,}.")
    if window is None and length > limit:
        raise DataError(
            f"explore: need at most {limit:,} tokens, which the model reads at once; got {length:,}; say --window "
            f"{min(limit, 512)} to read it in pieces, or cut it."
        )


def _continued(model: Any, ids: list[int], most: int, told: Callable[[str, int], None] | None) -> list[int]:
    """The same with what a decoder writes behind it."""
    if model.config.is_encoder_decoder or not model.can_generate():
        raise UnsupportedError(
            f"--generate: need a model that goes on with a text; got {type(model).__name__}; leave it out."
        )
    if most < 1:
        return ids
    given = torch.tensor([ids], device=model.device)
    if told:
        told("writing behind", len(ids))
    with torch.no_grad(), silent():
        found = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=most, do_sample=False)
    return found[0].tolist()


def _read(model: Any, tokenizer: Any, ids: list[int], pieces: list[int]) -> list[Seen]:
    """The attentions over all tokens; what is read in pieces attends within each.

    Rules with arrays, such as the mask of a window or biases by distance, are of one piece: then pieces stay apart.
    """
    found = [_once(model, tokenizer, ids[start:stop]) for start, stop in zip(pieces, [*pieces[1:], None], strict=True)]
    if len(found) == 1 or any(_has_arrays(weights._problem) for weights in found[0]):
        return found
    together = Seen(lambda: found[0].unseen)
    sizes = [weights.shape[-1] for weights in (seen[0] for seen in found)]
    numbers = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))[None]
    for name, *each in zip(found[0].names, *found, strict=False):
        together.append(name, _joined([weights._problem for weights in each], numbers))
    return [together]


def _has_arrays(problem: Problem) -> bool:
    """Whether rules of an attention hold for its own queries and keys alone."""
    form = problem.scores.mask
    return problem.scores.bias is not None or problem.share is not None or (form is not None and bool(form.leaves))


def _once(model: Any, tokenizer: Any, ids: list[int]) -> Seen:
    """One call of the model, which keeps queries, keys and rules; where it can, without a word for each token."""
    known = inspect.signature(model.forward).parameters
    given = torch.tensor([ids], device=model.device)
    batch = taken(model, {"input_ids": given, "attention_mask": torch.ones_like(given)})
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in known else {}
    if "logits_to_keep" in known:
        options["logits_to_keep"] = 1
    if model.config.is_encoder_decoder:
        model, options = model.get_encoder(), {}
    seen, _ = watched(model, batch, False, **options)
    return seen.over(len(ids))


def _joined(problems: list[Problem], numbers: torch.Tensor) -> AttentionWeights:
    """One attention of several texts behind one another, each of which attends within itself."""
    first = problems[0]
    form = first.scores.mask
    apart = masks.segments(numbers)
    rule = apart if form is None else apart & masks.Mask(form)
    length = int(numbers.shape[-1])
    xp = first.xp
    layout = replace(first.layout, queries=length, keys=length)
    arrays = [
        replace(operand[0], array=xp.concatenate([each.array for each in operand], axis))
        for axis, operand in ((-3, [each.query for each in problems]), (-2, [each.key for each in problems]))
    ]
    leaves = tuple(rule.form.place(xp, layout, rule.leaves))
    scores = replace(first.scores, mask=rule.form)
    return AttentionWeights(replace(first, layout=layout, scores=scores, query=arrays[0], key=arrays[1], leaves=leaves))
