"""What happened in training, how good it is, and how far an explanation explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from regard.errors import ShapeError
from regard.inspection.plots.drawing import (
    BASELINE,
    COLOURS,
    DASHES,
    MAP,
    MODEL,
    Target,
    as_it_is,
    drawable,
    finish,
    label_axes,
    label_ticks,
    new_figure,
)
from regard.inspection.report.content import Confusion, Curve, Metric
from regard.inspection.report.measures import number


def faithfulness(found: Any, title: str | None = None, *, path: Target = None) -> Figure:
    """The score as the most important inputs go, and as they alone are kept, beside random rankings.

    Args:
        found: A `Faithfulness`.
        title: Above both.
        path: Where to write the figure, if at all.
    """
    figure = new_figure(9, 3.6)
    for axes, name, mine, others in zip(
        figure.subplots(1, 2, sharey=True),
        ("taken away", "kept alone"),
        (found.deletion, found.insertion),
        (found.random_deletion, found.random_insertion),
        strict=True,
    ):
        shares = 100 * found.shares
        low, high = np.quantile(others, (0.025, 0.975), axis=0)
        axes.fill_between(shares, low, high, color=BASELINE, alpha=0.5, label="95 % of random rankings")
        axes.plot(shares, others.mean(0), color="#707070", linestyle="--", label="their mean")
        axes.plot(shares, mine, color=MODEL, marker="o", label="this ranking")
        axes.axhline(found.whole, color="black", linewidth=0.8, linestyle=":", label="all inputs")
        label_axes(axes, x=f"most important {name} (%)", y="score" if name == "taken away" else "")
    axes.legend(fontsize=8)
    if title:
        figure.suptitle(drawable(title), **as_it_is())
    return finish(figure, path)


def training_curves(curves: Sequence[Curve], *, path: Target = None) -> Figure:
    """The course of training, a panel for each of `curves`.

    Raises:
        ShapeError: no curves.
    """
    if not curves:
        raise ShapeError("training_curves: need at least one curve; got none; give the run's curves.")
    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(5.2 * columns, 3.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, curve in zip(panels, curves, strict=False):
        for index, points in enumerate(curve.series.values()):
            x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
            style = {"color": COLOURS[index % 7], "linestyle": DASHES[index % 7]}
            axes.plot(x, y, marker="o" if len(points) <= 15 else "", markersize=4, **style)
        axes.grid(alpha=0.3)
        label_axes(axes, x=curve.x_label, y=curve.y_label, title=curve.title)
        if curve.series:
            legend = axes.legend(axes.lines, [drawable(name) for name in curve.series], frameon=False)
            for text in legend.get_texts():
                text.set(**as_it_is())
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return finish(figure, path)


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
        "weight on the first": history.first,
    }
    if history.drift:
        measures["drift from the start"] = history.drift
    figure = new_figure(float(np.clip(2.6 * layers, 4.5, 16)) + 1.4, 2.1 * len(measures))
    grid = figure.subplots(len(measures), layers, squeeze=False, sharex=True, sharey="row")
    for row, (name, values) in zip(grid, measures.items(), strict=True):
        for layer, axes in enumerate(row):
            _draw_heads(axes, history.steps, [step[layer] for step in values])
            label_axes(axes, y=name if layer == 0 else "", title=f"layer {layer}" if axes is grid[0, layer] else "")
    figure.align_ylabels()
    figure.supxlabel("training steps (batches)", fontsize=10)
    most = max(grid[0], key=lambda axes: len(axes.lines))
    if len(most.lines) <= len(COLOURS):
        figure.legend(handles=most.lines, loc="outside right upper", frameon=False, fontsize=8)
    if title:
        figure.suptitle(drawable(title), **as_it_is())
    return finish(figure, path)


def _draw_heads(axes: Axes, steps: Sequence[int], values: Any) -> None:
    """A line for each head of `(steps, heads)`."""
    for head, line in enumerate(np.asarray(values, np.float64).T):
        style: dict[str, Any] = {"color": COLOURS[head % 7], "linestyle": DASHES[head % 7], "linewidth": 1.3}
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
    figure = new_figure(side + 2.2, side + 1.2)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=MAP, norm=Normalize(0, 1))
    label_ticks(axes.xaxis, confusion.labels, rotation=90 if n > 4 else 0)
    label_ticks(axes.yaxis, confusion.labels)
    if n <= 15:
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if shares[row, column] > 0.55 else "black"
            text = f"{count}\n{100 * shares[row, column]:.1f} %"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    label_axes(axes, x="predicted", y="true")
    figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8)
    return finish(figure, path)


def metric_bars(metrics: Sequence[Metric], *, path: Target = None) -> Figure:
    """Each measure of the model, with its interval, beside the same measure of each baseline.

    Raises:
        ShapeError: no metrics.
    """
    if not metrics:
        raise ShapeError("metric_bars: need at least one metric; got none; give the report's metrics.")
    heights = [1 + len(metric.baselines) for metric in metrics]
    figure = new_figure(7.2, 0.32 * sum(heights) + 0.85 * len(metrics) + 0.2)
    panels = figure.subplots(len(metrics), 1, squeeze=False, height_ratios=heights).ravel()
    for axes, metric in zip(panels, metrics, strict=True):
        names = ["this model", *metric.baselines]
        values = [metric.value, *metric.baselines.values()]
        lengths = [value if np.isfinite(value) else 0.0 for value in values]
        interval = metric.interval if metric.interval is not None and np.isfinite(metric.interval).all() else None
        axes.barh(range(len(names)), lengths, color=[MODEL] + [BASELINE] * (len(names) - 1), height=0.7)
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
        label_ticks(axes.yaxis, names)
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        direction = "higher is better" if metric.higher_is_better else "lower is better"
        axes.set_title(drawable(f"{metric.name} ({direction})"), loc="left", fontsize=10, **as_it_is())
    return finish(figure, path)
