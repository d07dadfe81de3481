"""What follows training: measure, compare with baselines, explain, and write it all down."""

from __future__ import annotations

import io
import platform
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.finetuning.check import Prepared
from regard.finetuning.config import Config
from regard.finetuning.data import SUFFIXES, write_jsonl
from regard.finetuning.frameworks import framework_of, get_framework
from regard.finetuning.progress import Display
from regard.finetuning.repeats import summarise
from regard.finetuning.run import ATTENTION, METRICS, STATE, Run, is_pretrained, read_json, write_json
from regard.finetuning.tasks import Prediction, Score, get_task
from regard.inspection.history import History
from regard.inspection.report.card import model_card
from regard.inspection.report.content import Curve, Finding, Metric, Picture, Report, Table

if TYPE_CHECKING:
    from regard.finetuning.train import Clock

PACKAGES = ("regard", "torch", "transformers", "datasets", "scikit-learn", "numpy")


def finish(path: Path, prepared: Prepared, display: Display, clock: Clock) -> Run:
    """Measure the model in a run directory and write metrics, predictions, curves and report."""
    config, spec, run = prepared.config, prepared.check.spec, Run.load(path)
    task, name = get_task(config.task), "test" if "test" in prepared.splits else "validation"
    split = prepared.splits[name]
    with clock("evaluate"):
        predictions = task.respond(run.model, run.processor, split[task.INPUT], display)
        scores = task.measure(split, predictions, spec)
    write_jsonl(path / "predictions.jsonl", map(task.record, split, predictions))
    baselines: dict[str, dict[str, Score]] = {}
    if config.report.baselines:
        with clock("baselines"):
            rivals = task.baselines(prepared.splits["train"], split, prepared.processor, spec, config, display)
            baselines = {rival: task.measure(split, answers, spec) for rival, answers in rivals.items()}
    repeated = summarise(path, prepared, {measure: score.value for measure, score in scores.items()})
    with clock("report"):
        report = _report(run, prepared, name, predictions, scores, baselines, clock)
        report.tables.extend(_spread(repeated))
        _draw(path, report)
        _write_card(path / "model", report, prepared)
    metrics = _metrics(name, len(split), scores, baselines, clock)
    write_json(path / METRICS, metrics | ({"repeats": repeated} if repeated else {}))
    _close(path, config, clock)
    _tell(display, report)
    return Run(path)


def _metrics(
    name: str, rows: int, scores: dict[str, Score], baselines: dict[str, dict[str, Score]], clock: Clock
) -> dict[str, Any]:
    def values(of: dict[str, Score]) -> dict[str, float]:
        return {measure: round(score.value, 6) for measure, score in of.items()}

    return {
        "split": name,
        "rows": rows,
        **values(scores),
        "intervals_95": {measure: [round(x, 6) for x in s.interval] for measure, s in scores.items() if s.interval},
        "baselines": {rival: values(of) for rival, of in baselines.items()},
        "seconds": clock.seconds,
    }


def _spread(repeated: dict[str, Any]) -> list[Table]:
    """Return a table of how the measures vary with the seed."""
    if not repeated:
        return []
    rows = [
        [_title(measure), f"{found['mean']:.3f}", f"{found['deviation']:.3f}", *(f"{x:.3f}" for x in found["values"])]
        for measure, found in repeated.items()
        if measure != "seeds"
    ]
    seeds = repeated["seeds"]
    return [Table(f"Over {len(seeds)} seeds", ["measure", "mean", "deviation", *(f"seed {s}" for s in seeds)], rows)]


def _versions(config: Config) -> dict[str, str]:
    packages = dict.fromkeys((*get_framework(config.framework).PACKAGES, *PACKAGES))
    return {package: version(package) for package in packages}


def _close(path: Path, config: Config, clock: Clock) -> None:
    """Mark the run as finished."""
    if not config.train.keep_checkpoints:
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
    versions = _versions(config) | {"python": platform.python_version()}
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        path / STATE,
        read_json(path / STATE) | {"finished": True, "ended": ended, "seconds": clock.seconds, "versions": versions},
    )


def _report(
    run: Run,
    prepared: Prepared,
    name: str,
    predictions: Sequence[Prediction],
    scores: dict[str, Score],
    baselines: dict[str, dict[str, Score]],
    clock: Clock,
) -> Report:
    config, split = prepared.config, prepared.splits[name]
    task = get_task(config.task)
    shown = task.illustrate(run.model, run.processor, split, predictions, prepared.check.spec, config)
    metrics = [
        Metric(
            _title(measure),
            s.value,
            s.interval,
            {rival: of[measure].value for rival, of in baselines.items() if measure in of},
            higher_is_better=s.higher_is_better,
        )
        for measure, s in scores.items()
    ]
    return Report(
        title=f"{run.path.name}: {config.task}",
        summary=_summary(metrics[0], name, len(split)),
        facts=_facts(run, prepared, clock),
        metrics=metrics,
        curves=curves(run.state["history"]),
        pictures=[*shown.pop("pictures", []), *_attention_in_training(run.path)],
        findings=[*prepared.check.findings, *_warnings(run.path)],
        notes=[*shown.pop("notes", []), *_notes(prepared, name, bool(baselines))],
        config=config.dump(),
        **shown,
    )


