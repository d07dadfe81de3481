"""A sweep cut into units of work: each some leading indices and consecutive rows, block after block in one thread.

What varies along keys alone is summed over rows, and gradients of what several heads share over heads. A unit that has
all that is summed adds to the result itself; one that shares it with others has sums of its own, which are added in the
order of the units as they come. So results do not depend on which thread was faster, nor on how many there are.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from regard._backends.numpy import merge
from regard._blockwise import Block, Output

TILE = 4 << 20  # bytes; smaller tiles take longer in Python than they gain in the cache
MOST_ROWS, FEWEST_ROWS = 256, 8
PARTS = 8  # units, as many at least where there is much to do, to keep threads busy
MUCH = 1 << 19  # scores


@dataclass
class Unit:
    """Blocks of the same leading indices."""

    blocks: list[Block]
    shared: bool  # whether other units have rows of the same leading indices
    number: int


def units(grid: Any, itemsize: int) -> list[Unit]:
    """The units of a sweep."""
    budget = TILE // itemsize
    much = sum(math.prod(block.sizes) for block in grid.blocks) > MUCH
    pieces = [
        piece
        for _, blocks in itertools.groupby(grid.blocks, key=lambda block: (block.starts[:-3], block.sizes[:-3]))
        for piece in _by_lead(list(blocks), budget, PARTS if much else 1)
    ]
    parts = -(-PARTS // len(pieces)) if much else 1
    found: list[Unit] = []
    for blocks in pieces:
        several = _split([row for block in blocks for row in _by_rows(block, budget)], parts)
        for some in several:
            found.append(Unit(some, len(several) > 1, len(found)))
    return found


def _by_lead(blocks: list[Block], budget: int, least: int) -> Iterator[list[Block]]:
    """The same rows of fewer leading indices at a time: as many as make a tile, and no fewer units than `least`."""
    sizes = blocks[0].sizes[:-3]
    widest = max(block.sizes[-1] for block in blocks) * min(max(block.sizes[-2] for block in blocks), MOST_ROWS)
    fit = max(min(budget // max(widest * blocks[0].sizes[-3], 1), math.prod(sizes) // least), 1)
    steps = []
    for size in reversed(sizes):
        steps.append(min(size, fit))
        fit = fit // size if fit >= size else 1
    spans = [
        [(start, min(step, size - start)) for start in range(0, size, step)]
        for size, step in zip(sizes, reversed(steps), strict=True)
    ]
    for chosen in itertools.product(*spans):
        offsets, counts = zip(*chosen, strict=True) if chosen else ((), ())
        yield [
            replace(
                block,
                starts=(*(a + b for a, b in zip(block.starts, offsets, strict=False)), *block.starts[-3:]),
                sizes=(*counts, *block.sizes[-3:]),
            )
            for block in blocks
        ]


def _by_rows(block: Block, budget: int) -> Iterator[Block]:
    """Tiles of the size that the budget has."""
    *_, rows, width = block.sizes
    fit = budget // max(math.prod(block.sizes[:-2]) * width, 1)
    step = min(max(fit, FEWEST_ROWS), MOST_ROWS, rows)
    for start in range(0, rows, step):
        yield replace(
            block,
            starts=(*block.starts[:-2], block.starts[-2] + start, block.starts[-1]),
            sizes=(*block.sizes[:-2], min(step, rows - start), width),
        )


def _split(blocks: list[Block], parts: int) -> list[list[Block]]:
    """Consecutive blocks in at most so many parts of about the same number of scores."""
    areas = np.cumsum([block.sizes[-1] * block.sizes[-2] for block in blocks])
    cuts = np.searchsorted(areas, areas[-1] * np.arange(1, parts) / parts) + 1
    edges = sorted({0, len(blocks), *(min(int(cut), len(blocks)) for cut in cuts)})
    return [blocks[start:stop] for start, stop in itertools.pairwise(edges)]


def summed(output: Output) -> bool:
    """Whether rows are put together in an output, by sum or maximum."""
    return not output.axes[-2]


class Along:
    """Arrays of a unit's leading indices, of which rows and keys are cut out: in few lines, which all blocks run."""

    def __init__(self, arrays: Sequence[np.ndarray], axes: Sequence[tuple[bool, ...]]) -> None:
        self._parts = [
            (array, rows, keys, (_ALL,) * (array.ndim - len(along)))
            for array, along in zip(arrays, axes, strict=True)
            for rows, keys in [along[-2:]]
        ]

    def cut(self, block: Block) -> list[np.ndarray]:
        *_, start, low = block.starts
        *_, size, width = block.sizes
        of_rows, of_keys = slice(start, start + size), slice(low, low + width)
        found = []
        for array, rows, keys, features in self._parts:
            index: tuple[Any, ...] = (..., of_rows if rows else _ALL, of_keys if keys else _ALL, *features)
            found.append(array[index])
        return found


