"""Deformable attention of transformers' detectors: queries that look at a few points in place of all patches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

LAYER = "MultiScaleDeformableAttention"
"""The class, in RT-DETR and Deformable DETR, that is called with the points and their weights."""


@dataclass(frozen=True)
class Points:
    """The points that one layer reads for the first picture.

    Attributes:
        places: x and y in fractions of the picture, `(queries, heads, levels, points, 2)`.
        weights: how much each counts, `(queries, heads, levels, points)`: 1 in all for a query and head.
        grids: rows and columns of the cells of each level.
    """

    places: torch.Tensor
    weights: torch.Tensor
    grids: list[tuple[int, int]]

    def over_cells(self) -> torch.Tensor:
        """What each query attends to over the cells of the finest level, `(queries, rows, columns)`, the heads' mean.

        A point between cells reads the four around it, the nearer the more (Zhu et al. 2021, arXiv 2010.04159, eq. 3),
        and nothing where it lies beyond the picture. What falls on a coarser cell is spread over those that it covers.
        """
        finest = max(self.grids, key=lambda grid: grid[0] * grid[1])
        levels = (_on_cells(self.places[:, :, n], self.weights[:, :, n], grid) for n, grid in enumerate(self.grids))
        return torch.stack([_spread(level, finest) for level in levels]).sum(0) / self.weights.shape[1]


@contextmanager
def watch_points(model: Any) -> Iterator[list[Points]]:
    """Keep the points of every deformable attention that runs inside, in call order."""
    kept: list[Points] = []

    def keep(module: Any, inputs: tuple) -> None:
        _, _, grids, _, places, weights, *_ = inputs
        kept.append(
            Points(places[0].detach().float(), weights[0].detach().float(), [(int(h), int(w)) for h, w in grids])
        )

    hooks = [each.register_forward_pre_hook(keep) for each in model.modules() if type(each).__name__ == LAYER]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _on_cells(places: torch.Tensor, weights: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Shares of the cells of a level, `(queries, rows, columns)`, the sum of the heads."""
    rows, columns = grid
    size = places.new_tensor([columns, rows])
    at = places * size - 0.5  # in cells, from the centre of the first
    shares = at.new_zeros(len(at), rows * columns)
    for corner in at.new_tensor([[0, 0], [0, 1], [1, 0], [1, 1]]):
        cell = at.floor() + corner
        inside = ((cell >= 0) & (cell < size)).all(-1)
        share = weights * (1 - (at - cell).abs()).prod(-1) * inside
        number = (cell[..., 1] * columns + cell[..., 0]).clamp(0, rows * columns - 1).long()
        shares.scatter_add_(1, number.flatten(1), share.flatten(1))
    return shares.view(-1, rows, columns)


def _spread(shares: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Shares over a finer grid of the same picture: each cell's, in equal parts over those whose corner lies in it."""
    for dim, fine in enumerate(grid, start=1):
        coarse = shares.shape[dim]
        under = torch.arange(fine, device=shares.device) * coarse // fine
        parts = under.bincount(minlength=coarse)[under]
        shares = shares.index_select(dim, under) / parts.view([-1 if n == dim else 1 for n in range(3)])
    return shares
