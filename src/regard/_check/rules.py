"""What masks and biases are made of."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from regard.errors import DtypeError, OutOfRangeError, ShapeError


def not_a_mask(value: Any) -> DtypeError:
    return DtypeError(
        f"masks: need a mask on both sides of & and |; got {type(value).__name__}; wrap an array in masks.boolean."
    )


def no_truth() -> DtypeError:
    return DtypeError("masks: need &, | and ~ between masks; got and, or, not or if; a mask is neither true nor false.")


def not_a_bias(value: Any) -> DtypeError:
    return DtypeError(f"biases: need a bias on both sides of +; got {type(value).__name__}; wrap it in biases.array.")


FARTHEST = 2**30  # positions: what lies farther is no limit, and would not fit into 32 bits beside a position


def window_side(name: str, size: int | None) -> int | None:
    if size is None:
        return None
    if not isinstance(size, numbers.Integral) or isinstance(size, bool):
        raise DtypeError(
            f"masks.window: need {name} as a whole number of positions or None; got {type(size).__name__}."
        )
    if size < 0:
        raise ShapeError(f"masks.window: need {name} >= 0; got {size}; use None for no limit.")
    return None if size >= FARTHEST else int(size)


def prefix_length(length: int) -> int:
    if not isinstance(length, numbers.Integral) or isinstance(length, bool):
        raise DtypeError(f"masks.prefix: need length as a whole number of keys; got {type(length).__name__}.")
    if length < 0:
        raise ShapeError(f"masks.prefix: need length >= 0; got {length}.")
    return min(int(length), FARTHEST)


def runs(name: str, positions: Any) -> tuple[tuple[int, int], ...] | None:
    """Positions of `masks.pairs` as runs, from each first to behind its last, in order; None for all."""
    if positions is None or (isinstance(positions, slice) and positions == slice(None)):
        return None
    if isinstance(positions, slice):
        start, stop, step = positions.start or 0, FARTHEST if positions.stop is None else positions.stop, positions.step
        if step in (None, 1):
            _require_positions(name, [start, stop])
            start, stop = min(start, FARTHEST), min(stop, FARTHEST)
            return ((start, stop),) if start < stop else ()
        positions = range(start, stop, step)
    several = np.atleast_1d(positions)
    if several.ndim > 1 or (several.size and several.dtype.kind not in "iu"):
        raise DtypeError(
            f"masks.pairs: need {name} as a number, several, a slice or None; got {type(positions).__name__}."
        )
    _require_positions(name, several.tolist())
    places = np.unique(several[several < FARTHEST])
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in np.split(places, breaks) if len(run))


def _require_positions(name: str, positions: list[int]) -> None:
    if any(each < 0 for each in positions):
        raise OutOfRangeError(
            f"masks.pairs: need {name} from 0 on, for how many there are is known when the mask is used; got "
            f"{min(positions)}."
        )


def max_distance(distance: int) -> int:
    if not isinstance(distance, numbers.Integral) or isinstance(distance, bool):
        raise DtypeError(
            f"biases.relative: need max_distance as a whole number of positions; got {type(distance).__name__}."
        )
    if distance < 2:
        raise ShapeError(f"biases.relative: need max_distance >= 2; got {distance}.")
    return min(int(distance), FARTHEST)


def buckets(count: Any, bidirectional: bool, distance: int) -> None:
    """T5's formula has at least one bucket of a single position, and some to grow, on each side."""
    least = 4 if bidirectional else 2
    if isinstance(count, int) and count < least:
        sides = "with a side each for keys before and after" if bidirectional else "for keys before"
        raise ShapeError(f"biases.relative: need a table of at least {least} buckets, {sides}; got {count}.")
    single = count // least
    if isinstance(count, int) and distance <= single:
        raise ShapeError(
            f"biases.relative: need max_distance above {single}, the positions that {count} buckets count singly; got "
            f"{distance}; raise it, or use a smaller table."
        )
