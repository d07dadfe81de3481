"""Maps of weights, alignments, and how widely heads attend and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from regard._backends import to_numpy
from regard.inspection.patches import span
from regard.inspection.plots.drawing import (
    COLOURS,
    MAX_CELLS,
    MAX_GRID_CELLS,
    Target,
    as_it_is,
    check_dimensions,
    check_labels,
    draw_map,
    drawable,
    finish,
    label_axes,
    label_ticks,
    labelled_map,
    linear,
    new_figure,
    scale,
    shrink,
)


def heat_map(
    weights: Any,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
    *,
    path: Target = None,
) -> Figure:
    """One head's weights: a row for each query, a column for each key, colour by the square root of the weight.

    Args:
        weights: A NumPy array, or a lazy matrix with `shape`, `dense()` and `pool(rows, columns, reduce=)`.
        row_labels: The queries' tokens; at most 40 of them are written.
        column_labels: The keys' tokens.
        title: Above the map.
        path: Where to write the figure, if at all.

    Shapes:
        weights (T, S): T queries, S keys.

    Raises:
        ShapeError: weights that are not one matrix, or labels that are not one for each position.

    Edges:
        Above 512 rows or columns the map shows block means, and its axes say over how many positions.

    Cost:
        O(T S) time and, for a lazy matrix, O(512 x 512) memory beyond what its `pool` needs.
    """
    who = "heat_map"
    check_dimensions(who, weights, (2,), "(T, S)", "choose one head, as in weights[0, 3]")
    shape = (int(weights.shape[0]), int(weights.shape[1]))
    check_labels(who, "row_labels", row_labels, shape[0])
    check_labels(who, "column_labels", column_labels, shape[1])
    values = shrink(weights, MAX_CELLS)
    figure = new_figure(7.2, 6.2)
    axes = labelled_map(
        figure, values, shape, row_labels, column_labels, scale(values), f"weight, {span(values)}", title
    )
    if shape[0] == shape[1]:
        axes.set_box_aspect(1)
    return finish(figure, path)


def alignment(
    found: Any,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    title: str | None = None,
    *,
    path: Target = None,
) -> Figure:
    """What goes with what: the map that an alignment runs through, and its path.

    Args:
        found: An `Alignment`, as `regard.models.alignment.align` gives it.
        query_labels: The queries' words; at most 40 of them are written.
        key_labels: The keys' words.
        title: Above the map.
        path: Where to write the figure, if at all.

    Raises:
        ShapeError: labels that are not one for each position.
    """
    values = to_numpy(found.map)
    shape = (int(values.shape[0]), int(values.shape[1]))
    check_labels("alignment", "query_labels", query_labels, shape[0])
    check_labels("alignment", "key_labels", key_labels, shape[1])
    figure = new_figure(8.2, 5.6)
    shown, unit = shrink(values, MAX_CELLS), "standard deviations above the mean"
    axes = labelled_map(figure, shown, shape, query_labels, key_labels, Normalize(), unit, title)
    axes.plot(found.keys, found.queries, color=COLOURS[1], linewidth=1.5, label="path")
    axes.legend(loc="upper right", fontsize=8)
    return finish(figure, path)


def head_grid(weights: Any, title: str | None = None, *, path: Target = None) -> Figure:
    """Every head of every layer as a small map with its own scale from 0, layers downwards, heads to the right.

    Args:
        weights: An array or a lazy matrix, or a list of one (heads, T, S) for each layer.
        title: Above the grid.
        path: Where to write the figure, if at all.

    Shapes:
        weights (layers, heads, T, S) or (heads, T, S).

    Raises:
        ShapeError: any other shape.
    """
    if not isinstance(weights, list | tuple):
        check_dimensions("head_grid", weights, (3, 4), "(layers, heads, T, S) or (heads, T, S)", "index the batch")
        weights = [weights] if len(weights.shape) == 3 else [weights[layer] for layer in range(weights.shape[0])]
    for layer in weights:
        check_dimensions("head_grid", layer, (3,), "(heads, T, S) in each layer", "index the batch, as in seen[0][0]")
    heads = max(layer.shape[0] for layer in weights)
    side = float(np.clip(11 / heads, 0.45, 1.6))
    figure = new_figure(heads * side + 1.0, len(weights) * side + 1.1)
    grid = figure.subplots(len(weights), heads, squeeze=False)
    for row, layer in enumerate(weights):
        maps = shrink(layer, MAX_GRID_CELLS)
        for column, axes in enumerate(grid[row]):
            if column >= len(maps):
                axes.set_axis_off()
                continue
            draw_map(axes, maps[column], (layer.shape[1], layer.shape[2]), scale(maps[column]))
            axes.set_box_aspect(1)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(str(column), fontsize=9)
            if column == 0:
                axes.set_ylabel(str(row), rotation=0, ha="right", va="center", fontsize=9)
    figure.supxlabel("key in each map; head above the columns;\neach map on its own scale, from 0", fontsize=10)
    figure.supylabel("layer" if len(weights) > 1 else "query", fontsize=10)
    if title:
        figure.suptitle(drawable(title), **as_it_is())
    return finish(figure, path)


def entropy_by_layer(entropies: Any, *, path: Target = None) -> Figure:
    """The mean entropy of each head (a dot) and of each layer (the line): how widely they spread their attention.

    Shapes:
        entropies (layers, heads), or (layers, heads, T), of which the mean over the T queries is taken; in nats.

    Raises:
        ShapeError: any other shape.
    """
    values = to_numpy(entropies).astype(np.float64)
    check_dimensions("entropy_by_layer", values, (2, 3), "(layers, heads) or (layers, heads, T)", "index the batch")
    if values.ndim == 3:
        values = values.mean(axis=-1)
    layers, heads = values.shape
    figure = new_figure(max(5.0, min(12.0, 0.5 * layers + 3)), 3.8)
    axes = figure.add_subplot()
    spread = np.linspace(-0.22, 0.22, heads) if heads > 1 else np.zeros(1)
    places = np.arange(layers)[:, None] + spread
    axes.scatter(places.ravel(), values.ravel(), s=14, color=COLOURS[0], alpha=0.7, label="one head", linewidths=0)
    axes.plot(np.arange(layers), values.mean(axis=1), color=COLOURS[1], marker="o", label="mean of the layer")
    axes.set_xticks(np.arange(0, layers, -(-layers // 24)))
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(values))))
    axes.grid(axis="y", alpha=0.3)
    label_axes(axes, x="layer", y="entropy (nats)")
    axes.legend(frameon=False)
    return finish(figure, path)


def effects(found: Any, title: str | None = None, *, path: Target = None) -> Figure:
    """How much a score changes without each head: a row for each layer, a column for each head.

    Red is a score that falls without it, blue one that rises; the scale reaches as far on both sides of 0. Heads whose
    interval holds 0 are marked with a dot.

    Args:
        found: What `regard.effects` gives of heads.
        title: Above the map.
        path: Where to write the figure, if at all.

    Raises:
        ShapeError: effects of something else than heads.
    """
    check_dimensions("effects", found.effect, (2,), "(layers, heads)", "measure them with of='heads'")
    layers, heads = found.effect.shape
    figure = new_figure(0.42 * heads + 2.4, 0.42 * layers + 1.6)
    axes = figure.add_subplot()
    most = abs(linear(-np.abs(found.effect)).vmin or 1.0)
    image = axes.imshow(found.effect, cmap="RdBu", norm=Normalize(-most, most), aspect="auto")
    unsure = np.argwhere((found.low <= 0) & (found.high >= 0))
    axes.scatter(unsure[:, 1], unsure[:, 0], s=9, color="#404040", linewidths=0)
    axes.set_xticks(np.arange(0, heads, -(-heads // 24)))
    label_ticks(axes.yaxis, [str(layer) for layer in found.layers])
    label_axes(axes, x="head", y="layer", title=title or "")
    figure.colorbar(image, ax=axes, label="change of the score without the head", shrink=0.8)
    return finish(figure, path)
