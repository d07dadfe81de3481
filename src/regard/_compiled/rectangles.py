"""Rectangles of one head's map by the loops: their sums, largest weights, and how many of their weights are seen.

A unit has whole rows of rectangles, so that nothing is shared between threads. What is done along the keys of a row is
done as its tile is there; keys are put together once for all rows of a rectangle.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard._backends import numpy as verbs
from regard._blockwise import Block
from regard._compiled import arithmetic, lines, loops, threads
from regard._compiled.tiles import Memory, Room, ready, scores_of
from regard._compiled.units import FEWEST_ROWS, MOST_ROWS, TILE, Along

_UNITS = 8  # at least, where there are rows enough, to keep threads busy
_ADDING = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What is asked of a problem of one head, `(1, 1, T, S)`, whose arrays are NumPy's.

    `limits` gives the `_plan.Rows` of some rows, and `ragged` says before which of their keys all are seen; scores
    that are not above `lowest` are not seen; `parts (T, 2)` is the log-sum-exp, or None where the keys are all.
    """

    problem: Any
    rows: range
    keys: range
    steps: tuple[int, int]
    limits: Callable[[int, int], Any]
    ragged: Callable[[range, range], int]
    lowest: float
    parts: np.ndarray | None


def evaluate(job: Job, found: Sequence[np.ndarray], whole: Any, stopped: Callable[[], bool]) -> None:
    """Put sums, maxima and counts of the rectangles into `found`.

    `whole`, where keys are all, takes what rows tell: `parts (T, 2)`, `entropy` and `largest (T,)`, `received (S,)`,
    and `distances (T + S - 1,)`, the weights of each distance, that of the first key to the last query first.
    """
    operands = job.problem.operands
    given = Along([ready(each.array) for each in operands], [each.axes for each in operands])

    def work(rows: range) -> None:
        if not stopped():
            with verbs.quiet():
                _Unit(job, rows, given, found, whole).run()

    threads.each(verbs, work, _units(job))


