"""A sweep cut into units of work: each some leading indices and consecutive rows, block after block in one thread.

What varies along keys alone is summed over rows. A unit that has all rows of its leading indices adds to the result
itself; one that shares them with others has sums of its own, which are added in order in the end. So results do not
depend on which thread was faster, nor on how many there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    """Blocks of the same leading indices, and the arrays that their results go to, one for each output."""

    blocks: list[Block]
    targets: list[np.ndarray]
    shared: bool  # whether other units have rows of the same leading indices


def units(grid: Any, outputs: Sequence[Output], results: Sequence[np.ndarray]) -> list[Unit]:
    """The units of a sweep."""
    budget = TILE // results[0].itemsize
    much = sum(math.prod(block.sizes) for block in grid.blocks) > MUCH
    pieces = [
        piece
        for _, blocks in itertools.groupby(grid.blocks, key=lambda block: (block.starts[:-3], block.sizes[:-3]))
        for piece in _by_lead(list(blocks), budget, PARTS if much else 1)
    ]
    parts = -(-PARTS // len(pieces)) if much else 1
    found = []
    for blocks in pieces:
        rows = [row for block in blocks for row in _by_rows(block, budget)]
        several = _split(rows, parts)
        for some in several:
            targets = [_target(*both, some[0], len(several) > 1) for both in zip(outputs, results, strict=True)]
            found.append(Unit(some, targets, len(several) > 1))
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


def _target(output: Output, result: np.ndarray, block: Block, shared: bool) -> np.ndarray:
    """The part of a result with the leading indices of a block; where it is shared, as large an array of its own."""
    lead = len(block.starts) - 3
    part = result[block.index((*output.axes[:lead], False, False, False))]
    return np.full_like(part, output.before) if shared and summed(output) else part


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


def put(outputs: Sequence[Output], there: Sequence[np.ndarray], pieces: Sequence[np.ndarray]) -> None:
    """Puts the results of a block where they belong."""
    for output, place, piece in zip(outputs, there, pieces, strict=True):
        if not summed(output):
            place[...] = piece
        else:
            merge(output, place, piece)


def gather(outputs: Sequence[Output], results: Sequence[np.ndarray], unit: Unit) -> None:
    """Adds the sums of a unit that shares its leading indices to the results."""
    lead = len(unit.blocks[0].starts) - 3
    for output, result, target in zip(outputs, results, unit.targets, strict=True):
        if unit.shared and summed(output):
            there = result[unit.blocks[0].index((*output.axes[:lead], False, False, False))]
            merge(output, there, target)
