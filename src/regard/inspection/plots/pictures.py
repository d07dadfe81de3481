"""Pictures with the objects found in them, and pictures in rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from regard._backends import to_numpy
from regard.errors import ShapeError
from regard.inspection.patches import span, upsampled
from regard.inspection.plots.drawing import (
    COLOURS,
    Target,
    as_it_is,
    check_labels,
    drawable,
    finish,
    linear,
    new_figure,
)

MOST = 7
"""Objects with a panel of their own."""


def boxes(picture: Any, found: Sequence[Any], title: str | None = None, *, path: Target = None) -> Figure:
    """A picture with the boxes that were found, and beside it each box with where its query looks.

    Args:
        picture: `(height, width, 3)` or `(height, width)`, numbers in 0..1.
        found: objects with `label`, `score`, `box` (left, top, width and height in fractions of the picture) and
            `patches` `(rows, columns)`, one number for each patch, or None; the surest first.
        title: Above all.
        path: Where to write the figure, if at all.

    Raises:
        ShapeError: Something else than one picture.
    """
    picture = to_numpy(picture)
    if picture.ndim not in (2, 3):
        raise ShapeError(f"boxes: need a picture (height, width, 3); got {picture.shape}; choose one.")
    looking = [each for each in found if each.patches is not None][:MOST]
    columns = min(4, 1 + len(looking))
    rows = -(-(1 + len(looking)) // columns)
    figure = new_figure(2.4 * columns, 2.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(picture, cmap="gray")
    for number, each in enumerate(found):
        _frame(panels[0], each, picture.shape, COLOURS[number % len(COLOURS)])
    _title(panels[0], f"{len(found)} found")
    for number, (axes, each) in enumerate(zip(panels[1:], looking, strict=False)):
        axes.imshow(picture, cmap="gray")
        patches = np.asarray(each.patches)
        axes.imshow(upsampled(patches, picture.shape[:2]), cmap="inferno", alpha=0.6, norm=linear(patches))
        _frame(axes, each, picture.shape, COLOURS[number % len(COLOURS)])
        _title(axes, f"{each.label} {each.score:.2f}\n" + span(patches, "\n"))
    if title:
        figure.suptitle(drawable(title), **as_it_is())
    return finish(figure, path)


def _frame(axes: Axes, each: Any, shape: Sequence[int], colour: str) -> None:
    x, y, width, height = each.box
    corner = (x * shape[1] - 0.5, y * shape[0] - 0.5)
    frame = Rectangle(corner, width * shape[1], height * shape[0], fill=False, edgecolor=colour, linewidth=2)
    axes.add_patch(frame)


def _title(axes: Axes, text: str) -> None:
    axes.set_title("\n".join(map(drawable, text.split("\n"))), fontsize=8, **as_it_is())


def picture_rows(rows: Sequence[Sequence[Any]], labels: Sequence[str], *, path: Target = None) -> Figure:
    """Pictures, a row for each label.

    Args:
        rows: of pictures `(height, width, 3)` or `(height, width)`.
        labels: One for each row.
        path: Where to write the figure, if at all.

    Raises:
        ShapeError: Not as many labels as rows.
    """
    check_labels("picture_rows", "rows", labels, len(rows))
    columns = max(1, *map(len, rows))
    figure = new_figure(1.5 + 0.75 * columns, 0.8 * len(rows))
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, pictures, label in zip(panels, rows, labels, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, picture in zip(line, pictures, strict=False):
            axes.imshow(picture, cmap="gray")
        place = {"transform": line[0].transAxes, "ha": "right", "va": "center", "fontsize": 9}
        line[0].text(-0.15, 0.5, drawable(label), **place, **as_it_is())
    return finish(figure, path)
