"""What somebody should know before they rely on a run, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import stdev
from typing import Any

from regard.finetuning.prepared import Prepared
from regard.finetuning.reporting.facts import best_step
from regard.finetuning.runs.run import ATTENTION, Run, is_pretrained
from regard.inspection.history import History
from regard.inspection.report.content import Calibration, ClassScore, Finding, Metric
from regard.inspection.report.measures import is_share, percent, write
from regard.inspection.report.verdict import apart, gains, inside

WIDE = 0.1
"""Width of an interval of a share from which too few rows were measured."""
MISCALIBRATED = 0.05
"""Expected calibration error from which probabilities mislead."""
WEAK = 0.5
"""Share of a label's rows that must be found."""
NAMED = 5


def concerns(
    run: Run, prepared: Prepared, split: str, metrics: Sequence[Metric], shown: dict[str, Any]
) -> list[Finding]:
    """Return what weakens the result: how it was measured, which labels are weak, and how it was trained.

    Args:
        split: that was measured.
        shown: the parts of the report that the task makes.
    """
    told = [
        *_measuring(prepared, split, metrics[0]),
        *_labels(shown.get("classes", [])),
        *_certainty(shown.get("calibration"), prepared),
        *_luck(metrics[0]),
        *_training(run, prepared),
    ]
    return [Finding("warning", each) for each in told]


def _measuring(prepared: Prepared, split: str, first: Metric) -> Iterator[str]:
    if is_share(first.name) and first.interval and first.interval[1] - first.interval[0] > WIDE:
        low, high = (percent(bound) for bound in first.interval)
        yield (
            f"Only {prepared.check.rows[split]:,} rows were measured, so {inside(first)} may as well be {low} as "
            f"{high}: measure more before small differences count."
        )
    if not first.baselines:
        yield "No baseline was measured (report.baselines): whether training was worth it is not known."


def _labels(classes: Sequence[ClassScore]) -> Iterator[str]:
    weak = sorted((each for each in classes if each.support and each.recall < WEAK), key=lambda each: each.recall)
    if weak:
        named = ", ".join(f"'{each.label}' ({percent(each.recall)} of {each.support})" for each in weak[:NAMED])
        more = f" and {len(weak) - NAMED} more" if len(weak) > NAMED else ""
        yield f"It misses most rows of some labels; it finds {named}{more}."
    unseen = [each.label for each in classes if not each.support]
    if unseen:
        named = ", ".join(f"'{label}'" for label in unseen[:NAMED])
        yield f"No measured row has label {named}{' and more' if len(unseen) > NAMED else ''}: nothing is known of it."


def _certainty(calibration: Calibration | None, prepared: Prepared) -> Iterator[str]:
    if calibration is None or calibration.error <= MISCALIBRATED:
        return
    total = sum(count for *_, count in calibration.bins)
    stated, right = (sum(each[n] * each[2] for each in calibration.bins) / total for n in (0, 1))
    which = "surer of itself than it should be" if stated > right else "less sure of itself than it could be"
    hint = "" if prepared.config.options.get("calibrate") else "; options.calibrate: true corrects that"
    yield (
        f"It is {which}: its percentages are off by {percent(calibration.error)} on average "
        f"(it says {percent(stated)}, and {percent(right)} are right){hint}."
    )


def _luck(first: Metric) -> Iterator[str]:
    if len(first.repeats) < 2:
        return
    least = min((gain.value for gain in gains(first)), default=0.0)
    spread = stdev(first.repeats)
    if 0 < least < 2 * spread:
        low, high = (write(first.name, value) for value in (min(first.repeats), max(first.repeats)))
        deviation = apart(first, spread) + (" points" if is_share(first.name) else "")
        yield (
            f"What it is better by is about what {inside(first)} varies by from seed to seed: {low} to {high}, a "
            f"standard deviation of {deviation}."
        )


def _training(run: Run, prepared: Prepared) -> Iterator[str]:
    state = run.state
    validated = [entry["step"] for entry in state["history"] if any(key.startswith("eval_") for key in entry)]
    early = state["steps"] < state.get("planned", state["steps"])
    if len(set(validated)) > 2 and best_step(prepared, state) == max(validated) and not early:
        yield "It was still getting better when training ended: more epochs may help."
    if (run.path / ATTENTION).is_file():
        for each in History.load(run.path / ATTENTION).warnings(is_pretrained(run.path)):
            yield f"For whoever trained it, {each}."
