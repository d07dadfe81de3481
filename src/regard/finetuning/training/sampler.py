"""The order in which examples are seen: random, with examples of like length in a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

POOL = 50
"""Batches that are sorted by length together; more of them waste less padding and mix less well."""


class LengthSampler:
    """Yields row numbers so that each batch holds rows of like length, in an order fixed by seed and epoch.

    The very first batch holds the longest rows of all, so that none in any epoch takes more memory: where it does not
    suffice, the first step says so. The order of an epoch depends on nothing else, so a run that is resumed in the
    middle of one goes on with the batches that it had not seen; transformers' own sampler draws from the global random
    state, which resuming does not restore.

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
            order = np.concatenate(self._batches(order, self.lengths, rng))
        return iter(order.tolist())

    def _batches(self, order: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Sort pools of rows by length, cut them into batches and shuffle those; a short one is last."""
        first = np.argsort(-lengths[order], kind="stable")[: self.batch if self.epoch == 0 else 0]
        pools = _cut(np.delete(order, first), POOL * self.batch)
        sorted_pools = [rows[np.argsort(lengths[rows], kind="stable")] for rows in pools]
        batches = _cut(np.concatenate([order[:0], *sorted_pools]), self.batch)
        rest = [batches.pop()] if batches and len(batches[-1]) < self.batch else []
        return [order[first], *(batches[n] for n in rng.permutation(len(batches))), *rest]


class SharedBatches:
    """The batches of one process among several: together, the processes see each row once, in steps of equal rows.

    The rows of a step are those that one process with a batch as large as all of theirs would take, and every process
    has some in each step: at the end of an epoch the rows are shared out evenly, and fewer than there are processes
    join the step before.

    Args:
        sampler: the order of all rows.
        batch: rows of one process in a batch.
        process: its number, from 0.
        processes: how many there are.
    """

    def __init__(self, sampler: LengthSampler, batch: int, process: int, processes: int) -> None:
        self.sampler, self.batch, self.process, self.processes = sampler, batch, process, processes

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        steps, rest = divmod(len(self.sampler), self.batch * self.processes)
        return max(1, steps + (rest >= self.processes))

    def __iter__(self) -> Iterator[list[int]]:
        steps = _cut(np.array(list(self.sampler)), self.batch * self.processes)
        if len(steps) > len(self):
            steps[-2:] = [np.concatenate(steps[-2:])]
        yield from (np.array_split(rows, self.processes)[self.process].tolist() for rows in steps)


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def batches_by_length(lengths: Sequence[int], tokens: int, padded: bool = True, mixed: bool = True) -> list[list[int]]:
    """Return the numbers of rows in batches of like length, the longest first.

    Args:
        lengths: tokens of each row.
        tokens: tokens of a batch at most; a longer row is a batch of its own.
        padded: count each row as long as the longest of its batch.
        mixed: whether a batch may hold rows of several lengths.
    """
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        cost = lengths[batches[-1][0]] if batches and padded else lengths[row]
        if not batches or cost > room or not (mixed or lengths[row] == lengths[batches[-1][0]]):
            batches.append([])
            room, cost = tokens, lengths[row]
        batches[-1].append(row)
        room -= cost
    return batches
