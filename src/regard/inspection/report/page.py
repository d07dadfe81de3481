"""One report as one HTML page: a single file, nothing loaded from anywhere, the reader's light or dark scheme."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections import Counter
from heapq import nsmallest
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import regard
from regard._files import whole
from regard._spoken import language, phrase, tell
from regard.inspection.report import charts, measures
from regard.inspection.report.content import UNRECORDED, Cells, Confusion, Curve, Example, Metric, Report
from regard.inspection.report.packing import pack
from regard.inspection.report.verdict import apart, judge

_FOLDER = Path(__file__).parent
_LEVELS = {"error": 0, "warning": 1, "ok": 2}
_MAX_LABELS = 30  # above which the confusion matrix becomes a list of the most frequent confusions
_MISTAKES_OPEN = 8  # shown at once; the rest unfold
_MARKS = {"better": "✓", "worse": "✕", "unclear": "≈", "alone": "·"}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        extensions=["jinja2.ext.i18n"],
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_callables(phrase, _plural, newstyle=False)  # type: ignore[attr-defined]
    environment.filters |= {"percent": measures.percent, "number": measures.number, "is_finite": math.isfinite}
    environment.filters |= {"told": lambda text: tell(text, word=True), "sentence": tell}
    return environment


def _plural(one: str, several: str, count: int) -> str:
    return phrase(one if count == 1 else several)


def _interval(metric: Metric) -> tuple[float, float] | None:
    return metric.interval if metric.interval and all(map(math.isfinite, metric.interval)) else None


def _spread(metric: Metric) -> str:
    """Mean and standard deviation over the seeds, if there are several."""
    if len(metric.repeats) < 2:
        return ""
    return f"{measures.write(metric.name, mean(metric.repeats))} ± {apart(metric, stdev(metric.repeats))}"


def _measure(metric: Metric) -> dict[str, Any]:
    interval, name = _interval(metric), tell(metric.name, word=True)
    return {
        "name": name,
        "title": name[:1].upper() + name[1:],
        "explanation": tell(measures.explain(metric.name)),
        "value": measures.write(metric.name, metric.value),
        "interval": [measures.write(metric.name, bound) for bound in interval] if interval else None,
        "baselines": {name: measures.write(metric.name, value) for name, value in metric.baselines.items()},
        "higher_is_better": metric.higher_is_better,
        "bars": charts.bars(metric),
        "spread": _spread(metric),
    }


def _confusion_rows(confusion: Confusion) -> list[dict[str, Any]]:
    cells, places = confusion.cells, range(len(confusion.labels))
    totals = _totals(cells)
    return [
        {"label": label, "cells": [_cell(cells, totals, true, said) for said in places], "total": totals[true]}
        for true, label in enumerate(confusion.labels)
    ]


def _confused_pairs(confusion: Confusion) -> list[dict[str, Any]]:
    cells, labels = confusion.cells, confusion.labels
    totals = _totals(cells)
    frequent = nsmallest(_MAX_LABELS, (pair for pair in cells if pair[0] != pair[1]), lambda pair: (-cells[pair], pair))
    return [
        {"truth": labels[true], "predicted": labels[said], **_cell(cells, totals, true, said)}
        for true, said in frequent
    ]


def _totals(cells: Cells) -> Counter[int]:
    """How often each label was true, by its number."""
    totals: Counter[int] = Counter()
    for (true, _), count in cells.items():
        totals[true] += count
    return totals


def _cell(cells: Cells, totals: Counter[int], true: int, said: int) -> dict[str, Any]:
    count = cells.get((true, said), 0)
    return {"count": count, "share": count / totals[true] if count else 0.0, "right": true == said}


def _reliability(report: Report) -> charts.LineChart | None:
    """The drawing of how often the model is right, by how sure it says it is."""
    if report.calibration is None:
        return None
    series = {
        "this model": [(stated, right) for stated, right, _ in report.calibration.bins],
        "ideal": [(0.0, 0.0), (1.0, 1.0)],
    }
    return charts.line_chart(Curve("How often it is right", "how sure it says it is", "share that is right", series))


def _mistakes(examples: list[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: (math.isnan(example.confidence), -example.confidence))


def _sure(confidence: float) -> str:
    return tell(f"{measures.percent(confidence)} sure", word=True) if math.isfinite(confidence) else ""


def _translations(script: str) -> dict[str, str]:
    """What the page's script says, in the reader's language."""
    return {said: phrase(said) for said in re.findall(r'told\("([^"]*)"', script) if phrase(said) != said}


def _explorer(report: Report) -> list[dict[str, Any]]:
    """What the page's script reads of each example, and the packed weights beside it."""
    examples = []
    for attention in report.attention:
        packed, example = pack(attention), attention.example
        facts = {
            "text": example.text,
            "truth": example.truth,
            "predicted": example.predicted,
            "confidence": _sure(example.confidence),
            "layers": packed.layers,
            "heads": packed.heads,
            "format": packed.format,
            "tokens": [piece.text for piece in packed.pieces],
            "special": [int(piece.special) for piece in packed.pieces],
            "joined": [int(piece.joined) for piece in packed.pieces],
            "tokenCount": packed.token_count,
            "block": packed.block,
            "notFinite": packed.not_finite,
        }
        examples.append({"facts": facts, "data": packed.data})
    return examples


