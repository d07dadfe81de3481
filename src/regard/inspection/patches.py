"""Scores of the patches of a picture, laid over the picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from regard._backends import to_numpy
from regard.errors import ShapeError

_PREFIXES = (0, 1, 2, 5)  # nothing, a class token, one of distillation too, or four registers too


def patch_map(scores: Any, grid: tuple[int, int] | None = None, prefix: int | None = None) -> np.ndarray:
    """What each patch was given, as a picture: `(..., S)` to `(..., rows, columns)`.

    Args:
        scores: One number for each key: a row of weights (CLS to patches, a patch to patches), received attention,
            rollout, relevance.
        grid: Rows and columns of patches; default a square.
        prefix: How many keys before the patches belong to none (CLS, registers); default what is more than the grid,
            and for no grid what is more than the largest square: 0, 1, 2 or 5.

    Raises:
        ShapeError: The keys are not as many as the patches, or no grid is said and they are no square.
    """
    scores = to_numpy(scores).astype(np.float64)
    length = scores.shape[-1]
    if grid is None:
        side = math.isqrt(max(length - (prefix or 0), 0))
        grid = (side, side)
        more = length - side * side
        if side == 0 or (more not in _PREFIXES if prefix is None else more != prefix):
            wanted = "0, 1, 2 or 5" if prefix is None else prefix
            raise ShapeError(
                f"patch_map: need {wanted} keys and a square of patches; got {length} keys; say grid= and prefix=."
            )
    prefix = length - grid[0] * grid[1] if prefix is None else prefix
    if prefix < 0 or length - prefix != grid[0] * grid[1]:
        raise ShapeError(f"patch_map: need {prefix} + {grid[0]} x {grid[1]} keys; got {length}; say grid= and prefix=.")
    return scores[..., prefix:].reshape(*scores.shape[:-1], *grid)


def span(scores: Any, between: str = "; ", even: float | None = None) -> str:
    """What is drawn, in words: "from 0.003 to 0.005; even would be 0.004"; `even` is their mean, if it is left out."""
    values = to_numpy(scores).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return "nothing finite"
    said = f"from {values.min():.2g} to {values.max():.2g}"
    if values.min() < 0:
        return said
    mean = f"even would be {values.mean() if even is None else even:.2g}"
    return f"{said}{between}{mean}"


def upsampled(patches: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of patches `(rows, columns)` as large as the picture `(height, width)`, bilinear, edges kept."""
    from scipy.ndimage import map_coordinates

    places = [
        np.clip((np.arange(whole) + 0.5) * several / whole - 0.5, 0, several - 1)
        for several, whole in zip(patches.shape, size, strict=True)
    ]
    return map_coordinates(np.asarray(patches, np.float64), np.meshgrid(*places, indexing="ij"), order=1)
