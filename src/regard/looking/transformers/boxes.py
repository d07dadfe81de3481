"""Detectors of transformers: which objects they find in a picture, and where the query of each box looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regard._backends import to_numpy
from regard.looking.looked import Found
from regard.looking.pictures import in_unit_range, open_picture
from regard.models.seen import Seen
from regard.models.summary import in_single
from regard.models.transformers.deformable import Points, watch_points
from regard.models.watch import watch
from regard.weights import AttentionWeights

Grid = tuple[int, int] | None


@dataclass(frozen=True)
class SeenBoxes:
    """What a detector saw.

    Attributes:
        picture: as the model read it, `(height, width, 3)` in 0..1.
        found: the objects, the surest first.
        seen: every attention.
        grid: rows and columns of the positions of `seen`, if these are patches.
    """

    picture: np.ndarray
    found: list[Found]
    seen: Seen
    grid: Grid


def is_detector(model: Any) -> bool:
    """Tell whether a model finds boxes."""
    return type(model).__name__.endswith("ForObjectDetection")


def look_for_boxes(model: Any, processor: Any, path: str, sure: float = 0.5) -> SeenBoxes:
    """Shows a detector the file of a picture.

    Args:
        model, processor: of transformers.
        path: of the picture.
        sure: the least probability of an object.

    Raises:
        DataError: A file that does not decode, or is not there.
        UnsupportedError: No attention can be seen.
    """
    picture, _ = open_picture(path)
    batch = processor(images=picture, return_tensors="pt").to(model.device)
    with torch.no_grad(), watch(model) as seen, watch_points(model) as points:
        output = model(**batch)
    pixels = batch["pixel_values"]
    queries, size = output.pred_boxes.shape[1], pixels.shape[-2:]
    sampled = [each for each in points if len(each.weights) == queries]
    maps, grid = _sampled(seen, sampled) if sampled else _attended(model, seen, queries, size)
    scores, labels = _scores(model, output)
    order = [int(n) for n in scores.argsort(descending=True) if scores[n] >= sure]
    found = [
        Found(
            model.config.id2label[int(labels[n])],
            float(scores[n]),
            _corner(output.pred_boxes[0, n].tolist()),
            None if maps is None else maps[n],
        )
        for n in order
    ]
    return SeenBoxes(in_unit_range(pixels[0].permute(1, 2, 0).float().cpu().numpy(), processor), found, seen, grid)


def _scores(model: Any, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The best label of each query, and how sure it is; some families have a last class for no object."""
    logits = output.logits[0].float()
    known = model.config.num_labels
    chances = logits.sigmoid() if logits.shape[-1] == known else logits.softmax(-1)[:, :known]
    best = chances.max(-1)
    return best.values, best.indices


def _corner(box: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x - width / 2, y - height / 2, width, height


def _sampled(seen: Seen, points: list[Points]) -> tuple[np.ndarray, Grid]:
    """Where queries look that sample points, `(queries, rows, columns)`, and the grid of the encoder's attention."""
    maps = torch.stack([each.over_cells() for each in points]).mean(0)
    length = seen[0].shape[-1]
    return to_numpy(maps), next((grid for grid in points[0].grids if grid[0] * grid[1] == length), None)


def _attended(model: Any, seen: Seen, queries: int, size: Any) -> tuple[np.ndarray | None, Grid]:
    """Where queries look that attend to all patches, `(queries, rows, columns)`, and the grid of the patches."""
    cross = [weights for weights in seen if weights.shape[-2] == queries != weights.shape[-1]]
    if cross:
        grid = _grid(cross[0].shape[-1], size)
        return _mean([weights[0] for weights in cross], slice(None), slice(None)).reshape(-1, *grid), grid
    patch = getattr(model.config, "patch_size", None)
    if patch is None:
        return None, None
    sides = (patch, patch) if isinstance(patch, int) else tuple(patch)
    grid = (size[0] // sides[0], size[1] // sides[1])
    patches, length = grid[0] * grid[1], seen[0].shape[-1]
    rows = _mean([weights[0] for weights in seen], slice(length - queries, length), slice(1, 1 + patches))
    return rows.reshape(-1, *grid), grid


def _mean(layers: list[AttentionWeights], rows: slice, columns: slice) -> np.ndarray:
    """Mean over layers and heads of a tile."""
    return np.mean([to_numpy(in_single(weights)[..., rows, columns]).mean(0) for weights in layers], 0)


def _grid(patches: int, size: Any) -> tuple[int, int]:
    """Rows and columns of so many patches, in about the picture's proportions."""
    rows = min(
        (n for n in range(1, patches + 1) if patches % n == 0),
        key=lambda n: abs(np.log(n * n / patches * size[1] / size[0])),
    )
    return rows, patches // rows
