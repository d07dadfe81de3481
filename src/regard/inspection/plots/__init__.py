"""Numbers in, pictures out: Matplotlib figures of weights, tokens, training and results.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global state, and writes it too
where a `path` is given (the ending chooses the format: png, svg, pdf). Colours are safe for colour-blind readers.
"""

from regard.inspection.plots.pictures import boxes, picture_rows
from regard.inspection.plots.tokens import image_overlay, image_overlays, tokens, words_in_time
from regard.inspection.plots.training import attention_history, confusion, faithfulness, metric_bars, training_curves
from regard.inspection.plots.weights import alignment, effects, entropy_by_layer, head_grid, heat_map

__all__ = [
    "alignment",
    "attention_history",
    "boxes",
    "confusion",
    "effects",
    "entropy_by_layer",
    "faithfulness",
    "head_grid",
    "heat_map",
    "image_overlay",
    "image_overlays",
    "metric_bars",
    "picture_rows",
    "tokens",
    "training_curves",
    "words_in_time",
]
