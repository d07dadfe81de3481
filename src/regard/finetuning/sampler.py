"""The order in which examples are seen: random, with examples of like length in a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

POOL = 50
"""Batches that are sorted by length together; more of them waste less padding and mix less well."""


class LengthSampler:
    """Yields row numbers so that each batch holds rows of like length, in an order fixed by seed and epoch.

    The order of an epoch depends on nothing else, so a run that is resumed in the middle of one goes on with the
    batches that it had not seen; transformers' own sampler draws from the global random state, which resuming does
    not restore.

    Args:
        lengths: the length of each row; None if they are all alike.
        rows: the number of rows.
        batch: rows in an optimizer step.
        seed: what fixes the order.
    """

    def __init__(self, lengths: Sequence[int] | None, rows: int, batch: int, seed: int) -> None:
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.rows, self.batch, self.seed, self.epoch = rows, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.rows)
        if self.lengths is not None:
            order = self._group(order, self.lengths, rng)
        return iter(order.tolist())

    def _group(self, order: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sort pools of rows by length, cut them into batches, and shuffle the batches; a short one comes last."""
        pool = POOL * self.batch
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        ordered = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
        batches = [ordered[start : start + self.batch] for start in range(0, len(ordered), self.batch)]
        whole, rest = (batches[:-1], batches[-1:]) if len(batches[-1]) < self.batch else (batches, [])
        return np.concatenate([whole[n] for n in rng.permutation(len(whole))] + rest)
