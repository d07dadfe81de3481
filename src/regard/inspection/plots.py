"""Numbers in, pictures out: Matplotlib figures of weights, tokens, training and results.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global state, and writes it too
where a `path` is given (the ending chooses the format: png, svg, pdf). Colours are safe for colour-blind readers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import FancyBboxPatch

from regard._backends import to_numpy
from regard.errors import ShapeError
from regard.inspection.patches import upsampled
from regard.inspection.report.content import Confusion, Curve, Metric
from regard.inspection.report.measures import number

MAX_CELLS = 512  # rows or columns of one heat map, about as many as it has pixels
MAX_GRID_CELLS = 64  # the same in a grid of heads
MAX_TOKENS = 600  # up to which a text is written out
MAX_LABELS = 40  # tick labels along one side

Target = str | os.PathLike[str] | BinaryIO | None  # where a figure is written, if at all

# Okabe and Ito's, the yellow darkened so that it can be seen on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b39b00", "#56b4e9", "#000000")
_DASHES = ("-", "--", ":", "-.", (0, (8, 2, 1, 2)), (0, (4, 2)), (0, (1, 3)))
_MODEL, _BASELINE = "#0072b2", "#b0b0b0"
_MAP = "Blues"
# After Matplotlib's own font, what is installed of these draws the scripts that it lacks.
_FALLBACKS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Emoji",
    "Arial Unicode MS",
)


def _families(first: str = "DejaVu Sans") -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [first, *(name for name in _FALLBACKS if name in installed)]


def _drawable(text: str) -> str:
    """`text` on one line, with a box for each character that no font at hand can draw."""
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in _families()]
    spaced = "".join(" " if character.isspace() else character for character in text)
    return "".join(c if any(font.get_char_index(ord(c)) for font in fonts) else "\N{WHITE SQUARE}" for c in spaced)


def _plain(first_family: str = "DejaVu Sans") -> dict[str, Any]:
    """Arguments that make Matplotlib draw a text as it is: no formulas between dollars, no missing glyphs."""
    return {"parse_math": False, "family": _families(first_family)}


def _label(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    axes.set_xlabel(_drawable(x), **_plain())
    axes.set_ylabel(_drawable(y), **_plain())
    if title:
        axes.set_title(_drawable(title), **_plain())


def _ticks(axis: Any, labels: Sequence[str], **options: Any) -> None:
    """At most `MAX_LABELS` of `labels`, evenly spaced, where each of them belongs."""
    every = -(-len(labels) // MAX_LABELS)
    axis.set_ticks(np.arange(0, len(labels), every))
    axis.set_ticklabels([_drawable(label) for label in labels[::every]], **_plain(), **options)


def _finish(figure: Figure, path: Target) -> Figure:
    if path is not None:
        figure.savefig(path)
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


# ---- weights ---------------------------------------------------------------------------------------------------------


def _edges(length: int, count: int) -> np.ndarray:
    """Where `count` nearly equal blocks of `length` begin."""
    return np.arange(count) * length // count


def _pooled(weights: Any, rows: int, columns: int) -> np.ndarray:
    """Block means of the last two axes; a lazy matrix pools itself, and is never made whole."""
    height, width = weights.shape[-2:]
    if (rows, columns) == (height, width):
        return to_numpy(weights.dense() if hasattr(weights, "dense") else weights)
    if hasattr(weights, "pool"):
        return to_numpy(weights.pool(rows, columns, reduce="mean"))
    row_edges, column_edges = _edges(height, rows), _edges(width, columns)
    sums = np.add.reduceat(to_numpy(weights), row_edges, axis=-2, dtype=np.float64)
    sums = np.add.reduceat(sums, column_edges, axis=-1)
    return sums / np.outer(np.diff(row_edges, append=height), np.diff(column_edges, append=width))


def _shrunk(weights: Any, most: int) -> np.ndarray:
    height, width = weights.shape[-2:]
    return _pooled(weights, min(height, most), min(width, most))


def _check_dimensions(who: str, weights: Any, allowed: tuple[int, ...], shape: str, remedy: str) -> None:
    if len(weights.shape) not in allowed or 0 in weights.shape:
        raise ShapeError(
            f"{who}: need weights of shape {shape}, none of it empty; got {tuple(weights.shape)}; {remedy}."
        )


def _check_labels(who: str, side: str, labels: Sequence[str] | None, length: int) -> None:
    if labels is not None and len(labels) != length:
        raise ShapeError(f"{who}: need one of {side} for each of {length} positions; got {len(labels)}; give {length}.")


def _position_label(word: str, length: int, shown: int) -> str:
    if shown == length:
        return word
    size = length // shown if length % shown == 0 else f"about {length / shown:.1f}"
    return f"{word} (means over blocks of {size} positions)"


def _draw_map(axes: Axes, values: np.ndarray, shape: tuple[int, int], norm: Normalize) -> AxesImage:
    """`values` on axes that count the positions of a matrix of `shape`, however few cells there are."""
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    return axes.imshow(values, cmap=_MAP, norm=norm, extent=extent, interpolation="nearest", aspect="auto")


def _norm(values: np.ndarray) -> Normalize:
    """Colour by the square root of the weight, so that small weights can be told from none."""
    finite = values[np.isfinite(values)]
    return PowerNorm(0.5, vmin=0.0, vmax=float(finite.max()) if finite.size and finite.max() > 0 else 1.0)


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
    _check_dimensions(who, weights, (2,), "(T, S)", "choose one head, as in weights[0, 3]")
    shape = (int(weights.shape[0]), int(weights.shape[1]))
    _check_labels(who, "row_labels", row_labels, shape[0])
    _check_labels(who, "column_labels", column_labels, shape[1])
    values = _shrunk(weights, MAX_CELLS)
    figure = _figure(7.2, 6.2)
    axes = _labelled_map(figure, values, shape, row_labels, column_labels, _norm(values), "weight", title)
    if shape[0] == shape[1]:
        axes.set_box_aspect(1)
    return _finish(figure, path)


def _labelled_map(
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
    image = _draw_map(axes, values, shape, norm)
    x, y = _position_label("key", shape[1], values.shape[1]), _position_label("query", shape[0], values.shape[0])
    _label(axes, x=x, y=y, title=title or "")
    if column_labels is not None:
        _ticks(axes.xaxis, column_labels, rotation=90, fontsize=8)
    if row_labels is not None:
        _ticks(axes.yaxis, row_labels, fontsize=8)
    figure.colorbar(image, ax=axes, label=unit, shrink=0.8)
    return axes


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
    _check_labels("alignment", "query_labels", query_labels, shape[0])
    _check_labels("alignment", "key_labels", key_labels, shape[1])
    figure = _figure(8.2, 5.6)
    shown, unit = _shrunk(values, MAX_CELLS), "standard deviations above the mean"
    axes = _labelled_map(figure, shown, shape, query_labels, key_labels, Normalize(), unit, title)
    axes.plot(found.keys, found.queries, color=_COLOURS[1], linewidth=1.5, label="path")
    axes.legend(loc="upper right", fontsize=8)
    return _finish(figure, path)


def head_grid(weights: Any, title: str | None = None, *, path: Target = None) -> Figure:
    """Every head of every layer as a small map with its own scale, layers downwards, heads to the right.

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
        _check_dimensions("head_grid", weights, (3, 4), "(layers, heads, T, S) or (heads, T, S)", "index the batch")
        weights = [weights] if len(weights.shape) == 3 else [weights[layer] for layer in range(weights.shape[0])]
    for layer in weights:
        _check_dimensions("head_grid", layer, (3,), "(heads, T, S) in each layer", "index the batch, as in seen[0][0]")
    heads = max(layer.shape[0] for layer in weights)
    side = float(np.clip(11 / heads, 0.45, 1.6))
    figure = _figure(heads * side + 1.0, len(weights) * side + 1.1)
    grid = figure.subplots(len(weights), heads, squeeze=False)
    for row, layer in enumerate(weights):
        maps = _shrunk(layer, MAX_GRID_CELLS)
        for column, axes in enumerate(grid[row]):
            if column >= len(maps):
                axes.set_axis_off()
                continue
            _draw_map(axes, maps[column], (layer.shape[1], layer.shape[2]), _norm(maps[column]))
            axes.set_box_aspect(1)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(str(column), fontsize=9)
            if column == 0:
                axes.set_ylabel(str(row), rotation=0, ha="right", va="center", fontsize=9)
    figure.supxlabel("key in each map; head above the columns", fontsize=10)
    figure.supylabel("layer" if len(weights) > 1 else "query", fontsize=10)
    if title:
        figure.suptitle(_drawable(title), **_plain())
    return _finish(figure, path)


