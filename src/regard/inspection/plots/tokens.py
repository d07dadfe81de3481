"""Texts, pictures and words in time, under what each of their parts was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from regard import _language
from regard._backends import to_numpy
from regard.errors import ShapeError
from regard.inspection.patches import span, upsampled
from regard.inspection.plots.drawing import (
    BASELINE,
    COLOURS,
    MAP,
    MAX_CELLS,
    MAX_TOKENS,
    MODEL,
    Target,
    as_it_is,
    block_edges,
    check_labels,
    drawable,
    finish,
    label_axes,
    linear,
    new_figure,
    top,
)


def tokens(
    tokens: Sequence[str],
    values: Any,
    title: str | None = None,
    *,
    width: int = 80,
    path: Target = None,
) -> Figure:
    """The text itself, each token on the colour of its value and with the value beneath.

    Args:
        tokens: The tokens, in order.
        values: One number a token: weights, received attention, any relevance. Where some are negative the colours
            diverge from zero; else they begin at zero, and end at the largest or at twice the mean.
        title: Above the text.
        width: Characters in a line, at most.
        path: Where to write the figure, if at all.

    Shapes:
        values (n,): n tokens.

    Raises:
        ShapeError: unless there is one value for each token.

    Edges:
        Beyond 600 tokens, a curve over the positions: mean and largest value of each block, the largest tokens named.
    """
    values = to_numpy(values).astype(np.float64)
    if values.shape != (len(tokens),) or not len(tokens):
        raise ShapeError(
            f"tokens: need one value for each of {len(tokens)} tokens; got shape {values.shape}; give both."
        )
    shown = [drawable(token.strip() or "␣") for token in tokens]
    if len(shown) > MAX_TOKENS:
        return finish(_profile(shown, values, title), path)
    places, line, column = [], 0, 0.0
    for text in shown:
        if column and column + _columns(text) > width:
            line, column = line + 1, 0.0
        places.append((column, line))
        column += _columns(text) + 1.4
    norm = linear(values)
    decimals = _decimals(values)
    figure = new_figure(width * 0.098 + 1.4, (line + 1) * 0.52 + (1.3 if title else 0.7))
    axes = figure.add_subplot()
    image = axes.scatter([], [], c=[], cmap="PuOr" if norm.vmin else MAP, norm=norm)
    for text, value, (left, row) in zip(shown, values, places, strict=True):
        _draw_token(axes, text, f"{value:.{decimals}f}", left, row, image.to_rgba(value))
    axes.set_xlim(-0.5, width + 1)
    axes.set_ylim(line + 0.72, -0.5)
    axes.set_axis_off()
    figure.supxlabel(span(values), fontsize=7, color="0.35")
    figure.colorbar(image, ax=axes, label="value", fraction=0.03, pad=0.01)
    if title:
        axes.set_title("\n".join(_language.wrap(drawable(title), width)[:2]), loc="left", **as_it_is())
    return finish(figure, path)


def _profile(tokens: Sequence[str], values: np.ndarray, title: str | None, named: int = 12) -> Figure:
    """A long text as a curve: nobody reads thousands of coloured words."""
    length = len(tokens)
    edges = block_edges(length, min(length, MAX_CELLS))
    sizes = np.diff(edges, append=length)
    figure = new_figure(11, 4.6)
    axes = figure.add_subplot()
    axes.fill_between(
        edges, np.maximum.reduceat(values, edges), step="post", color=COLOURS[5], alpha=0.6, label="largest of a block"
    )
    mean = np.add.reduceat(values, edges) / sizes
    axes.step(edges, mean, where="post", color=COLOURS[0], label=f"mean of a block of about {length / len(edges):.1f}")
    largest = np.argsort(-values, kind="stable")[:named]
    for rank, place in enumerate(sorted(largest)):  # labels share a line each, so that neighbours can be told apart
        at = (length * (rank + 0.5) / len(largest), 1.04)
        axes.annotate(
            f"{tokens[place]} ({place})",
            (place, values[place]),
            at,
            textcoords=axes.get_xaxis_transform(),
            rotation=35,
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6},
            **as_it_is(),
        )
    axes.set_xlim(0, length)
    axes.set_ylim(bottom=min(0.0, float(values.min())))
    label_axes(axes, x="position of the token", y="value")
    axes.legend(fontsize=8, loc="upper right", framealpha=1)
    if title:
        figure.suptitle(drawable(title), **as_it_is())
    return figure


def image_overlay(picture: Any, patches: Any, title: str | None = None, *, path: Target = None) -> Figure:
    """A picture, and beside it the same under what each of its patches was given.

    Args:
        picture: `(height, width, 3)` or `(height, width)`, numbers in 0..1.
        patches: One number for each patch, `(rows, columns)`, as `patches.patch_map` makes them.
        title: Above both.
        path: Where to write the figure, if at all.

    Raises:
        ShapeError: Something else than one picture and one map.
    """
    picture, patches = to_numpy(picture), to_numpy(patches)
    if picture.ndim not in (2, 3) or patches.ndim != 2:
        raise ShapeError(
            f"image_overlay: need a picture (height, width, 3) and a map (rows, columns); got {picture.shape} and "
            f"{patches.shape}; choose one example."
        )
    figure = new_figure(9, 4.6)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.imshow(picture, cmap="gray")
        axes.set_axis_off()
    image = right.imshow(upsampled(patches, picture.shape[:2]), cmap="inferno", alpha=0.6, norm=linear(patches))
    figure.colorbar(image, ax=right, label=f"share, {span(patches)}", shrink=0.8)
    if title:
        figure.suptitle(drawable(title), **as_it_is())
    return finish(figure, path)


def image_overlays(pictures: Any, patches: Any, titles: Sequence[str] | None = None, *, path: Target = None) -> Figure:
    """Several pictures in rows of five, each as red as its patches were given much.

    Args:
        pictures: `(n, height, width, 3)` or `(n, height, width)`, numbers in 0..1.
        patches: One number for each patch of each, `(n, rows, columns)`; each picture has its own scale, which
            begins at 0, ends at the largest or at twice the mean, and is said below.
        titles: Above each.
        path: Where to write the figure, if at all.

    Raises:
        ShapeError: Not as many maps or titles as pictures.
    """
    pictures, patches = to_numpy(pictures), to_numpy(patches)
    if pictures.ndim not in (3, 4) or patches.ndim != 3 or not len(pictures) == len(patches) > 0:
        raise ShapeError(
            f"image_overlays: need pictures (n, height, width) and maps (n, rows, columns); got {pictures.shape} and "
            f"{patches.shape}; choose one map for each picture."
        )
    check_labels("image_overlays", "titles", titles, len(pictures))
    columns = min(5, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = new_figure(1.6 * columns, 2.0 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, picture, given in zip(panels, pictures, patches, strict=False):
        axes.imshow(picture, cmap="gray")
        over = upsampled(given, picture.shape[:2])
        most = top(given)
        axes.imshow(over, cmap="YlOrRd", vmin=0, vmax=1.3 * most, alpha=0.75 * np.clip(over / most, 0, 1))
        axes.text(0.5, -0.03, span(given, "\n"), transform=axes.transAxes, ha="center", va="top", fontsize=6)
    for axes, title in zip(panels, titles or [], strict=False):
        axes.set_title(drawable(title), fontsize=9, **as_it_is())
    for axes in panels:
        axes.set_axis_off()
    return finish(figure, path)


def words_in_time(
    words: Sequence[tuple[str, float, float]],
    received: Any,
    moment: float,
    title: str | None = None,
    *,
    path: Target = None,
) -> Figure:
    """Words over the seconds in which they were said, above what each moment received, from 0.

    What lies behind the last word, such as the silence up to 30 seconds, is not drawn; its share is told.

    Args:
        words: Each with its first and its last second.
        received: One number for each moment.
        moment: How long each is, in seconds.
        title: Above it.
        path: Where to write the figure, if at all.
    """
    end = max(last for *_, last in words)
    received = to_numpy(received)
    drawn = received[: math.ceil(end / moment) + 1]
    figure = new_figure(11, 3.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.4))
    for place, (word, first, last) in enumerate(words):
        row = place % 3
        above.barh(row, last - first, left=first, height=0.9, color=COLOURS[place % 2], alpha=0.35)
        above.text((first + last) / 2, row, drawable(word), ha="center", va="center", fontsize=8, **as_it_is())
    above.invert_yaxis()
    above.set_yticks([])
    below.plot(np.arange(len(drawn)) * moment, drawn, color=MODEL)
    below.axhline(received.mean(), color=BASELINE, linestyle="--", zorder=0)
    below.set_xlim(0, end)
    below.set_ylim(min(0.0, float(drawn.min())), 1.05 * top(drawn))
    behind = 1 - drawn.sum() / max(float(received.sum()), 1e-30)
    said = f"; {behind:.0%} lie behind {end:.1f} s" if behind >= 0.005 else ""
    label_axes(below, x=f"seconds; received {span(drawn, even=received.mean())} (dashed){said}", y="received")
    if title:
        figure.suptitle("\n".join(_language.wrap(drawable(title), 120)[:2]), fontsize=9, **as_it_is())
    return finish(figure, path)


def _decimals(values: np.ndarray) -> int:
    """So many that the largest value has two digits, and two at least."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    return 2 if largest == 0 else max(2, 1 - math.floor(math.log10(largest)))


def _columns(text: str) -> int:
    """How many columns a token takes, with its number beneath it."""
    return max(_language.width(text), 4)


def _draw_token(axes: Axes, text: str, number: str, left: float, row: int, colour: Any) -> None:
    size = _columns(text)
    box = FancyBboxPatch(
        (left, row - 0.27), size, 0.54, boxstyle="round,pad=0.25,rounding_size=0.2", mutation_aspect=0.3
    )
    box.set(facecolor=colour, edgecolor="none")
    axes.add_patch(box)
    ink = "white" if np.dot(colour[:3], (0.2126, 0.7152, 0.0722)) < 0.5 else "black"
    middle = left + size / 2
    axes.text(middle, row, text, color=ink, fontsize=9, ha="center", va="center", **as_it_is("DejaVu Sans Mono"))
    axes.text(middle, row + 0.47, number, color="0.35", fontsize=6.5, ha="center", va="center")
