"""The model card: what a report says, short enough to travel with the model as its README.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, stdev

from regard._digits import digits
from regard._escapes import fenced, markdown
from regard._spoken import phrase, tell
from regard.inspection.report.content import UNRECORDED, Calibration, ClassScore, Metric, Report
from regard.inspection.report.measures import weakest
from regard.inspection.report.verdict import judge

PIPELINES = {
    "image-generation": "unconditional-image-generation",
    "speech-recognition": "automatic-speech-recognition",
    "speech-synthesis": "text-to-speech",
    "masked-language-modeling": "fill-mask",
    "causal-language-modeling": "text-generation",
}
"""Tasks that hubs know by another name."""


@dataclass(frozen=True)
class Origin:
    """What a card says beside the report.

    Attributes:
        name: of the model.
        task: the field's name of what it does.
        base: the pretrained model.
        library: what loads it.
        measured: the file of the rows that were measured, and which split they were.
        license: of the model, where one is known.
    """

    name: str
    task: str
    base: str
    library: str
    measured: tuple[str, str]
    license: str | None = None


def model_card(report: Report, origin: Origin, *, limits: list[str], use: list[str]) -> str:
    """Return the card as Markdown, with the header that model hubs read (Mitchell et al. 2019, arXiv 1810.03993).

    Args:
        report: what the run found.
        origin: what the header needs beside it.
        limits: what the model is not to be trusted with, one sentence each.
        use: programs that use the model.
    """
    verdict = report.verdict or judge(report.metrics)
    warned = [finding.message for finding in report.findings if finding.level != "ok"]
    fine = [finding.message for finding in report.findings if finding.level == "ok"]
    programs = "\n\n".join(fenced(program, "python") for program in use)
    files = [f"{s.role}: {s.rows:,} rows, {s.name}, SHA-256 {s.fingerprint or UNRECORDED}" for s in report.sources]
    facts = [": ".join(tell(part, word=True) for part in fact) for fact in (*report.facts, *report.hardware)]
    parts = [
        _header(report.metrics, origin),
        f"# {markdown(report.title)}",
        f"**{_told(verdict.sentence)}**" if verdict else "",
        *map(_told, verdict.details if verdict else []),
        _told(report.summary),
        f"{tell('## Use', word=True)}\n\n{programs}",
        f"{tell('## Results', word=True)}\n\n{_table(report.metrics)}",
        _labels(report.classes),
        _certainty(report.calibration),
        f"{tell('## Data', word=True)}\n\n{_bullets([*files, *fine])}",
        f"{tell('## Limits', word=True)}\n\n{_bullets([*limits, *warned, *report.notes])}",
        f"{tell('## Training and environment')}\n\n{_bullets(facts)}",
        f"{tell('The whole configuration:')}\n\n{fenced(report.config, 'yaml')}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(metrics: list[Metric], origin: Origin) -> str:
    """The lines that a hub reads; a base model that lies on a disk or in a package is none that it knows."""
    from huggingface_hub import EvalResult, ModelCardData

    file, split = origin.measured
    pipeline = PIPELINES.get(origin.task, origin.task)
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=file,
            dataset_name=file,
            dataset_split=split,
            metric_type=metric.name.lower().replace(" ", "_"),
            metric_name=metric.name,
            metric_value=round(metric.value, 6),
        )
        for metric in metrics
        if math.isfinite(metric.value)
    ]
    data = ModelCardData(
        library_name=origin.library,
        pipeline_tag=pipeline,
        base_model=None if origin.base.startswith((".", "/", "package:")) else origin.base,
        license=origin.license,
        tags=["regard"],
        model_name=origin.name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _table(metrics: list[Metric]) -> str:
    rivals = list(dict.fromkeys(rival for metric in metrics for rival in metric.baselines))
    seeds = max((len(metric.repeats) for metric in metrics), default=0)
    repeated = [f"over {seeds} seeds"] if seeds > 1 else []
    rows = [["measure", "value", "95 % interval", *repeated, *rivals]]
    for metric in metrics:
        interval = phrase(" to ").join(map(digits, metric.interval or ()))
        values = [digits(metric.baselines[r]) if r in metric.baselines else "" for r in rivals]
        rows.append([metric.name, digits(metric.value), interval, *[_spread(metric) for _ in repeated], *values])
    return _rows([[tell(cell, word=True) for cell in row] for row in rows])


def _spread(metric: Metric) -> str:
    """Mean and standard deviation over the seeds, if there are several."""
    several = len(metric.repeats) > 1
    return f"{digits(mean(metric.repeats))} ± {digits(stdev(metric.repeats))}" if several else ""


def _labels(classes: list[ClassScore]) -> str:
    if not classes:
        return ""
    tuned, shown = any(each.threshold is not None for each in classes), weakest(classes)
    header = ["label", "precision", "recall", "F1", "support", *["given from"] * tuned]
    rows = [[tell(name, word=True) for name in header]]
    for each in shown:
        scores = [digits(score) for score in (each.precision, each.recall, each.f1)]
        threshold = "" if each.threshold is None else digits(each.threshold)
        rows.append([each.label, *scores, str(each.support), *[threshold] * tuned])
    fewer = f"These are the {len(shown)} of {len(classes)} labels with the lowest F1." * (len(shown) < len(classes))
    told = (
        "Given from: the probability above which a label is given, chosen on the validation rows; it is "
        '`config.calibration["thresholds"]`, which transformers reads and leaves alone.'
    )
    return "\n\n".join(filter(None, [tell("## By label", word=True), _rows(rows), tell(fewer), tell(told) * tuned]))


def _certainty(calibration: Calibration | None) -> str:
    if calibration is None:
        return ""
    told = tell(f"Expected calibration error, in ten bins: {digits(calibration.error)}.")
    if calibration.temperature is not None:
        told += tell(
            f" That is with logits divided by a temperature of {calibration.temperature:.4g}, which was fitted on the "
            f"validation rows; without it, it is {digits(calibration.uncalibrated or 0.0)}. Regard divides by it, "
            "transformers does not: the logits of the saved model are those of training, and the temperature is "
            '`config.calibration["temperature"]`, as in the first program above.'
        )
    return f"{tell('## Certainty', word=True)}\n\n{told}"


def _rows(rows: list[list[str]]) -> str:
    """A table, whose cells mean nothing in Markdown."""
    cells = [[markdown(cell) for cell in row] for row in rows]
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {_told(line)}" for line in lines) or tell("- none found", word=True)


def _told(text: str) -> str:
    """A sentence in the reader's language, which means nothing in Markdown."""
    return markdown(tell(text, word=True))
