"""A model of transformers shown a sound: what it attends to, and the words that it hears with their seconds."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from typing import Any, NamedTuple

import torch

from regard._language import begins_word, joined
from regard.errors import DataError, UnsupportedError
from regard.looking.looked import Looked
from regard.looking.sounds import read_sound
from regard.looking.tokens import readable
from regard.looking.transformers.texts import across
from regard.looking.transformers.watching import silent
from regard.looking.transformers.writing import begun_with, time_tokens, write_down
from regard.models.alignment import align
from regard.models.seen import Seen
from regard.models.summary import in_single
from regard.models.watch import watch

FRAME = 0.01
"""Seconds from one frame of a spectrogram to the next, where a model reads it in patches."""


def start(model: Any) -> torch.Tensor:
    """What a decoder begins with, `(1, 1)`."""
    return torch.full((1, 1), model.config.decoder_start_token_id or 0, device=model.device)


def listen(model: Any, processor: Any, path: str) -> Looked:
    extractor = getattr(processor, "feature_extractor", processor)
    if not hasattr(extractor, "sampling_rate"):
        raise DataError(f"{path}: need a model that listens; got one that does not; give it a text.")
    rate = extractor.sampling_rate
    sound = read_sound(path, rate)
    batch = extractor(sound, sampling_rate=rate, return_tensors="pt")
    batch = {name: batch[name].to(model.device) for name in ("input_features", "input_values") if name in batch}
    heard = Heard()
    labels: list[str] = []
    if model.config.is_encoder_decoder and model.can_generate():
        heard = transcribe(model, processor, batch, len(sound) / rate)
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        batch["decoder_input_ids"] = start(model)
    with torch.no_grad(), watch(model) as seen:
        model(**batch)
    length = next(weights.shape[-1] for weights in seen if weights.shape[-2] == weights.shape[-1] > 1)
    whole = getattr(extractor, "chunk_length", None) if "input_features" in batch else None
    if hasattr(model.config, "time_stride"):
        whole, labels = model.config.max_length * FRAME, _patches(model.config, length)
    seconds = (whole or len(sound) / rate) / length
    unheard = max(len(sound) / rate - (whole or math.inf), 0.0)
    labels = labels or [f"{place * seconds:.2f} s" for place in range(length)]
    said = joined(word for word, *_ in heard.words)
    return Looked(
        "audio", labels, seen.over(length), said, moment=seconds, unheard=unheard, words=heard.words,
        written=heard.written, across=heard.across,
    )  # fmt: skip


def _patches(config: Any, length: int) -> list[str]:
    """Name the positions of a model that reads a spectrogram in patches, one band after the other (AST)."""
    moments = (config.max_length - config.patch_size) // config.time_stride + 1
    bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    step = config.time_stride * FRAME
    patches = [f"{moment * step:.2f} s, band {band}" for band in range(1, bands + 1) for moment in range(moments)]
    return ["[CLS]", "[DISTILLED]"][: length - len(patches)] + patches


class Heard(NamedTuple):
    """What a recogniser that writes heard.

    Attributes:
        words: each with its first and last second.
        written: the tokens that it wrote; each is written by one query of `across`.
        across: the decoder's attentions to the sound.
    """

    words: list[tuple[str, float, float]] = []  # noqa: RUF012
    written: list[str] = []  # noqa: RUF012
    across: Seen | None = None


def transcribe(model: Any, processor: Any, batch: Any, seconds: float) -> Heard:
    """What a recogniser that writes hears, word by word, each with its seconds from the cross-attention.

    The words are those of a prediction. A model that knows tokens for times adds those that it would write between
    them: they are aligned like words, so a word ends before the silence behind it. Without them a word ends where the
    next begins.

    Source: Radford et al. 2022, arXiv 2212.04356: the heads named in the generation configuration (else all of the
    upper half of the layers) are averaged and warped.
    """
    tokenizer = processor.tokenizer
    with torch.no_grad(), silent():
        said = [each for each in write_down(model, batch, [seconds])[0] if _is_text(model, tokenizer, each)]
        if not said:
            return Heard()
        ids, begun = begun_with(model, batch, said)
    with torch.no_grad(), watch(model) as seen:
        model(**batch, decoder_input_ids=ids)
    cross = [weights for weights in seen if weights.shape[-2] == ids.shape[1] != weights.shape[-1]]
    heads = getattr(model.generation_config, "alignment_heads", None)
    if not heads:
        heads = [(layer, head) for layer in range(len(cross) // 2, len(cross)) for head in range(cross[0].shape[-3])]
    frames = cross[0].shape[-1]
    step = processor.feature_extractor.chunk_length / frames
    used = max(min(round(seconds / step), frames), 1)
    texts, rows = _written(model, tokenizer, ids[0].tolist(), begun)
    maps = [in_single(weights[0]).dense()[:, :, :used] for weights in cross]
    writing = [row - 1 for row in rows]  # a token is written where the one before it is read
    ended = [*writing, rows[-1]]  # where the text's end is written, which takes the silence behind the last word
    found = align([part[:, ended] for part in maps], heads=[tuple(pair) for pair in heads])
    spans = found.spans()[:-1] * step
    ends = [*(float(first) for first, _ in spans[1:]), float(spans[-1][1])]  # a token ends where the next begins
    words: list[tuple[list[int], float, float]] = []
    for place, (first, _), last in zip(rows, spans, ends, strict=True):
        if place not in texts:
            continue
        token = int(ids[0, place])
        if words and not begins_word(tokenizer.decode(words[-1][0]), tokenizer.decode([token])):
            tokens, began, _ = words[-1]
            words[-1] = ([*tokens, token], began, last)
        else:
            words.append(([token], float(first), last))
    spoken = [(tokenizer.decode(tokens).strip(), began, ended) for tokens, began, ended in words]  # some split a letter
    written = readable(tokenizer, [*ids[0, 1:].tolist(), tokenizer.eos_token_id])
    with contextlib.suppress(UnsupportedError):  # of a decoder whose attentions are called otherwise
        return Heard(spoken, written, across(seen))
    return Heard(spoken)


def _written(model: Any, tokenizer: Any, ids: list[int], begun: int) -> tuple[list[int], list[int]]:
    """Where text stands behind the beginning; and where text or a time does, but for a time before all text.

    A time that the model writes between sentences takes the silence there.
    """
    texts = [row for row in range(begun, len(ids)) if _is_text(model, tokenizer, ids[row])]
    times = time_tokens(model)
    return texts, [row for row in range(begun, len(ids)) if row in texts or (row > begun and ids[row] in times)]


def _is_text(model: Any, tokenizer: Any, number: int) -> bool:
    """Whether a token is part of a text, and no mark or time."""
    token = tokenizer.convert_ids_to_tokens(number)
    special = number in tokenizer.all_special_ids or number in time_tokens(model)
    return not special and not re.fullmatch(r"<\|.*\|>", token)
