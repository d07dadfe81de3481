"""Runs side by side: what was set otherwise, what came of it, and which rows are answered otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from regard._spoken import phrase
from regard.errors import ConfigError, DataError
from regard.finetuning.data.json_lines import objects
from regard.finetuning.reporting.titles import title
from regard.finetuning.runs.run import DRAWS, METRICS, PREDICTIONS, Run
from regard.finetuning.tasks.targets.intervals import percentiles
from regard.inspection.report.content import Metric, Report, Table, Verdict
from regard.inspection.report.measures import number, write
from regard.inspection.report.verdict import apart, beside

IRRELEVANT = ("output", "report.", "search.", "monitor.")
"""Settings that do not touch what a model learns."""
SHOWN = 200
"""Characters of an input on the page."""
ROWS = 50
"""Rows that are answered otherwise on the page."""
LABELS = 100
"""Labels whose F1 is on the page."""

Row = dict[str, Any]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """One measure of all runs.

    Attributes:
        name: as in `metrics.json`.
        values: of each run; None where it was not measured.
        intervals: 95 % intervals of the values.
        differences: of each run's value from the first's; None for the first.
        difference_intervals: 95 % intervals of the differences, over resamples of the rows that are the same for both
            (a paired bootstrap).
        higher_is_better: which way it runs.
    """

    name: str
    values: list[float | None]
    intervals: list[Interval | None]
    differences: list[float | None]
    difference_intervals: list[Interval | None]
    higher_is_better: bool = True


@dataclass(frozen=True)
class Change:
    """A row that some runs have right and others wrong: what went in, the truth, and each run's answer."""

    given: Any
    truth: Any
    answers: list[Any]
    right: list[bool]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: their names; the first is the one that others are compared with.
        task: that they all learned.
        split: that was measured, `test` or `validation`.
        rows: that were measured, the same for all.
        settings: dotted key -> its value in each run, where they differ.
        measures: side by side, the headline first.
        classes: label -> F1 of each run, where labels were scored.
        changes: the rows that are not right or wrong in all runs alike; None where no row is right or wrong by itself.
    """

    runs: list[str]
    task: str
    split: str
    rows: int
    settings: dict[str, list[Any]]
    measures: list[Measure]
    classes: dict[str, list[float | None]]
    changes: list[Change] | None

    @property
    def verdicts(self) -> list[Verdict]:
        """How each run but the first stands to the first, by the headline."""
        first, names = self.measures[0], self.runs
        return [
            beside(_metric(first, n), names[n], names[0])
            for n in range(1, len(names))
            if first.values[n] is not None and first.values[0] is not None
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "verdicts": [verdict.sentence for verdict in self.verdicts]}

    def report(self) -> Report:
        """Return the page's content."""
        found = self.verdicts
        verdict = Verdict(found[0].outcome, found[0].sentence, [each.sentence for each in found[1:]]) if found else None
        measured = "held-out" if self.split == "test" else "validation"
        return Report(
            title=" beside ".join(self.runs),
            summary=f"{self.task}, measured on the same {self.rows:,} {measured} rows.",
            facts=[],
            metrics=[],
            verdict=verdict,
            tables=[table for table in self.tables() if table.rows],
        )

    def tables(self) -> list[Table]:
        """Return measures, labels, settings and changed rows as tables of texts."""
        changes = [
            [str(each.given)[:SHOWN], _shown(each.truth), *map(_shown, each.answers)]
            for each in (self.changes or [])[:ROWS]
        ]
        classes, apart = self.classes, _most_apart(self.classes)
        fewer = f"; the {len(apart)} of {len(classes)} that differ most" if len(apart) < len(classes) else ""
        total = len(self.changes or [])
        more = f"; the first {ROWS} of {total}" if total > ROWS else ""
        return [
            Table("Measures", ["measure", *self.runs, *_columns(self.runs)], [*map(_measure_row, self.measures)]),
            Table(f"F1 of each label{fewer}", ["label", *self.runs], [[k, *map(_plain, classes[k])] for k in apart]),
            Table(
                "Settings that differ",
                ["setting", *self.runs],
                [[key, *map(_shown, values)] for key, values in self.settings.items()],
            ),
            Table(f"Rows that one has right and another wrong{more}", ["input", "truth", *self.runs], changes),
        ]


