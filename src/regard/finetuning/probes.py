"""Inputs that a model shall answer alike in every form: random tokens, pictures or sounds, of several sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

LONGEST = 512
"""Tokens of a text at most, however many the model reads."""
SECONDS = (0.5, 0.2, 1.1)
"""Lengths of sounds."""

Batch = dict[str, np.ndarray]


def probes(model: Any, processor: Any) -> Iterator[Batch]:
    """Yield batches of what a model reads, and of what its decoder has written so far if it has one.

    The first of several rows has padding, if anything has. Texts have 7, 1, 2, 31 tokens and so on up to the longest
    that the model reads, alone and beside shorter ones.
    """
    rng = np.random.default_rng(0)
    kind = _sounds if hasattr(processor, "feature_extractor") else _texts if _reads_texts(processor) else _pictures
    for number, batch in enumerate(kind(rng, processor)):
        if model.can_generate():
            rows, written = len(next(iter(batch.values()))), (3, 1, 9)[number % 3]
            batch["decoder_input_ids"] = rng.integers(model.config.vocab_size, size=(rows, written))
        yield batch


def _reads_texts(processor: Any) -> bool:
    return hasattr(processor, "model_max_length")


def _texts(rng: np.random.Generator, processor: Any) -> Iterator[Batch]:
    longest = min(processor.model_max_length, LONGEST)
    for length in sorted({min(length, longest) for length in (7, 2, 1, 31, 128, longest)}, key=lambda n: (n != 7, n)):
        for real in ([length], [length, (length + 1) // 2, 1]):
            yield _tokens(rng, processor, length, real)


def _tokens(rng: np.random.Generator, processor: Any, length: int, real: list[int]) -> Batch:
    """Random tokens of the numbers of `real` ones, padded on the right to one length."""
    special = set(processor.all_special_ids)
    ordinary = [number for number in range(len(processor)) if number not in special]
    mask = (np.arange(length) < np.array(real)[:, None]).astype(np.int64)
    ids = np.where(mask, rng.choice(ordinary, mask.shape), processor.pad_token_id or 0).astype(np.int64)
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: arrays[name] for name in processor.model_input_names if name in arrays}


def _pictures(rng: np.random.Generator, processor: Any) -> Iterator[Batch]:
    shape = np.shape(processor(images=np.zeros((32, 32, 3), np.uint8), return_tensors="np")["pixel_values"][0])
    yield from ({"pixel_values": rng.normal(size=(count, *shape)).astype(np.float32)} for count in (2, 1, 5))


def _sounds(rng: np.random.Generator, processor: Any) -> Iterator[Batch]:
    from regard.finetuning.tasks.speech.recognizers import prepare

    rate = processor.feature_extractor.sampling_rate
    noise = [rng.normal(size=int(rate * seconds)).astype(np.float32) * 0.1 for seconds in SECONDS]
    for sounds in (noise[:2], noise[:1], noise):
        yield {name: array.numpy() for name, array in prepare(processor, sounds).items()}
