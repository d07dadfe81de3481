"""What follows training: measure, compare with baselines, explain, and write it all down."""

from __future__ import annotations

import io
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from regard._digits import digits
from regard._files import read_json, remove, whole, write_json, write_text
from regard._spoken import tell
from regard.finetuning.config import Config
from regard.finetuning.data.lines import kind_of
from regard.finetuning.data.tables import TABLES
from regard.finetuning.data.writing import write_jsonl
from regard.finetuning.prepared import Prepared
from regard.finetuning.progress import Display
from regard.finetuning.reporting.concerns import concerns
from regard.finetuning.reporting.environment import hardware, versions
from regard.finetuning.reporting.facts import course, facts, sources
from regard.finetuning.reporting.titles import title
from regard.finetuning.reporting.usage import license_of, programs
from regard.finetuning.runs.run import ATTENTION, CARD, DRAWS, METRICS, MODEL, PREDICTIONS, STATE, Run
from regard.finetuning.tasks import Prediction, Score, get_task
from regard.finetuning.tasks.targets.intervals import percentiles
from regard.finetuning.training.calibration import settle
from regard.finetuning.training.repeats import summarise
from regard.inspection.history import History
from regard.inspection.report.card import Origin, model_card
from regard.inspection.report.content import Curve, Metric, Picture, Report, Table
from regard.inspection.report.measures import write
from regard.inspection.report.verdict import judge

if TYPE_CHECKING:
    from regard.finetuning.progress import Clock


def finish(path: Path, prepared: Prepared, display: Display, clock: Clock) -> Run:
    """Measure the model in a run directory and write metrics, predictions, curves and report."""
    config, spec, run = prepared.config, prepared.check.spec, Run.load(path)
    task, name = get_task(config.task), "test" if "test" in prepared.splits else "validation"
    split = prepared.splits[name]
    with clock("evaluate"):
        fitted = settle(run, prepared, display)
        predictions = task.respond(run.model, run.processor, split[task.INPUT], display)
        scores = task.measure(split, predictions, spec)
    write_jsonl(path / PREDICTIONS, map(task.record, split, predictions))
    keep_draws(path, scores)
    baselines: dict[str, dict[str, Score]] = {}
    if config.report.baselines:
        with clock("baselines"):
            rivals = task.baselines(prepared.splits["train"], split, prepared.processor, spec, config, display)
            baselines = {rival: task.measure(split, answers, spec) for rival, answers in rivals.items()}
    repeated = summarise(path, prepared, {measure: score.value for measure, score in scores.items()})
    with clock("report"):
        metrics = _compared(scores, baselines, repeated, getattr(task, "CEILINGS", ()))
        report = _report(run, prepared, name, predictions, metrics, clock)
        report.tables.extend(_spread(repeated))
        _draw(path, report)
        _write_card(path / MODEL, report, prepared, name, fitted)
    measured = _measured(name, len(split), scores, baselines, clock) | _told(report)
    extra = {"fitted": fitted} if fitted else {}
    write_json(path / METRICS, measured | extra | ({"repeats": repeated} if repeated else {}))
    _close(path, config, clock)
    _tell(display, report, [course(prepared, run.state), *_over_seeds(repeated)])
    return Run(path)


def keep_draws(path: Path, scores: dict[str, Score]) -> None:
    """Keep the measures of the resamples, so that runs on the same rows can be compared in pairs."""
    draws = {measure: score.draws for measure, score in scores.items() if score.draws is not None}
    with whole(path / DRAWS) as aside:
        np.savez_compressed(aside, **cast(Any, draws))


def _compared(
    scores: dict[str, Score],
    baselines: dict[str, dict[str, Score]],
    repeated: dict[str, Any],
    ceilings: Sequence[str],
) -> list[Metric]:
    """Put each measure beside those of the baselines."""
    return [
        Metric(
            title(measure),
            score.value,
            score.interval,
            {rival: of[measure].value for rival, of in baselines.items() if measure in of},
            higher_is_better=score.higher_is_better,
            differences=_differences(score, {rival: of[measure] for rival, of in baselines.items() if measure in of}),
            ceilings=tuple(ceilings),
            repeats=tuple(repeated.get(measure, {}).get("values", ())),
        )
        for measure, score in scores.items()
    ]


