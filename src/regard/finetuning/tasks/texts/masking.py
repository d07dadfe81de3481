"""Which tokens a model has to guess, and how likely it finds those that stood there."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from regard.finetuning.training.padding import as_configured

HELD_OUT = 2**32
"""In place of an epoch's number: rows that are not trained on are masked in one way."""
IGNORED = -100
COPIES = 4096
"""Tokens of the copies of a text that are answered at once."""


def mask(ids: Sequence[int], tokenizer: Any, seed: int, epoch: int) -> tuple[list[int], list[int]]:
    """Hide some tokens, a function of seed, epoch and the text alone.

    Of those chosen (at least one), 80 % become the mask, 10 % any other token, and 10 % stay.

    Returns:
        What the model sees, and the labels, which are IGNORED where nothing is to be guessed.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1.
    """
    given = np.array(ids, np.int64)
    rng = np.random.default_rng([seed, epoch, zlib.crc32(given.tobytes())])
    places = guessable(given, tokenizer)
    count = min(max(round(tokenizer.masked_share * len(places)), 1), len(places))
    chosen = rng.choice(places, count, replace=False) if count else places[:0]
    labels = np.full(len(given), IGNORED)
    labels[chosen] = given[chosen]
    fate, others = rng.random(count), rng.integers(len(tokenizer), size=count)
    given[chosen] = np.where(fate < 0.8, tokenizer.mask_token_id, np.where(fate < 0.9, others, given[chosen]))
    return given.tolist(), labels.tolist()


def guessable(ids: np.ndarray, tokenizer: Any) -> np.ndarray:
    """Return the places of the tokens that are no marks."""
    return np.flatnonzero(~np.isin(ids, [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]))


class MaskingCollator:
    """Pads a batch, and masks its training rows anew in each epoch of the sampler that it follows."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.sampler = tokenizer, None

    def follow(self, sampler: Any) -> None:
        """Take seed and epoch from a sampler."""
        self.sampler = sampler

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        known: Any = self.sampler
        pairs = [
            (row["input_ids"], row["labels"])
            if row["labels"]
            else mask(row["input_ids"], self.tokenizer, known.seed, known.epoch)
            for row in rows
        ]
        batch = self.tokenizer.pad({"input_ids": [ids for ids, _ in pairs]}, return_tensors="pt")
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for row, (_, truth) in enumerate(pairs):
            labels[row, : len(truth)] = torch.tensor(truth)
        return {**batch, "labels": labels}


def guesses(model: Any, tokenizer: Any, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mask each token in turn and guess it from all others.

    Returns:
        For each token that is no mark: its log-probability, and whether it was the likeliest.

    Source: Salazar et al. 2020, arXiv 1910.14659, section 2.
    """
    import torch

    places = torch.tensor(guessable(np.array(ids), tokenizer))
    row = torch.tensor(ids)
    copies = row.repeat(len(places), 1)
    copies[torch.arange(len(places)), places] = tokenizer.mask_token_id
    found, right = [], []
    size = max(COPIES // max(len(ids), 1), 1)
    for some, at in zip(copies.split(size), places.split(size), strict=True):
        logits = as_configured(model)(input_ids=some.to(model.device)).logits[torch.arange(len(at)), at].float().cpu()
        found.append(logits.log_softmax(-1).gather(-1, row[at][:, None])[:, 0].numpy())
        right.append((logits.argmax(-1) == row[at]).numpy())
    return np.concatenate(found), np.concatenate(right)
