"""Where the marks of the page's charts go: plain numbers, which the template draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from regard._spoken import tell
from regard.inspection.report.content import Curve, Metric
from regard.inspection.report.measures import is_share, number, write

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 54, 16, 14, 44  # margins inside which the axes lie


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One series: its path in the drawing, its dots where they are few, and its course in words."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    course: str


@dataclass(frozen=True)
class LineChart:
    curve: Curve
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True)
class Bar:
    """One bar between the shares `start` and `stop` of the width, one of which is at `zero`; its interval."""

    name: str
    value: str
    start: float
    stop: float
    zero: float = 0.0
    low: float | None = None
    high: float | None = None
    is_model: bool = False


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that lie within `low` and `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _tick_label(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-").replace("-", "\u2212")
    return f"{value:,.12g}".replace(",", "\u202f").replace("-", "\u2212")


def _finite(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _bounds(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    return low, high


def _course(points: list[tuple[float, float]]) -> str:
    """Where the series starts, ends and turns, in words: the chart's text alternative."""
    if not points:
        return tell("no finite points")
    if len(points) == 1:
        return number(points[0][1])
    parts = [f"{number(points[0][1])} → {number(points[-1][1])}"]
    for word, extreme in (("lowest", min), ("highest", max)):
        x, y = extreme(points, key=lambda point: point[1])
        if y not in (points[0][1], points[-1][1]):
            parts.append(tell(f"{word} {number(y)} at {_tick_label(round(x, 3))}", word=True))
    return ", ".join(parts)


def line_chart(curve: Curve) -> LineChart | None:
    """The drawing of `curve`, or None where it has no finite point."""
    finite = {name: _finite(points) for name, points in curve.series.items()}
    points = [point for series in finite.values() for point in series]
    if not points:
        return None
    x_low, x_high = _bounds([x for x, _ in points])
    y_low, y_high = _bounds([y for _, y in points])
    pad = 0.04 * (y_high - y_low)
    y_low, y_high = (0.0 if 0 <= y_low < 0.4 * y_high else y_low - pad), y_high + pad

    def place_x(x: float) -> float:
        return round(LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 2)

    def place_y(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 2)

    lines = []
    for name, series in finite.items():
        dots = [(place_x(x), place_y(y)) for x, y in series]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in dots) if dots else ""
        lines.append(Line(name, path, dots if len(dots) <= 15 else [], _course(series)))
    return LineChart(
        curve=curve,
        lines=lines,
        x_ticks=[Tick(place_x(x), _tick_label(x)) for x in ticks(x_low, x_high)],
        y_ticks=[Tick(place_y(y), _tick_label(y)) for y in ticks(y_low, y_high)],
    )


def bars(metric: Metric) -> list[Bar]:
    """A bar for the model and one for each baseline, on one scale that contains zero and the interval."""
    named = [("this model", metric.value), *metric.baselines.items()]
    interval = metric.interval if metric.interval and all(map(math.isfinite, metric.interval)) else None
    values = [value for _, value in named if math.isfinite(value)] + [0.0, *(interval or ())]
    low, high = min(values), max(values)
    if is_share(metric.name) and 0.3 <= high <= 1:
        high = 1.0
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round((value - low) / span, 4)

    drawn = []
    for name, value in named:
        start, stop = sorted((place(0.0), place(value if math.isfinite(value) else 0.0)))
        drawn.append(Bar(name, write(metric.name, value), start, stop, place(0.0)))
    low_edge, high_edge = map(place, interval) if interval else (None, None)
    drawn[0] = replace(drawn[0], low=low_edge, high=high_edge, is_model=True)
    return drawn
