"""What recognisers with a decoder write: the same for a prediction as for a look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import transformers

TOKENS = 12
"""Tokens a second that a decoder may write; quick speakers take 8."""


def longest_text(described: Any) -> int:
    """Return how many tokens a decoder can write."""
    return (
        getattr(described, "max_target_positions", None) or getattr(described, "max_position_embeddings", None) or 448
    )


def write_down(model: Any, batch: Any, seconds: Sequence[float], **options: Any) -> list[list[int]]:
    """Write what is said in each of a few sounds, by the model's own settings; what begins it may be left out.

    A batch goes on for its longest; what a sound says does not depend on what is beside it.
    """
    most = [min(math.ceil(TOKENS * each) + 8, longest_text(model.config) - 8) for each in seconds]
    written = model.generate(**batch, **options, max_new_tokens=max(most))
    begin = int(written[0, 0]) == model.config.decoder_start_token_id
    return [row[: begin + own].tolist() for row, own in zip(written, most, strict=True)]


def time_tokens(model: Any) -> range:
    """The tokens that stand for times, one for each moment and the end, behind the one that says there are none."""
    none = getattr(model.generation_config, "no_timestamps_token_id", None)
    vocabulary, moments = model.config.vocab_size, getattr(model.config, "max_source_positions", 0)
    if none is None or vocabulary - none - 1 <= moments:
        return range(0)
    return range(none + 1, vocabulary)


def begun_with(model: Any, batch: Any, text: Sequence[int]) -> tuple[torch.Tensor, int]:
    """Return a text `(1, T)` behind what the model begins it with, such as language and task, and how long that is.

    Where the model knows tokens for times, it adds those that it would write between the words.
    """
    times = time_tokens(model)
    follow = _Follow(text, times, model.generation_config.eos_token_id)
    most = longest_text(model.config) - 8 if times else len(text) + 1
    timed = {"return_timestamps": True} if times else {}
    heard = transformers.LogitsProcessorList([follow])
    model.generate(**batch, **timed, max_new_tokens=most, num_beams=1, do_sample=False, logits_processor=heard)
    begun = follow.begun
    written = follow.written if follow.done == len(text) else [*follow.written[:begun], *text]  # no room for times
    return torch.tensor([written], device=model.device), begun


class _Follow(transformers.LogitsProcessor):
    """Lets a decoder write a text that is given, and times in it, and remembers it with what it begins with.

    Whisper goes on behind the last time that it wrote, as long as there is sound: that is no part of the text.
    """

    def __init__(self, text: Sequence[int], times: range, end: Any) -> None:
        self.text, self.times, self.end = list(text), times, end if isinstance(end, int) else end[0]
        self.written: list[int] = []
        self.begun = self.done = 0
        self.again = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        written = input_ids[0].tolist()
        self.again |= len(written) <= len(self.written)
        self.begun = self.begun or len(written)
        done = sum(each not in self.times for each in written[self.begun :])
        if not self.again and done <= len(self.text):
            self.written, self.done = written, done
        follows = self.end if self.again or done >= len(self.text) else self.text[done]
        mask = torch.full_like(scores, -torch.inf)
        mask[:, [follows, *self.times]] = 0
        return scores + mask
