"""What a report comes to, in a sentence: whether the model is better than what one gets without it, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from regard.inspection.report.content import Metric, Verdict
from regard.inspection.report.measures import is_share, number, points, write

NAMES = ("Matthews", "Pearson", "Spearman")
"""First words of measures that keep their capital inside a sentence."""


@dataclass(frozen=True)
class Gain:
    """How much better the model is than a rival, above 0 whichever way the measure runs, and its 95 % interval."""

    rival: str
    value: float
    low: float
    high: float


def judge(metrics: Sequence[Metric]) -> Verdict | None:
    """Return the verdict by the first measure, beside the rival that comes nearest to the model or is ahead of it."""
    if not metrics:
        return None
    first, found = metrics[0], gains(metrics[0])
    if not found:
        what = "Not compared with any baseline" if math.isfinite(first.value) else "No verdict"
        told = f"{what}: {inside(first)} is {write(first.name, first.value)}."
        return Verdict("alone", told, _details(metrics))
    nearest = min(found, key=lambda gain: gain.value)
    outcome = _outcome(found, nearest)
    return Verdict(outcome, _sentence(first, found, nearest, outcome), _details(metrics))


def beside(metric: Metric, ours: str, theirs: str) -> Verdict:
    """Return how one model stands to another: `metric` has the other as its only baseline."""
    (gain,) = gains(metric) or (None,)
    values = [write(metric.name, value) for value in (metric.value, *metric.baselines.values())]
    told = f"{inside(metric)} {values[0]} against {values[1]}"
    if gain is None:
        return Verdict("alone", f"{ours} and {theirs} cannot be compared: {told}.")
    outcome = "better" if gain.low > 0 else "worse" if gain.high < 0 else "unclear"
    if outcome == "unclear":
        return Verdict(outcome, f"{ours} and {theirs} do not clearly differ: {told}; {_by(metric, gain)}.")
    return Verdict(outcome, f"{ours} is {outcome} than {theirs}: {told}; {_by(metric, gain)}.")


def gains(metric: Metric) -> list[Gain]:
    """Return how much better the model is than each rival, all baselines but those that no model can better."""
    sign = 1 if metric.higher_is_better else -1
    found = []
    for rival, value in metric.baselines.items():
        if rival in metric.ceilings or not (math.isfinite(value) and math.isfinite(metric.value)):
            continue
        gain = sign * (metric.value - value)
        low, high = sorted(sign * bound for bound in _difference(metric, rival))
        found.append(Gain(rival, gain, low, high))
    return found


def _difference(metric: Metric, rival: str) -> tuple[float, float]:
    """The interval of the difference; where none is known, that of the model's own value beside the rival's."""
    if rival in metric.differences:
        return metric.differences[rival]
    low, high = metric.interval or (metric.value, metric.value)
    if not (math.isfinite(low) and math.isfinite(high)):
        low = high = metric.value
    return low - metric.baselines[rival], high - metric.baselines[rival]


def _outcome(found: Sequence[Gain], nearest: Gain) -> str:
    if nearest.value < 0:
        return "worse" if nearest.high < 0 else "unclear"
    return "better" if nearest.value > 0 and all(gain.low > 0 for gain in found) else "unclear"


def _sentence(metric: Metric, found: Sequence[Gain], nearest: Gain, outcome: str) -> str:
    name = inside(metric)
    ours, theirs = (write(metric.name, value) for value in (metric.value, metric.baselines[nearest.rival]))
    if outcome == "better":
        beaten = {1: "the baseline", 2: "both baselines"}.get(len(found), f"all {len(found)} baselines")
        rival = nearest.rival if len(found) == 1 else f"{nearest.rival}, the best of them"
        return f"Better than {beaten}: {name} {ours} against {theirs} for {rival}; {_by(metric, nearest)}."
    if outcome == "worse":
        return f"A baseline wins: {nearest.rival} has {name} {theirs}, this model {ours}; {_by(metric, nearest)}."
    if nearest.value < 0:
        told = f"A baseline is ahead: {nearest.rival} has {name} {theirs}, this model {ours}"
        return f"{told}; {_by(metric, nearest)}, so it may be chance."
    told = f"Not clearly better than the baseline {nearest.rival}: {name} {ours} against {theirs}"
    return f"{told}; {_by(metric, nearest)}, so it may be chance."


def inside(metric: Metric) -> str:
    """The measure's name inside a sentence."""
    word = metric.name.split(" ")[0].split("-")[0]
    plain = word[1:].islower() and word not in NAMES
    return metric.name[:1].lower() + metric.name[1:] if plain else metric.name


def apart(metric: Metric, value: float) -> str:
    """A difference of the measure for reading: shares in points of a hundred."""
    return points(value) if is_share(metric.name) else number(value)


def _by(metric: Metric, gain: Gain) -> str:
    """How far the model is from a rival, with the interval of that in the same direction."""
    more = (gain.value >= 0) == metric.higher_is_better
    sign = 1 if gain.value >= 0 else -1
    low, high = sorted((sign * gain.low, sign * gain.high))
    unit = " points" if is_share(metric.name) else ""
    told = f"{apart(metric, abs(gain.value))}{unit} {'more' if more else 'less'}"
    if low == high:
        return told
    return f"{told} (95 % interval {apart(metric, low)} to {apart(metric, high)})"


def _details(metrics: Sequence[Metric]) -> list[str]:
    """What else somebody who reads the verdict alone should know."""
    headline = min((gain.value for gain in gains(metrics[0])), default=-1.0)
    told = []
    for metric in metrics[1:]:
        behind = min(gains(metric), key=lambda gain: gain.value, default=None)
        if behind and behind.value < 0 <= headline:
            theirs, ours = (write(metric.name, v) for v in (metric.baselines[behind.rival], metric.value))
            told.append(f"By {inside(metric)}, {behind.rival} is ahead: {theirs} against {ours}.")
    first = metrics[0]
    for name in first.ceilings:
        if name in first.baselines:
            told.append(f"No model can better {name}: {write(first.name, first.baselines[name])}.")
    if len(first.repeats) > 1:
        low, high = (write(first.name, value) for value in (min(first.repeats), max(first.repeats)))
        spread = f"{write(first.name, mean(first.repeats))}, standard deviation {apart(first, stdev(first.repeats))}"
        unit = " points" if is_share(first.name) else ""
        told.append(
            f"Trained with {len(first.repeats)} seeds, {inside(first)} is {low} to {high}: mean {spread}{unit}."
        )
    return told
