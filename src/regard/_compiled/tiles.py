"""A block evaluated by the loops: scores by BLAS into memory that is used again, then all else in passes over rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regard._backends import numpy as verbs
from regard._blockwise import Attend, Scores
from regard._compiled import answers, arithmetic, loops, threads, units
from regard._questions import Ask, AttendAndAsk
from regard._rules import Where

Product = Callable[..., None]  # a matrix product into its third argument, see `InMemory.into`


@dataclass
class Memory:
    """Arrays that one thread uses again and again, by what they are for."""

    kept: dict[str, np.ndarray] = field(default_factory=dict)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = math.prod(shape)
        found = self.kept.get(name)
        if found is None or found.size < size or found.dtype != dtype:
            found = self.kept[name] = np.empty(size, dtype)
        return found[:size].reshape(shape)


@dataclass(frozen=True)
class Room:
    """What a block is evaluated with."""

    matmul: Product
    memory: Memory


@dataclass(frozen=True)
class Evaluator:
    """Output and log-sum-exp of a block, where there is an attention, and answers to questions."""

    scores: Scores
    attend: Attend | None
    questions: tuple
    shared: bool = False

    def __call__(self, operands: Sequence[np.ndarray], where: Where, masked: bool, room: Room) -> list[np.ndarray]:
        own = self.scores.operands
        share = operands[own] if self.shared else None
        tile = tile_of(self.scores, operands, where, masked, room, share)
        found = [] if self.attend is None else [tile.output(operands[own]), tile.log_sum_exp()]
        extras = iter(operands[own + (self.attend is not None) + self.shared :])
        for question in self.questions:
            found += answers.KNOWN[type(question)](question, tile, [next(extras) for _ in range(question.extras)])
        return found


def evaluator(function: Any) -> Any:
    """What evaluates a sweep's function on a block, or None where that is not for the loops."""
    if isinstance(function, Attend):
        found = Evaluator(function.scores, function, ())
    elif isinstance(function, AttendAndAsk):
        found = Evaluator(function.attend.scores, function.attend, function.questions)
    elif isinstance(function, Ask):
        found = Evaluator(function.scores, None, function.questions, function.shared)
    else:
        return None
    attend = found.attend
    if attend is not None and (attend.drop is not None or attend.careful):
        return None
    if any(type(each) not in answers.KNOWN or getattr(each, "careful", False) for each in found.questions):
        return None
    return found