def _differences(score: Score, others: dict[str, Score]) -> dict[str, tuple[float, float]]:
    """Return the interval of each difference, over resamples of the rows that are the same for both."""
    return {
        rival: percentiles(score.draws - other.draws)
        for rival, other in others.items()
        if score.draws is not None and other.draws is not None
    }


def _told(report: Report) -> dict[str, Any]:
    """Return what else a report says, for programs."""
    found: dict[str, Any] = {"verdict": asdict(report.verdict)} if report.verdict else {}
    if report.calibration:
        found["calibration"] = asdict(report.calibration)
    if report.classes:
        found["classes"] = {
            each.label: {k: v for k, v in asdict(each).items() if k != "label"} for each in report.classes
        }
    return found


def _measured(
    name: str, rows: int, scores: dict[str, Score], baselines: dict[str, dict[str, Score]], clock: Clock
) -> dict[str, Any]:
    def values(of: dict[str, Score]) -> dict[str, float]:
        return {measure: round(score.value, 6) for measure, score in of.items()}

    return {
        "split": name,
        "rows": rows,
        **values(scores),
        "intervals_95": {measure: [round(x, 6) for x in s.interval] for measure, s in scores.items() if s.interval},
        "lower_is_better": [measure for measure, s in scores.items() if not s.higher_is_better],
        "baselines": {rival: values(of) for rival, of in baselines.items()},
        "seconds": clock.seconds,
    }


def _spread(repeated: dict[str, Any]) -> list[Table]:
    """Return a table of how the measures vary with the seed."""
    if not repeated:
        return []
    rows = [
        [title(measure), digits(found["mean"]), digits(found["deviation"]), *map(digits, found["values"])]
        for measure, found in repeated.items()
        if measure != "seeds"
    ]
    seeds = repeated["seeds"]
    return [Table(f"Over {len(seeds)} seeds", ["measure", "mean", "deviation", *(f"seed {s}" for s in seeds)], rows)]


def _close(path: Path, config: Config, clock: Clock) -> None:
    """Mark the run as finished."""
    if not config.train.keep_checkpoints:
        remove(path / "checkpoints")
    on = {"versions": versions(config) | {"python": platform.python_version()}, "hardware": hardware()}
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        path / STATE,
        read_json(path / STATE) | {"finished": True, "ended": ended, "seconds": clock.seconds, **on},
    )


def _report(
    run: Run,
    prepared: Prepared,
    name: str,
    predictions: Sequence[Prediction],
    metrics: list[Metric],
    clock: Clock,
) -> Report:
    config, split = prepared.config, prepared.splits[name]
    task = get_task(config.task)
    shown = task.illustrate(run.model, run.processor, split, predictions, prepared.check.spec, config)
    found = concerns(run, prepared, name, metrics, shown)
    return Report(
        title=f"{run.path.name}: {config.task}",
        summary=_summary(metrics[0], name, len(split)),
        facts=facts(run, prepared, clock.seconds),
        metrics=metrics,
        verdict=judge(metrics),
        date=_today(),
        sources=sources(prepared.sources, prepared.check.rows, run.state.get("inputs", {})),
        hardware=list(hardware().items()),
        curves=curves(run.state["history"]),
        pictures=[*shown.pop("pictures", []), *_attention_in_training(run.path)],
        findings=[*found, *prepared.check.findings],
        notes=[*shown.pop("notes", []), *_notes(prepared, any(metric.baselines for metric in metrics))],
        config=config.dump(),
        **shown,
    )


def _today() -> str:
    now = datetime.now(UTC)
    return f"{now.day} {now:%B %Y}"


def _attention_in_training(path: Path) -> list[Picture]:
    """Draw what the monitor recorded."""
    if not (path / ATTENTION).is_file():
        return []
    from regard.inspection import plots

    drawn = io.BytesIO()
    plots.attention_history(History.load(path / ATTENTION), path=drawn)
    told = "The same validation rows each time. Drift is the share of the weight that lies elsewhere than at the start."
    return [Picture("How each head attended during training", drawn.getvalue(), told, inside=True)]