def compare(*runs: Run | str | Path) -> Comparison:
    """Put runs of one task, measured on the same rows, side by side.

    Args:
        runs: two or more, or their directories; all are compared with the first.

    Returns:
        The settings that differ, the measures with paired intervals of their differences, the labels, and the rows that
        one has right and another wrong.

    Raises:
        ConfigError: there is but one run, or they learned other tasks or were measured on other rows.
        DataError: one of them is no finished run.

    Example:
        >>> found = compare("runs/first", "runs/second")  # doctest: +SKIP
        >>> print(found.verdicts[0].sentence)  # doctest: +SKIP
        second is better than first: accuracy 91.2 % against 88.0 %; 3.2 points more (95 % interval 1.1 to 5.4).
    """
    opened = [Run.load(run) for run in runs]
    if len(opened) < 2:
        raise ConfigError(f"compare: need at least two runs; got {len(opened)}; name another.")
    for run in opened:
        if not (run.path / METRICS).is_file() or not (run.path / PREDICTIONS).is_file():
            raise DataError(
                f"{run.path}: need a measured run; got one without {METRICS} or {PREDICTIONS}; go on with 'regard "
                "finetune --resume'."
            )
    _require_one_task(opened)
    rows = [_read(run) for run in opened]
    _require_same_rows(opened, rows)
    metrics = [_metrics_of(run) for run in opened]
    return Comparison(
        runs=_names(opened),
        task=opened[0].config.task,
        split=metrics[0]["split"],
        rows=len(rows[0]),
        settings=_settings(opened),
        measures=_measures(opened),
        classes=_classes([each.get("classes", {}) for each in metrics]),
        changes=_changes(opened, rows),
    )