_ALL = slice(None)


def leading(arrays: Sequence[np.ndarray], axes: Sequence[tuple[bool, ...]], block: Block) -> list[np.ndarray]:
    """The parts of arrays with the leading indices of a block."""
    lead = len(block.starts) - 3
    return [array[block.index((*along[:lead], False, False, False))] for array, along in zip(arrays, axes, strict=True)]


def put(outputs: Sequence[Output], there: Sequence[np.ndarray], pieces: Sequence[Any]) -> None:
    """Puts the results of a block where they belong; what is no array knows how it gets there."""
    for output, place, piece in zip(outputs, there, pieces, strict=True):
        if not isinstance(piece, np.ndarray):
            piece.add_to(place)
        elif not summed(output):
            place[...] = piece
        else:
            merge(output, place, piece)


class Results:
    """What comes out of a sweep, and the sums of units that are yet to be added."""

    def __init__(self, outputs: Sequence[Output], grid: Any) -> None:
        self._outputs = outputs
        self._lead = [spans[-1][0] + spans[-1][1] for spans in grid.lead_spans]
        self.arrays = [self._empty(output) for output in outputs]
        self._waiting: dict[int, tuple[Unit, list[np.ndarray]]] = {}
        self._next = 0
        self._adding = threading.Lock()

    def _empty(self, output: Output) -> np.ndarray:
        """Memory for a result; what each unit writes its own part of may hold anything."""
        parted = output.axes[-2] and not output.axes[-1] and not self._meet(output, [1] * len(self._lead))
        whole = np.empty if parted else partial(np.full, fill_value=output.before)
        return whole(output.shape, dtype=output.dtype_name)

    def _meet(self, output: Output, sizes: Sequence[int]) -> bool:
        """Whether parts of an output with so many leading indices are to be put together."""
        each = zip(output.axes, sizes, self._lead, strict=False)
        return any(not varies and size < total for varies, size, total in each)

    def _own(self, output: Output, unit: Unit) -> bool:
        """Whether a unit has an array of its own for an output."""
        return (unit.shared and summed(output)) or self._meet(output, unit.blocks[0].sizes)

    def targets(self, unit: Unit) -> list[np.ndarray]:
        """The parts of the results with the leading indices of a unit, or as large arrays of its own."""
        found = []
        for output, part in zip(self._outputs, self._parts(unit), strict=True):
            found.append(np.full_like(part, output.before) if self._own(output, unit) else part)
        return found

    def _parts(self, unit: Unit) -> list[np.ndarray]:
        return leading(self.arrays, [output.axes for output in self._outputs], unit.blocks[0])

    def add(self, unit: Unit, targets: list[np.ndarray]) -> None:
        """Adds what a unit has of its own, when all units before it have come."""
        with self._adding:
            self._waiting[unit.number] = unit, targets
            while self._next in self._waiting:
                each, own = self._waiting.pop(self._next)
                for output, part, target in zip(self._outputs, self._parts(each), own, strict=True):
                    if self._own(output, each):
                        merge(output, part, target)
                self._next += 1
