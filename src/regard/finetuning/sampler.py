"""The order in which examples are seen: random, with examples of like length in a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

POOL = 50
"""Batches that are sorted by length together; more of them waste less padding and mix less well."""


class LengthSampler:
    """Yields row numbers so that each batch holds rows of like length, in an order fixed by seed and epoch.

    The batch that takes most memory comes first: where memory does not suffice, the first step says so. The order of
    an epoch depends on nothing else, so a run that is resumed in the middle of one goes on with the batches that it had
    not seen; transformers' own sampler draws from the global random state, which resuming does not restore.

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
        """Sort pools of rows by length, cut them into batches, shuffle those, the worst first; a short one is last."""
        pools = _cut(order, POOL * self.batch)
        ordered = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
        batches = _cut(ordered, self.batch)
        rest = [batches.pop()] if len(batches[-1]) < self.batch else []
        batches = [batches[n] for n in rng.permutation(len(batches))]
        if batches:
            worst = max(range(len(batches)), key=lambda n: lengths[batches[n]].max())
            batches.insert(0, batches.pop(worst))
        return np.concatenate(batches + rest)


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def batches_by_length(lengths: Sequence[int], tokens: int, padded: bool = True) -> list[list[int]]:
    """Return the numbers of rows in batches of like length, the longest first.

    Args:
        lengths: tokens of each row.
        tokens: tokens of a batch at most; a longer row is a batch of its own.
        padded: count each row as long as the longest of its batch.
    """
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        cost = lengths[batches[-1][0]] if batches and padded else lengths[row]
        if not batches or cost > room:
            batches.append([])
            room, cost = tokens, lengths[row]
        batches[-1].append(row)
        room -= cost
    return batches