def _units(job: Job) -> list[range]:
    """Whole rows of rectangles: several for each thread, and few enough that their lines cost nothing."""
    step = job.steps[0]
    rows = min(max(len(job.rows) // _UNITS, FEWEST_ROWS), 2 * MOST_ROWS)
    return list(cut(job.rows, max(rows // step, 1) * step))


def cut(rows: range, step: int) -> Iterator[range]:
    """Rows in pieces that begin where a whole number of steps does."""
    for start in range(rows.start // step * step, rows.stop, step):
        yield range(max(start, rows.start), min(start + step, rows.stop))


class _Unit:
    """Some rows of rectangles, and the lines in which their weights are put together."""

    def __init__(self, job: Job, rows: range, given: Along, found: Sequence[np.ndarray], whole: Any) -> None:
        dtype = np.dtype(job.problem.dtype)
        self.job, self.rows, self.given, self.found, self.whole = job, rows, given, found, whole
        self.smallest = arithmetic.SMALLEST if dtype == np.float32 else arithmetic.SMALLEST_64
        self.room = Room(verbs.into, Memory())
        self.line, self.top, self.seen = (np.zeros(len(job.keys), dtype) for _ in range(3))
        *_, queries, keys = job.problem.layout.space
        self.received = np.zeros(keys)
        self.distances = np.zeros(queries + keys - 1 if whole is not None else 0, dtype)
        share = job.problem.share
        self.share = None if share is None else np.broadcast_to(share.array, job.problem.rows_shape).reshape(-1)

    def run(self) -> None:
        height = max(min(TILE // 4 // max(len(self.job.keys), 1), MOST_ROWS), FEWEST_ROWS)
        step = self.job.steps[0]
        for tile in cut(self.rows, max(height // step, 1) * step if step < height else height):
            scores, keys, ragged = self._scores(tile)
            for rows in cut(tile, step):
                if scores is not None:
                    self._add(scores[rows.start - tile.start : rows.stop - tile.start], rows, keys, ragged)
                if rows.stop % step == 0 or rows.stop == self.rows.stop:
                    self._put(rows.start // step - self.job.rows.start // step)
        if self.whole is not None:
            with _ADDING:
                self.whole.received[:] += self.received
                self.whole.distances[:] += self.distances

    def _scores(self, rows: range) -> tuple[np.ndarray | None, range, int]:
        """Of these rows and the keys that they may see, which come with them; from where on some may not be seen."""
        problem, limits = self.job.problem, self.job.limits(rows.start, len(rows))
        low = max(limits.low, self.job.keys.start)
        high = min(limits.low + limits.width, self.job.keys.stop)
        if low >= high:
            return None, range(0), 0
        block = Block((0, 0, rows.start, low), (1, 1, len(rows), high - low), False)
        given = self.given.cut(block)
        where = block.where(verbs, given[0], problem.layout.shift)
        found, _ = scores_of(problem.scores, given, where, False, self.room)
        scores, ragged = found[0, 0], self.job.ragged(rows, range(low, high)) if limits.masked else high
        if ragged < high:
            self._hide(scores[:, ragged - low :], rows, range(ragged, high))
        return scores, range(low, high), low if problem.scores.bias is not None else ragged

    def _hide(self, scores: np.ndarray, rows: range, keys: range) -> None:
        """Where a mask is, scores are -inf."""
        problem = self.job.problem
        block = Block((0, 0, rows.start, keys.start), (1, 1, len(rows), len(keys)), True)
        given = self.given.cut(block)
        where = block.where(verbs, given[0], problem.layout.shift)
        visible = problem.scores.visible(verbs, given[2 : problem.scores.operands], where)
        if visible is not None:
            visible = visible if visible.ndim == 2 else visible.reshape(visible.shape[-2:])
            np.copyto(scores, -math.inf, where=~visible)

    def _add(self, scores: np.ndarray, rows: range, keys: range, ragged: int) -> None:
        there = slice(keys.start - self.job.keys.start, keys.stop - self.job.keys.start)
        self.seen[there][: ragged - keys.start] += len(rows)
        if ragged < keys.stop:
            behind = self.seen[there][ragged - keys.start :]
            lines.add_seen(scores[:, ragged - keys.start :], scores.dtype.type(self.job.lowest), behind)
        line, top = self.line[there], self.top[there]
        if self.job.parts is not None:
            parts = self.job.parts[rows.start : rows.stop]
            largest, rest = (np.ascontiguousarray(parts[:, place], scores.dtype) for place in (0, 1))
            lines.add_known(scores, self.smallest, largest, np.where(rest == -math.inf, 0, rest), line, top)
            return
        factor = self._softmax(scores, rows)
        first = keys.start + self.job.problem.layout.queries - 1 - rows.start
        lines.add_complete(scores, factor, line, top, first, self.distances)

    def _softmax(self, scores: np.ndarray, rows: range) -> np.ndarray:
        """Make exponentials of scores; what weights are when multiplied by it, `(t,)`."""
        largest, total, moment = (np.empty((1, len(rows)), scores.dtype) for _ in range(3))
        loops.softmax(scores[None], self.smallest, largest, total, moment)
        share = None if self.share is None else self.share[rows.start : rows.stop]
        return self._tell(slice(rows.start, rows.stop), largest[0], total[0], moment[0], share)

    def _tell(
        self, rows: slice, largest: np.ndarray, total: np.ndarray, moment: np.ndarray, share: np.ndarray | None
    ) -> np.ndarray:
        """Keep what complete rows tell, and return what their exponentials are to be multiplied by."""
        empty = total == 0
        total = np.where(empty, 1, total)
        log_sum, factor = np.where(empty, -math.inf, np.log(total)), 1 / total
        kept = np.ones_like(total)
        if share is not None:
            kept = np.exp(share)
            factor, log_sum = factor * kept, log_sum - share
        entropy = np.where(log_sum == -math.inf, 0, log_sum) * kept - moment * factor
        self.whole.parts[rows] = np.stack([np.where(empty, 0, largest), log_sum], -1)
        self.whole.entropy[rows] = np.where(entropy < 0, 0, entropy)
        self.whole.largest[rows] = np.where(empty, 0, factor)
        return factor.astype(total.dtype)

    def _put(self, row: int) -> None:
        keys, step = self.job.keys, self.job.steps[1]
        if self.whole is not None:
            self.received[keys.start : keys.stop] += self.line
        lines.put_bins(self.line, self.top, self.seen, keys.start % step, step, *(each[row] for each in self.found))