def _attention_in_training(path: Path) -> list[Picture]:
    """Draw what the monitor recorded."""
    if not (path / ATTENTION).is_file():
        return []
    from regard.inspection import plots

    drawn = io.BytesIO()
    plots.attention_history(History.load(path / ATTENTION), path=drawn)
    told = "The same validation rows each time. Drift is the share of the weight that lies elsewhere than at the start."
    return [Picture("How each head attended during training", drawn.getvalue(), told)]


def _warnings(path: Path) -> list[Finding]:
    found = History.load(path / ATTENTION).warnings(is_pretrained(path)) if (path / ATTENTION).is_file() else []
    return [Finding("warning", warning) for warning in found]


def _title(measure: str) -> str:
    known = {
        "mcc": "Matthews correlation",
        "macro_f1": "Macro F1",
        "micro_f1": "Micro F1",
        "top_1": "Top-1",
        "top_5": "Top-5",
        "map": "mAP",
        "map_50": "mAP at 50 %",
        "map_75": "mAP at 75 %",
    }
    return known.get(measure, measure.replace("_", " ").capitalize())


def _summary(first: Metric, name: str, rows: int) -> str:
    told = f"{first.name} {first.value:.3f} on {rows:,} {'held-out' if name == 'test' else 'validation'} rows"
    if first.interval:
        told += f" (95 % interval {first.interval[0]:.3f} to {first.interval[1]:.3f})"
    rivals = ", ".join(f"{value:.3f} for {rival}" for rival, value in first.baselines.items())
    return f"{told}, against {rivals}." if rivals else f"{told}."


def _facts(run: Run, prepared: Prepared, clock: Clock) -> list[tuple[str, str]]:
    config, state = prepared.config, run.state
    parameters = framework_of(run.model).parameters(run.model)
    fresh = ", ".join(state["newly_initialised"])
    rows = ", ".join(f"{name} {count:,}" for name, count in prepared.check.rows.items())
    return [
        ("Model", config.model),
        (
            "Parameters",
            f"{parameters:,}, {_trained(config, state)}" + (f"; new at the start: {fresh}" if fresh else ""),
        ),
        ("Rows", rows),
        ("Training", f"{state['steps']} steps of {config.train.batch_size * config.train.accumulate} rows"),
        (
            "Learning rate",
            f"{config.train.learning_rate:g}, {config.train.schedule}, warm-up {config.train.warmup:.0%}",
        ),
        ("Precision", state["precision"]),
        ("Time", ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in clock.seconds.items())),
        ("Seed", str(config.seed)),
        ("Framework", config.framework),
        ("Versions", ", ".join(f"{package} {number}" for package, number in _versions(config).items())),
    ]


def _trained(config: Config, state: dict[str, Any]) -> str:
    kind, rank = config.adapter.kind, config.adapter.rank
    return (
        "all trained"
        if kind == "none"
        else f"{state['trained']:,} of them or beside them trained ({kind}, rank {rank})"
    )


def _notes(prepared: Prepared, name: str, compared: bool) -> list[str]:
    notes = ["The model was saved, loaded in a process of its own, and gave the same answers."]
    if name == "validation":
        notes.append("There is no test split: the scores are of the split that chose the checkpoint, so they flatter.")
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
        Curve("Validation", "step", "score", {_title(m.removeprefix("eval_")): _points(history, m) for m in measures}),
        Curve("Learning rate", "step", "learning rate", {"learning rate": _points(history, "learning_rate")}),
    ]


def _points(history: Sequence[dict[str, float]], key: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[key]) for entry in history if key in entry]


def _draw(path: Path, report: Report) -> None:
    from regard.inspection.plots import training_curves
    from regard.inspection.report import write_report

    training_curves(report.curves, path=path / "training-curves.png")
    write_report(report, path / "report.html")


def _write_card(model: Path, report: Report, prepared: Prepared) -> None:
    """Put the model card beside the weights, for the same readers."""
    config, task = prepared.config, get_task(prepared.config.task)
    sources = ", ".join(dict.fromkeys(Path(s).name for s in config.data.model_dump().values() if _is_table(s)))
    limits = [
        f"It learned from {prepared.check.rows['train']:,} rows of {sources} and was measured on rows set aside of the "
        "same kind; on others it may do worse.",
        "How far its probabilities can be taken at their word was not measured, nor how it treats groups of people.",
    ]
    use = f'import regard\n\nregard.predict("{model.parent}", ["{task.INPUT} of your own"])'
    card = model_card(report, task=config.task, base=config.model, limits=limits, use=use)
    (model / "README.md").write_text(card, encoding="utf-8")
    (model / "README.md").chmod((model / "config.json").stat().st_mode)


def _is_table(source: Any) -> bool:
    return isinstance(source, str) and Path(source).suffix.lower() in SUFFIXES


def _tell(display: Display, report: Report) -> None:
    for metric in report.metrics:
        interval = f"  (95 % interval {metric.interval[0]:.3f} to {metric.interval[1]:.3f})" if metric.interval else ""
        display.say(f"  {metric.name:<22} {metric.value:.3f}{interval}")
        for rival, value in metric.baselines.items():
            display.say(f"    {rival:<42} {value:.3f}")