def swept(sweep: Any, evaluate: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of a sweep over all its blocks."""
    arrays = [ready(array) for array in arrays]
    results = units.Results(sweep.outputs, sweep.grid)

    def work(unit: units.Unit) -> None:
        room = Room(sweep.xp.into, Memory())
        given = units.Along(units.leading(arrays, sweep.operand_axes, unit.blocks[0]), sweep.operand_axes)
        targets = results.targets(unit)
        there = units.Along(targets, [output.axes for output in sweep.outputs])
        with verbs.quiet():
            for block in unit.blocks:
                where = block.where(verbs, arrays[0], sweep.grid.shift)
                pieces = evaluate(given.cut(block), where, block.masked, room)
                units.put(sweep.outputs, there.cut(block), pieces)
        results.add(unit, targets)

    threads.each(sweep.xp, work, units.units(sweep.grid, arrays[0].itemsize))
    return results.arrays


def at_once(query: np.ndarray, key: np.ndarray, value: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Output and log-sum-exp of plain scores in one tile."""
    nowhere: Any = None  # no rule asks where the tile lies
    tile = tile_of(Scores(scale), (query, ready(key)), nowhere, False, Room(verbs.into, Memory()), None)
    return tile.output(ready(value)), tile.log_sum_exp()


def ready(array: np.ndarray) -> np.ndarray:
    """An array as BLAS takes it: numbers of a row side by side."""
    flat = array.dtype.kind == "f" and array.ndim > 1
    if flat and array.shape[-1] > 1 and array.strides[-1] != array.itemsize:
        return np.ascontiguousarray(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


@dataclass
class Tile:
    """exp(S - m) of a block, `(*lead, R, t, s)`, and what is known of its rows, `(*lead, R, t, 1)`.

    A weight is exp(S - m) times `factor`.
    """

    exponentials: np.ndarray
    largest: np.ndarray  # -inf in a row that sees nothing
    empty: np.ndarray
    factor: np.ndarray
    log_sum: np.ndarray  # of exp(S - m), and what sinks add
    moment: np.ndarray  # sum_j exp(S - m) (S - m)
    share: np.ndarray | None
    where: Where
    room: Room

    @property
    def flat(self) -> np.ndarray:
        """As the loops take it, `(L, t, s)`."""
        return self.exponentials.reshape(-1, *self.exponentials.shape[-2:])

    def rows(self, array: np.ndarray) -> np.ndarray:
        """Numbers of rows as the loops take them, `(L, t)`; the array itself, where it is in order."""
        return np.ascontiguousarray(array.reshape(-1, array.shape[-2]))

    def output(self, values: np.ndarray) -> np.ndarray:
        """P x, 0 in rows that see nothing: `(*lead, R, t, 1, X)` of `(*lead, 1 or R, 1, s, X)`."""
        *lead, repeats, rows, keys = self.exponentials.shape
        *value_lead, several, _, _, width = values.shape
        each, folded = (several, rows) if several > 1 else (1, repeats * rows)
        into = np.empty((*lead, each, folded, width), self.exponentials.dtype)  # not `memory`: a result, put away later
        left = self.exponentials.reshape(*lead, each, folded, keys)
        self.room.matmul(left, values.reshape(*value_lead, several, keys, width), into)
        found = into.reshape(*lead, repeats, rows, 1, width)
        found *= self.factor[..., None]
        if self.empty.any():
            np.copyto(found, 0, where=self.empty[..., None])
        return found

    def log_sum_exp(self) -> np.ndarray:
        """In parts, see `_blockwise.in_parts`."""
        return np.stack([np.where(self.empty, 0, self.largest), self.log_sum], -1)


def tile_of(
    scores: Scores, operands: Sequence[np.ndarray], where: Where, masked: bool, room: Room, share: np.ndarray | None
) -> Tile:
    """The softmax of a block's scores."""
    found, _ = scores_of(scores, operands, where, masked, room)
    *lead, rows, keys = found.shape
    largest, total, moment = (np.empty((*lead, rows, 1), found.dtype) for _ in range(3))
    flat = [array.reshape(-1, rows) for array in (largest, total, moment)]
    loops.softmax(found.reshape(-1, rows, keys), arithmetic.smallest(found.dtype), *flat)
    empty = total == 0
    total = np.where(empty, 1, total)
    log_sum = np.where(empty, -math.inf, np.log(total))
    factor = 1 / total
    if share is not None:
        factor, log_sum = factor * np.exp(share), log_sum - share
    return Tile(found, largest, empty, factor, log_sum, moment, share, where, room)


def scores_of(
    scores: Scores, operands: Sequence[np.ndarray], where: Where, masked: bool, room: Room, bend: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """`Scores`, in memory that is used again; with `bend` beside them the derivative of softcap, where there is one."""
    query, key, *leaves = operands[: scores.operands]
    *lead, repeats, rows, _, width = query.shape
    *key_lead, _, _, keys, _ = key.shape
    left = room.memory.take("query", query.shape, query.dtype)
    np.multiply(query, query.dtype.type(scores.scale), out=left)
    left = left.reshape(*lead, repeats * rows, width)
    into = room.memory.take("scores", (*lead, repeats * rows, keys), query.dtype)
    room.matmul(left, key.reshape(*key_lead, keys, width).swapaxes(-1, -2), into)
    found, bent = into.reshape(*lead, repeats, rows, keys), None
    if scores.softcap is not None:
        np.divide(found, scores.softcap, out=found)
        np.tanh(found, out=found)
        if bend:
            bent = np.multiply(found, found, out=room.memory.take("bend", found.shape, found.dtype))
            np.subtract(1, bent, out=bent)
        np.multiply(found, scores.softcap, out=found)
    if scores.bias is not None:
        np.add(found, scores.bias.added(verbs, where, leaves[: scores.bias.leaves]), out=found, casting="same_kind")
    visible = scores.visible(verbs, leaves, where) if masked else None
    if visible is not None:
        np.copyto(found, -math.inf, where=~visible)
    return found, bent