def entropy_by_layer(entropies: Any, *, path: Target = None) -> Figure:
    """The mean entropy of each head (a dot) and of each layer (the line): how widely they spread their attention.

    Shapes:
        entropies (layers, heads), or (layers, heads, T), of which the mean over the T queries is taken; in nats.

    Raises:
        ShapeError: any other shape.
    """
    values = to_numpy(entropies).astype(np.float64)
    _check_dimensions("entropy_by_layer", values, (2, 3), "(layers, heads) or (layers, heads, T)", "index the batch")
    if values.ndim == 3:
        values = values.mean(axis=-1)
    layers, heads = values.shape
    figure = _figure(max(5.0, min(12.0, 0.5 * layers + 3)), 3.8)
    axes = figure.add_subplot()
    spread = np.linspace(-0.22, 0.22, heads) if heads > 1 else np.zeros(1)
    places = np.arange(layers)[:, None] + spread
    axes.scatter(places.ravel(), values.ravel(), s=14, color=_COLOURS[0], alpha=0.7, label="one head", linewidths=0)
    axes.plot(np.arange(layers), values.mean(axis=1), color=_COLOURS[1], marker="o", label="mean of the layer")
    axes.set_xticks(np.arange(0, layers, -(-layers // 24)))
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(values))))
    axes.grid(axis="y", alpha=0.3)
    _label(axes, x="layer", y="entropy (nats)")
    axes.legend(frameon=False)
    return _finish(figure, path)


