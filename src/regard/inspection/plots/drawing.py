"""What all pictures share: colours, labels that any text may be, maps of queries and keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from regard._backends import to_numpy
from regard._files import whole
from regard.errors import ShapeError
from regard.inspection.plots import fonts

MAX_CELLS = 512  # rows or columns of one heat map, about as many as it has pixels
MAX_GRID_CELLS = 64  # the same in a grid of heads
MAX_TOKENS = 600  # up to which a text is written out
MAX_LABELS = 40  # tick labels along one side

Target = str | os.PathLike[str] | BinaryIO | None  # where a figure is written, if at all

# Okabe and Ito's, the yellow darkened so that it can be seen on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b39b00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.", (0, (8, 2, 1, 2)), (0, (4, 2)), (0, (1, 3)))
MODEL, BASELINE = "#0072b2", "#b0b0b0"
MAP = "Blues"


def drawable(text: str) -> str:
    """`text` on one line, with a box for each character that no font at hand can draw."""
    spaced = "".join(" " if character.isspace() else character for character in text)
    return "".join(sign if fonts.has(sign) else "\N{WHITE SQUARE}" for sign in spaced)


def as_it_is(first_family: str = fonts.OWN) -> dict[str, Any]:
    """Arguments that make Matplotlib draw a text as it is: no formulas between dollars, no missing glyphs."""
    return {"parse_math": False, "family": fonts.families(first_family)}


def label_axes(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    axes.set_xlabel(drawable(x), **as_it_is())
    axes.set_ylabel(drawable(y), **as_it_is())
    if title:
        axes.set_title(drawable(title), **as_it_is())


def label_ticks(axis: Any, labels: Sequence[str], **options: Any) -> None:
    """At most `MAX_LABELS` of `labels`, evenly spaced, where each of them belongs."""
    every = -(-len(labels) // MAX_LABELS)
    axis.set_ticks(np.arange(0, len(labels), every))
    axis.set_ticklabels([drawable(label) for label in labels[::every]], **as_it_is(), **options)


def finish(figure: Figure, path: Target) -> Figure:
    if isinstance(path, str | os.PathLike):
        with whole(path) as aside:
            figure.savefig(aside)
    elif path is not None:
        figure.savefig(path)
    return figure


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def block_edges(length: int, count: int) -> np.ndarray:
    """Where `count` nearly equal blocks of `length` begin."""
    return np.arange(count) * length // count


def pool(weights: Any, rows: int, columns: int) -> np.ndarray:
    """Block means of the last two axes; a lazy matrix pools itself, and is never made whole."""
    height, width = weights.shape[-2:]
    if (rows, columns) == (height, width):
        return to_numpy(weights.dense() if hasattr(weights, "dense") else weights)
    if hasattr(weights, "pool"):
        return to_numpy(weights.pool(rows, columns, reduce="mean"))
    row_edges, column_edges = block_edges(height, rows), block_edges(width, columns)
    sums = np.add.reduceat(to_numpy(weights), row_edges, axis=-2, dtype=np.float64)
    sums = np.add.reduceat(sums, column_edges, axis=-1)
    return sums / np.outer(np.diff(row_edges, append=height), np.diff(column_edges, append=width))


def shrink(weights: Any, most: int) -> np.ndarray:
    height, width = weights.shape[-2:]
    return pool(weights, min(height, most), min(width, most))


def check_dimensions(who: str, weights: Any, allowed: tuple[int, ...], shape: str, remedy: str) -> None:
    if len(weights.shape) not in allowed or 0 in weights.shape:
        raise ShapeError(
            f"{who}: need weights of shape {shape}, none of it empty; got {tuple(weights.shape)}; {remedy}."
        )


def check_labels(who: str, side: str, labels: Sequence[str] | None, length: int) -> None:
    if labels is not None and len(labels) != length:
        raise ShapeError(f"{who}: need one of {side} for each of {length} positions; got {len(labels)}; give {length}.")


def position_label(word: str, length: int, shown: int) -> str:
    if shown == length:
        return word
    size = length // shown if length % shown == 0 else f"about {length / shown:.1f}"
    return f"{word} (means over blocks of {size} positions)"


def draw_map(axes: Axes, values: np.ndarray, shape: tuple[int, int], norm: Normalize) -> AxesImage:
    """`values` on axes that count the positions of a matrix of `shape`, however few cells there are."""
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    return axes.imshow(values, cmap=MAP, norm=norm, extent=extent, interpolation="nearest", aspect="auto")


def top(values: np.ndarray) -> float:
    """Where a scale of shares ends: at the largest, but not below twice what each had if all had the same, so that
    what is nearly even is drawn in the middle of the scale, and not as if it were strong."""
    finite = values[np.isfinite(values)]
    return max(float(finite.max()), 2 * float(finite.mean())) if finite.size and finite.max() > 0 else 1.0


def scale(values: np.ndarray) -> Normalize:
    """Colour by the square root of the weight, so that small weights can be told from none."""
    return PowerNorm(0.5, vmin=0.0, vmax=top(values))


def linear(values: np.ndarray) -> Normalize:
    """Colour by the share itself, from 0; where some are negative, on both sides of it."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() < 0:
        most = float(np.abs(finite).max())
        return Normalize(-most, most)
    return Normalize(0.0, top(values))


def labelled_map(
    figure: Figure,
    values: np.ndarray,
    shape: tuple[int, int],
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
    norm: Normalize,
    unit: str,
    title: str | None,
) -> Axes:
    """A figure's one map of queries and keys, with their tokens and a scale."""
    axes = figure.add_subplot()
    image = draw_map(axes, values, shape, norm)
    x, y = position_label("key", shape[1], values.shape[1]), position_label("query", shape[0], values.shape[0])
    label_axes(axes, x=x, y=y, title=title or "")
    if column_labels is not None:
        label_ticks(axes.xaxis, column_labels, rotation=90, fontsize=8)
    if row_labels is not None:
        label_ticks(axes.yaxis, row_labels, fontsize=8)
    figure.colorbar(image, ax=axes, label=unit, shrink=0.8)
    return axes