def _content(report: Report) -> dict[str, Any]:
    """The template's names: the report's own, with everything computed that the template shows."""
    metrics = [_measure(metric) for metric in report.metrics]
    columns = list(dict.fromkeys(name for metric in report.metrics for name in metric.baselines))
    drawings = [chart for chart in map(charts.line_chart, report.curves) if chart]
    mistakes = _mistakes(report.mistakes)
    verdict = report.verdict or judge(report.metrics)
    pictures = [(picture, base64.b64encode(picture.png).decode("ascii")) for picture in report.pictures]
    findings = sorted(report.findings, key=lambda finding: _LEVELS.get(finding.level, 1))
    many_labels = report.confusion is not None and len(report.confusion.labels) > _MAX_LABELS
    return {
        "report": report,
        "unrecorded": UNRECORDED,
        "classes": measures.weakest(report.classes),
        "verdict": verdict,
        "mark": _MARKS[verdict.outcome] if verdict else "",
        "repeated": max((len(metric.repeats) for metric in report.metrics), default=0),
        "headline": metrics[0] if metrics else None,
        "metrics": metrics,
        "baseline_names": columns,
        "warnings": [finding for finding in findings if finding.level != "ok"],
        "findings": [finding for finding in findings if finding.level == "ok"],
        "reliability": _reliability(report),
        "charts": drawings,
        "geometry": charts,
        "confusion": _confusion_rows(report.confusion) if report.confusion and not many_labels else [],
        "confused_pairs": _confused_pairs(report.confusion) if report.confusion and many_labels else [],
        "mistakes": mistakes[:_MISTAKES_OPEN],
        "more_mistakes": mistakes[_MISTAKES_OPEN:],
        "examples": _explorer(report),
        "pictures": [pair for pair in pictures if not pair[0].inside],
        "inside": [pair for pair in pictures if pair[0].inside],
        "sounds": [(sound, base64.b64encode(sound.wav).decode("ascii")) for sound in report.sounds],
    }


def render_report(report: Report) -> str:
    """The page of `report` as a string of HTML."""
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    # Markup: both files are the package's own; the hash lets the page run this script and no other.
    template = _environment().get_template("page.html.j2")
    page = template.render(
        _content(report),
        language=language(),
        translations=_translations(script),
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        version=regard.__version__,
    )
    return page.strip() + "\n"


def write_report(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write `report` as one HTML page that needs no network, whole or not at all.

    Args:
        report: What the page says; sections without content are left out.
        path: The file, made or replaced; missing folders are made.

    Returns:
        The path of the page.

    Raises:
        ShapeError: attention weights that do not have one row and one column for each token.

    Edges:
        The first metric is the headline. Values that are not finite are written "undefined". Inputs of more than
        128 tokens are pooled, and the page says so.

    Cost:
        At most 4 MiB of weights an example before base64; typically 0.3 MiB for 72 heads and 40 tokens.
    """
    path = Path(path)
    page = render_report(report).encode("utf-8", errors="replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as aside:
        aside.write_bytes(page)
    return path