# ---- tokens ----------------------------------------------------------------------------------------------------------


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
            diverge from zero.
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
    shown = [_drawable(token.strip() or "␣") for token in tokens]
    if len(shown) > MAX_TOKENS:
        return _finish(_profile(shown, values, title), path)
    places, line, column = [], 0, 0.0
    for text in shown:
        if column and column + len(text) > width:
            line, column = line + 1, 0.0
        places.append((column, line))
        column += max(len(text), 4) + 1.4
    high = float(np.nanmax(np.abs(values))) or 1.0
    diverging = bool(np.nanmin(values) < 0)
    norm = Normalize(-high if diverging else 0.0, high)
    figure = _figure(width * 0.098 + 1.4, (line + 1) * 0.52 + (0.9 if title else 0.5))
    axes = figure.add_subplot()
    image = axes.scatter([], [], c=[], cmap="PuOr" if diverging else _MAP, norm=norm)
    for text, value, (left, row) in zip(shown, values, places, strict=True):
        _draw_token(axes, text, value, left, row, image.to_rgba(value))
    axes.set_xlim(-0.5, width + 1)
    axes.set_ylim(line + 0.72, -0.5)
    axes.set_axis_off()
    figure.colorbar(image, ax=axes, label="value", fraction=0.03, pad=0.01)
    if title:
        axes.set_title(_drawable(title), loc="left", **_plain())
    return _finish(figure, path)


def _profile(tokens: Sequence[str], values: np.ndarray, title: str | None, named: int = 12) -> Figure:
    """A long text as a curve: nobody reads thousands of coloured words."""
    length = len(tokens)
    edges = _edges(length, min(length, MAX_CELLS))
    sizes = np.diff(edges, append=length)
    figure = _figure(11, 4.6)
    axes = figure.add_subplot()
    axes.fill_between(
        edges, np.maximum.reduceat(values, edges), step="post", color=_COLOURS[5], alpha=0.6, label="largest of a block"
    )
    mean = np.add.reduceat(values, edges) / sizes
    axes.step(edges, mean, where="post", color=_COLOURS[0], label=f"mean of a block of about {length / len(edges):.1f}")
    top = np.argsort(-values, kind="stable")[:named]
    for rank, place in enumerate(sorted(top)):  # labels share a line each, so that neighbours can be told apart
        at = (length * (rank + 0.5) / len(top), 1.04)
        axes.annotate(
            f"{tokens[place]} ({place})",
            (place, values[place]),
            at,
            textcoords=axes.get_xaxis_transform(),
            rotation=35,
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6},
            **_plain(),
        )
    axes.set_xlim(0, length)
    axes.set_ylim(bottom=min(0.0, float(values.min())))
    _label(axes, x="position of the token", y="value")
    axes.legend(fontsize=8, loc="upper right", framealpha=1)
    if title:
        figure.suptitle(_drawable(title), **_plain())
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
    figure = _figure(9, 4.6)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.imshow(picture, cmap="gray")
        axes.set_axis_off()
    image = right.imshow(upsampled(patches, picture.shape[:2]), cmap="inferno", alpha=0.6)
    figure.colorbar(image, ax=right, label="share", shrink=0.8)
    if title:
        figure.suptitle(_drawable(title), **_plain())
    return _finish(figure, path)