def _metrics_of(run: Run) -> dict[str, Any]:
    found = run.metrics
    if not isinstance(found.get("split"), str) or not isinstance(found.get("classes", {}), dict):
        raise DataError(
            f"{run.path / METRICS}: need what a run measured, as it wrote it; got something else; put back what it "
            "was, or measure again."
        )
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """Their folders' names, or all of their paths where names are alike."""
    names = [run.path.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _require_one_task(runs: Sequence[Run]) -> None:
    first = runs[0]
    for other in runs[1:]:
        if other.config.task != first.config.task:
            raise ConfigError(
                f"compare: need runs of one task; got {first.config.task} in {first.path} and {other.config.task} in "
                f"{other.path}; name runs of the same."
            )


def _read(run: Run) -> list[Row]:
    return list(objects(run.path / PREDICTIONS))


def _require_same_rows(runs: Sequence[Run], rows: Sequence[list[Row]]) -> None:
    """Refuse runs that were measured on other rows, or on the same in another order: no pairs can be made of them."""
    asked = [[_asked(row, run) for row in each] for run, each in zip(runs, rows, strict=True)]
    for run, each in zip(runs[1:], asked[1:], strict=True):
        if each != asked[0]:
            shared = len(set(each) & set(asked[0]))
            raise ConfigError(
                f"compare: need runs measured on the same rows in the same order; got {len(asked[0])} rows in "
                f"{runs[0].path} and {len(each)} in {run.path}, {shared} of them in both; measure both on one file in "
                "data.test."
            )


def _asked(row: Row, run: Run) -> str:
    """What a row is, whatever was answered."""
    return json.dumps([row.get(key) for key in (run.input, "truth", "beside")], sort_keys=True)


def _settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    flat = [run.config.flat() for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each if not key.startswith(IRRELEVANT))
    values = {key: [each.get(key) for each in flat] for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def _measures(runs: Sequence[Run]) -> list[Measure]:
    metrics, draws = [run.metrics for run in runs], [_draws(run.path) for run in runs]
    names = dict.fromkeys(k for each in metrics for k, v in each.items() if isinstance(v, float) and k != "rows")
    found = []
    for name in names:
        values = [each.get(name) for each in metrics]
        paired = [None, *(_paired(name, draws[0], each) for each in draws[1:])]
        apart = [None, *(_minus(value, values[0]) for value in values[1:])]
        intervals = [_interval(each.get("intervals_95", {}).get(name)) for each in metrics]
        found.append(Measure(name, values, intervals, apart, paired, name not in metrics[0].get("lower_is_better", [])))
    return found


def _minus(value: float | None, first: float | None) -> float | None:
    return None if value is None or first is None else round(value - first, 6)


def _draws(path: Path) -> dict[str, np.ndarray]:
    if not (path / DRAWS).is_file():
        return {}
    try:
        with (path / DRAWS).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return dict(kept)
    except (ValueError, EOFError, BadZipFile):
        raise DataError(
            f"{path / DRAWS}: need resamples as a run writes them; got a file that cannot be read; put back what it "
            "was, or delete it: intervals of differences are left out then."
        ) from None


def _paired(name: str, first: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> Interval | None:
    if name not in first or name not in other or first[name].shape != other[name].shape:
        return None
    low, high = percentiles(other[name] - first[name])
    return round(low, 6), round(high, 6)


def _interval(bounds: Sequence[float] | None) -> Interval | None:
    return (bounds[0], bounds[1]) if bounds else None


def _classes(each: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    labels = dict.fromkeys(label for classes in each for label in classes)
    return {label: [classes[label]["f1"] if label in classes else None for classes in each] for label in labels}


def _most_apart(classes: dict[str, list[float | None]]) -> list[str]:
    """Return the labels whose F1 differs most among the runs, all of them if they are few; in their order."""

    def apart(label: str) -> float:
        known = [value for value in classes[label] if value is not None]
        return max(known) - min(known) if known else 0.0

    chosen = set(sorted(classes, key=apart, reverse=True)[:LABELS])
    return [label for label in classes if label in chosen]


def _changes(runs: Sequence[Run], rows: Sequence[list[Row]]) -> list[Change] | None:
    """Return the rows that are right in some runs alone."""
    found = []
    for together in zip(*rows, strict=True):
        right = [_is_right(row) for row in together]
        if None in right:
            return None
        if len(set(right)) > 1:
            first = together[0]
            answers = [_answer(row) for row in together]
            found.append(Change(first.get(runs[0].input), first["truth"], answers, [bool(each) for each in right]))
    return found


def _answer(row: Row) -> Any:
    return row.get("predicted", row.get("output"))


def _is_right(row: Row) -> bool | None:
    """Tell whether a row's answer is the truth; None where answers are not right or wrong but near or far."""
    answer, truth = _answer(row), row.get("truth")
    if isinstance(answer, list) and isinstance(truth, list):
        return set(truth) == set(answer)
    return answer == truth if isinstance(answer, str) and isinstance(truth, str) else None


# ---- in words --------------------------------------------------------------------------------------------------------


def _metric(measure: Measure, run: int) -> Metric:
    """A run's measure with the first run's as its only rival."""
    value, first, interval = measure.values[run], measure.values[0], measure.difference_intervals[run]
    assert value is not None
    assert first is not None
    differences = {"first": interval} if interval else {}
    kinds = {"higher_is_better": measure.higher_is_better, "differences": differences}
    return Metric(title(measure.name), value, measure.intervals[run], {"first": first}, **kinds)  # type: ignore[arg-type]


def _columns(runs: Sequence[str]) -> list[str]:
    return [f"{run} minus {runs[0]} (95 % interval)" for run in runs[1:]]


def _measure_row(measure: Measure) -> list[str]:
    name = title(measure.name)
    metric = Metric(name, 0.0)
    values = ["–" if value is None else write(name, value) for value in measure.values]
    apart_by = [
        _with_interval(metric, value, interval)
        for value, interval in zip(measure.differences[1:], measure.difference_intervals[1:], strict=True)
    ]
    return [name, *values, *apart_by]


def _with_interval(metric: Metric, value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "–"
    return apart(metric, value) + (
        f" ({phrase(' to ').join(apart(metric, bound) for bound in interval)})" if interval else ""
    )


def _plain(value: float | None) -> str:
    return "–" if value is None else number(value)


def _shown(value: Any) -> str:
    """A setting or an answer as a text."""
    listed = ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
    return "not set" if listed is None else str(listed)[:SHOWN]