def _summary(first: Metric, name: str, rows: int) -> str:
    kept = "rows that the model never saw" if name == "test" else "validation rows"
    told = f"{first.name} {write(first.name, first.value)} on {rows:,} {kept}"
    if first.interval:
        low, high = (write(first.name, bound) for bound in first.interval)
        told = f"{told} (95 % interval {low} to {high})"
    rivals = ", ".join(f"{write(first.name, value)} for {rival}" for rival, value in first.baselines.items())
    return f"{told}, against {rivals}." if rivals else f"{told}."


def _notes(prepared: Prepared, compared: bool) -> list[str]:
    notes = ["The model was saved, loaded in a process of its own, and gave the same answers."]
    limit = prepared.config.report.baseline_rows
    if compared and limit < prepared.check.rows["train"]:
        notes.append(f"The baselines learned from {limit:,} of the training rows.")
    return notes


def curves(history: Sequence[dict[str, float]]) -> list[Curve]:
    """Turn what was logged during training into curves."""
    names = [
        key for entry in history for key in entry if key.startswith("eval_") and not key.endswith(("runtime", "second"))
    ]
    measures = [name for name in dict.fromkeys(names) if name != "eval_loss"]
    return [
        Curve(
            "Loss", "step", "loss", {"training": _points(history, "loss"), "validation": _points(history, "eval_loss")}
        ),
        Curve("Validation", "step", "score", {title(m.removeprefix("eval_")): _points(history, m) for m in measures}),
        Curve("Learning rate", "step", "learning rate", {"learning rate": _points(history, "learning_rate")}),
    ]


def _points(history: Sequence[dict[str, float]], key: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[key]) for entry in history if key in entry]


def _draw(path: Path, report: Report) -> None:
    from regard.inspection.plots import training_curves
    from regard.inspection.report import write_report

    training_curves(report.curves, path=path / "training-curves.png")
    write_report(report, path / "report.html")


def _write_card(model: Path, report: Report, prepared: Prepared, split: str, fitted: dict[str, Any]) -> None:
    """Put the model card beside the weights, for the same readers."""
    config, spec = prepared.config, prepared.check.spec
    named = ", ".join(dict.fromkeys(Path(s).name for s in config.data.model_dump().values() if _is_table(s)))
    known = license_of(config)
    limits = [
        f"It learned from {prepared.check.rows['train']:,} rows of {named} and was measured on rows set aside of the "
        "same kind; on others it may do worse.",
        "How it treats groups of people was not measured.",
        f"Its licence is {known}, if the data allow that."
        if known
        else "No licence is known: none in report.license, none in the base model's card.",
    ]
    library = "keras" if config.framework != "torch" else "transformers"
    measured = next((source.name for source in report.sources if source.role == split), split)
    origin = Origin(model.parent.name, config.task, config.model, library, (measured, split), known)
    card = model_card(report, origin, limits=limits, use=programs(config, spec, fitted, model))
    write_text(model / CARD, card)


def _is_table(source: Any) -> bool:
    return isinstance(source, str) and kind_of(Path(source)) in TABLES


def _over_seeds(repeated: dict[str, Any]) -> list[str]:
    """Say how far each measure varies with the seed."""
    return [
        f"{title(measure)} over {len(found['values'])} seeds: mean {digits(found['mean'])}, deviation "
        f"{digits(found['deviation'])} ({', '.join(map(digits, found['values']))})"
        for measure, found in repeated.items()
        if measure != "seeds"
    ]


def _tell(display: Display, report: Report, course: Sequence[str]) -> None:
    for line in course:
        display.say(f"  {line}")
    for metric in report.metrics:
        bounds = " to ".join(map(digits, metric.interval or ()))
        within = tell(f"  (95 % interval {bounds})") if bounds else ""
        display.say(f"  {tell(metric.name, word=True):<22} {digits(metric.value)}{within}")
        for rival, value in metric.baselines.items():
            display.say(f"    {tell(rival, word=True):<42} {digits(value)}")
    if report.verdict:
        display.say(f"  {report.verdict.sentence}", style=None if report.verdict.outcome == "better" else "yellow")
