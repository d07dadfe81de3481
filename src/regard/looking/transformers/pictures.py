"""A model of transformers shown a picture: its patches, and the boxes of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from regard._digits import digits
from regard.errors import DataError, UnsupportedError
from regard.looking.looked import Looked
from regard.looking.pictures import in_unit_range, open_picture, place_labels
from regard.looking.transformers.boxes import is_detector, look_for_boxes
from regard.looking.transformers.watching import CASES, answer_of, decides, tower, undecided, watched


def _score_without_patches(model: Any, pixels: Any, output: Any, grid: tuple[int, int], prefix: int) -> Any:
    """The probability of what was decided, where patches that are not kept have the picture's mean colour."""
    decided = int(output.logits[0].argmax())
    mean = pixels.mean((-2, -1), keepdim=True)

    def score(kept: np.ndarray) -> np.ndarray:
        shown = torch.tensor(kept[:, prefix:].reshape(-1, 1, *grid), device=model.device)
        found = []
        with torch.no_grad():
            for some in shown.split(CASES):
                large = torch.nn.functional.interpolate(some.float(), pixels.shape[-2:]).bool()
                pictures = torch.where(large, pixels, mean)
                found.append(model(pixel_values=pictures).logits.softmax(-1)[:, decided])
        return torch.cat(found).float().cpu().numpy()

    return score


def look_at_picture(model: Any, processor: Any, path: str, gradients: bool) -> Looked:
    processor = getattr(processor, "image_processor", processor)
    if not hasattr(processor, "image_mean") and not hasattr(processor, "do_rescale"):
        raise DataError(f"{path}: need a model that reads pictures; got one that does not; give it a text.")
    if is_detector(model):
        if gradients:
            raise undecided(model)
        return _look_at_boxes(model, processor, path)
    model = tower(model, "image")
    picture, _ = open_picture(path)
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"].to(model.device)
    seen, output = watched(model, {"pixel_values": pixels}, gradients)
    length = seen[0].shape[-1]
    grid = _grid(model, pixels)
    prefix = length - grid[0] * grid[1]
    if prefix < 0 or 0 in grid:
        raise UnsupportedError(
            f"look: need a model that attends over all patches of a picture at once; saw {length} positions for "
            f"{grid[0]} x {grid[1]} patches, as in windows; use regard.watch in Python."
        )
    return Looked(
        "image",
        place_labels(*grid, prefix),
        seen.over(length),
        answer_of(model, output),
        picture=in_unit_range(pixels[0].permute(1, 2, 0).float().cpu().numpy(), processor),
        grid=grid,
        score=_score_without_patches(model, pixels, output, grid, prefix) if decides(output) else None,
        removable=np.arange(length) >= prefix,
    )


def _grid(model: Any, pixels: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of patches; none where the model does not say how large they are."""
    patch = getattr(model.config, "patch_size", None)
    if patch is None:
        return 0, 0
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return pixels.shape[-2] // height, pixels.shape[-1] // width


def _look_at_boxes(model: Any, processor: Any, path: str) -> Looked:
    """What a detector finds; its positions are the patches, and what comes before and after them."""
    boxes = look_for_boxes(model, processor, path)
    length = boxes.seen[0].shape[-1]
    grid = boxes.grid or (1, length)
    more = length - grid[0] * grid[1]  # the class token, then patches, then box queries, of YOLOS
    labels = place_labels(grid[0], grid[1], min(more, 1)) + [f"[box {number}]" for number in range(more - 1)]
    answer = ", ".join(f"{each.label} {digits(each.score)}" for each in boxes.found) or "nothing found"
    seen = boxes.seen.over(length)
    return Looked("image", labels, seen, answer, picture=boxes.picture, grid=grid, found=boxes.found)