def words_in_time(
    words: Sequence[tuple[str, float, float]],
    received: Any,
    moment: float,
    title: str | None = None,
    *,
    path: Target = None,
) -> Figure:
    """Words over the seconds in which they were said, above what each moment received.

    Args:
        words: Each with its first and its last second.
        received: One number for each moment.
        moment: How long each is, in seconds.
        title: Above it.
        path: Where to write the figure, if at all.
    """
    end = max(last for *_, last in words)
    received = to_numpy(received)
    figure = _figure(11, 3.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.4))
    for place, (word, first, last) in enumerate(words):
        row = place % 3
        above.barh(row, last - first, left=first, height=0.9, color=_COLOURS[place % 2], alpha=0.35)
        above.text((first + last) / 2, row, _drawable(word), ha="center", va="center", fontsize=8, **_plain())
    above.invert_yaxis()
    above.set_yticks([])
    below.plot(np.arange(len(received)) * moment, received, color=_MODEL)
    below.set_xlim(0, end)
    _label(below, x="seconds", y="received")
    if title:
        figure.suptitle(_drawable(title[:120]), fontsize=9, **_plain())
    return _finish(figure, path)


def faithfulness(found: Any, title: str | None = None, *, path: Target = None) -> Figure:
    """The score as the most important inputs go, and as they alone are kept, beside random rankings.

    Args:
        found: A `Faithfulness`.
        title: Above both.
        path: Where to write the figure, if at all.
    """
    figure = _figure(9, 3.6)
    for axes, name, mine, others in zip(
        figure.subplots(1, 2, sharey=True),
        ("taken away", "kept alone"),
        (found.deletion, found.insertion),
        (found.random_deletion, found.random_insertion),
        strict=True,
    ):
        shares = 100 * found.shares
        low, high = np.quantile(others, (0.025, 0.975), axis=0)
        axes.fill_between(shares, low, high, color=_BASELINE, alpha=0.5, label="95 % of random rankings")
        axes.plot(shares, others.mean(0), color="#707070", linestyle="--", label="their mean")
        axes.plot(shares, mine, color=_MODEL, marker="o", label="this ranking")
        axes.axhline(found.whole, color="black", linewidth=0.8, linestyle=":", label="all inputs")
        _label(axes, x=f"most important {name} (%)", y="score" if name == "taken away" else "")
    axes.legend(fontsize=8)
    if title:
        figure.suptitle(_drawable(title), **_plain())
    return _finish(figure, path)


def _draw_token(axes: Axes, text: str, value: float, left: float, row: int, colour: Any) -> None:
    size = max(len(text), 4)
    box = FancyBboxPatch(
        (left, row - 0.27), size, 0.54, boxstyle="round,pad=0.25,rounding_size=0.2", mutation_aspect=0.3
    )
    box.set(facecolor=colour, edgecolor="none")
    axes.add_patch(box)
    ink = "white" if np.dot(colour[:3], (0.2126, 0.7152, 0.0722)) < 0.5 else "black"
    middle = left + size / 2
    axes.text(middle, row, text, color=ink, fontsize=9, ha="center", va="center", **_plain("DejaVu Sans Mono"))
    axes.text(middle, row + 0.47, f"{value:.2f}", color="0.35", fontsize=6.5, ha="center", va="center")


# ---- training and results --------------------------------------------------------------------------------------------


