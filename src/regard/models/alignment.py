"""What goes with what: a path through a cross-attention, from words to words or from words to seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard._backends import to_numpy
from regard.errors import ShapeError


@dataclass(frozen=True)
class Alignment:
    """A monotonic path through the map of queries and keys.

    Attributes:
        queries, keys: the steps of the path, each `(steps,)`, both from 0 to the last.
        map: what it runs through, `(T, S)`.
    """

    queries: np.ndarray
    keys: np.ndarray
    map: np.ndarray

    def spans(self) -> np.ndarray:
        """The first key of each query and the one behind its last, `(T, 2)`."""
        count = self.map.shape[0]
        first = np.searchsorted(self.queries, np.arange(count), side="left")
        last = np.searchsorted(self.queries, np.arange(count), side="right") - 1
        return np.stack([self.keys[first], self.keys[last] + 1], -1)


def align(weights: Any, heads: Sequence[tuple[int, int]] | None = None, smooth: int = 7) -> Alignment:
    """The monotonic alignment that a cross-attention implies: heads normalised, smoothed, averaged, then time-warped.

    Args:
        weights: `AttentionWeights` or an array `(H, T, S)` of one example, or a sequence of them, one for each layer.
        heads: Which to use, as (layer, head); default all.
        smooth: The width of a median filter along the keys, odd; 1 for none.

    Cost: one dense `(T, S)` for each head used.

    Source: dynamic time warping, Sakoe and Chiba 1978; for Whisper's timestamps, Radford et al. 2022, arXiv 2212.04356.
    """
    layers = [weights] if hasattr(weights, "shape") else list(weights)
    if any(len(layer.shape) != 3 for layer in layers):
        raise ShapeError(
            f"align: need weights (H, T, S) of one example; got {tuple(layers[0].shape)}; take one, weights[0]."
        )
    if heads is None:
        heads = [(layer, head) for layer, each in enumerate(layers) for head in range(each.shape[0])]
    chosen = (layers[layer][head : head + 1] for layer, head in heads)
    maps = np.stack([to_numpy(each.dense() if hasattr(each, "dense") else each)[0] for each in chosen]).astype(
        np.float64
    )
    deviation = maps.std(-2, keepdims=True)
    maps = (maps - maps.mean(-2, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    if smooth > 1 and maps.shape[-1] > smooth // 2:
        from scipy.ndimage import median_filter

        maps = median_filter(maps, size=(1, 1, smooth), mode="mirror")
    mean = maps.mean(0)
    return Alignment(*time_warping(-mean), mean)


def time_warping(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The path from the first corner of `cost (T, S)` to the last with the least sum: one down, right or both a step.

    Ties go to the diagonal, then down. Time T S, one diagonal of the table at a time.
    """
    if cost.ndim != 2 or 0 in cost.shape:
        raise ShapeError(f"time_warping: need a cost (T, S) with T and S of at least 1; got {cost.shape}.")
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(rows + columns - 1):
        row = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        column = diagonal - row
        before = np.minimum(np.minimum(total[row, column], total[row, column + 1]), total[row + 1, column])
        total[row + 1, column + 1] = cost[row, column] + before
    path = [(rows - 1, columns - 1)]
    while path[-1] != (0, 0):
        row, column = path[-1]
        steps = [(total[row, column], row - 1, column - 1), (total[row, column + 1], row - 1, column)]
        steps.append((total[row + 1, column], row, column - 1))
        path.append(min(steps, key=lambda step: step[0])[1:])
    queries, keys = np.array(path[::-1]).T
    return queries, keys