def training_curves(curves: Sequence[Curve], *, path: Target = None) -> Figure:
    """The course of training, a panel for each of `curves`.

    Raises:
        ShapeError: no curves.
    """
    if not curves:
        raise ShapeError("training_curves: need at least one curve; got none; give the run's curves.")
    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure = _figure(5.2 * columns, 3.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, curve in zip(panels, curves, strict=False):
        for index, points in enumerate(curve.series.values()):
            x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
            style = {"color": _COLOURS[index % 7], "linestyle": _DASHES[index % 7]}
            axes.plot(x, y, marker="o" if len(points) <= 15 else "", markersize=4, **style)
        axes.grid(alpha=0.3)
        _label(axes, x=curve.x_label, y=curve.y_label, title=curve.title)
        if curve.series:
            legend = axes.legend(axes.lines, [_drawable(name) for name in curve.series], frameon=False)
            for text in legend.get_texts():
                text.set(**_plain())
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return _finish(figure, path)


def attention_history(history: Any, title: str | None = None, *, path: Target = None) -> Figure:
    """How each head attends over the steps of training: a row for each measure, a column for each layer, a line a head.

    Args:
        history: A `History`, as `AttentionMonitor` keeps it.
        title: Above all panels.
        path: Where to write the figure, if at all.

    Raises:
        ShapeError: nothing was recorded.
    """
    layers = len(history.names)
    if not history.steps:
        raise ShapeError("attention_history: need at least one step; got none; train with the monitor first.")
    measures = {
        "entropy (nats)": history.entropy,
        "largest score": history.largest_score,
        "distance (positions)": history.distance,
    }
    figure = _figure(float(np.clip(2.6 * layers, 4.5, 16)) + 1.4, 6.2)
    grid = figure.subplots(len(measures), layers, squeeze=False, sharex=True, sharey="row")
    for row, (name, values) in zip(grid, measures.items(), strict=True):
        for layer, axes in enumerate(row):
            _draw_heads(axes, history.steps, [step[layer] for step in values])
            _label(axes, y=name if layer == 0 else "", title=f"layer {layer}" if axes is grid[0, layer] else "")
    figure.align_ylabels()
    figure.supxlabel("training steps (batches)", fontsize=10)
    most = max(grid[0], key=lambda axes: len(axes.lines))
    if len(most.lines) <= len(_COLOURS):
        figure.legend(handles=most.lines, loc="outside right upper", frameon=False, fontsize=8)
    if title:
        figure.suptitle(_drawable(title), **_plain())
    return _finish(figure, path)


def _draw_heads(axes: Axes, steps: Sequence[int], values: Any) -> None:
    """A line for each head of `(steps, heads)`."""
    for head, line in enumerate(np.asarray(values, np.float64).T):
        style: dict[str, Any] = {"color": _COLOURS[head % 7], "linestyle": _DASHES[head % 7], "linewidth": 1.3}
        axes.plot(steps, line, marker="o" if len(steps) <= 2 else "", markersize=3, label=f"head {head}", **style)
    axes.grid(alpha=0.3)


def confusion(confusion: Confusion, *, path: Target = None) -> Figure:
    """How often each true label (row) was given each predicted one (column): counts, and colour by share of the row.

    Raises:
        ShapeError: unless the counts are a square with one row for each label.
    """
    counts = np.asarray(confusion.counts, dtype=np.int64)
    n = len(confusion.labels)
    if counts.shape != (n, n) or not n:
        raise ShapeError(f"confusion: need counts of shape ({n}, {n}), one row a label; got {counts.shape}; give both.")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = float(np.clip(0.75 * n, 2.6, 11))
    figure = _figure(side + 2.2, side + 1.2)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=_MAP, norm=Normalize(0, 1))
    _ticks(axes.xaxis, confusion.labels, rotation=90 if n > 4 else 0)
    _ticks(axes.yaxis, confusion.labels)
    if n <= 15:
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if shares[row, column] > 0.55 else "black"
            text = f"{count}\n{100 * shares[row, column]:.1f} %"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    _label(axes, x="predicted", y="true")
    figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8)
    return _finish(figure, path)


def metric_bars(metrics: Sequence[Metric], *, path: Target = None) -> Figure:
    """Each measure of the model, with its interval, beside the same measure of each baseline.

    Raises:
        ShapeError: no metrics.
    """
    if not metrics:
        raise ShapeError("metric_bars: need at least one metric; got none; give the report's metrics.")
    heights = [1 + len(metric.baselines) for metric in metrics]
    figure = _figure(7.2, 0.32 * sum(heights) + 0.85 * len(metrics) + 0.2)
    panels = figure.subplots(len(metrics), 1, squeeze=False, height_ratios=heights).ravel()
    for axes, metric in zip(panels, metrics, strict=True):
        names = ["this model", *metric.baselines]
        values = [metric.value, *metric.baselines.values()]
        lengths = [value if np.isfinite(value) else 0.0 for value in values]
        interval = metric.interval if metric.interval is not None and np.isfinite(metric.interval).all() else None
        axes.barh(range(len(names)), lengths, color=[_MODEL] + [_BASELINE] * (len(names) - 1), height=0.7)
        if interval is not None:
            low, high = interval
            whiskers = [[metric.value - low], [high - metric.value]]
            axes.errorbar([metric.value], [0], xerr=np.maximum(whiskers, 0), color="black", capsize=3, linewidth=1.2)
        for row, value in enumerate(values):
            reach = max(lengths[row], 0.0, interval[1] if row == 0 and interval else 0.0)
            offset = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(number(value), (reach, row), fontsize=9, **offset)
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.margins(x=0.16)
        axes.invert_yaxis()
        _ticks(axes.yaxis, names)
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        direction = "higher is better" if metric.higher_is_better else "lower is better"
        axes.set_title(_drawable(f"{metric.name} ({direction})"), loc="left", fontsize=10, **_plain())
    return _finish(figure, path)
