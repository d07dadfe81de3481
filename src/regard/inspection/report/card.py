"""The model card: what a report says, short enough to travel with the model as its README.md."""

from __future__ import annotations

from regard.inspection.report.content import Metric, Report


def model_card(report: Report, *, task: str, base: str, limits: list[str], use: str) -> str:
    """Return the card as Markdown, with the header that model hubs read (Mitchell et al. 2019, arXiv 1810.03993).

    Args:
        report: what the run found.
        task: the field's name of what the model does.
        base: the pretrained model.
        limits: what the model is not to be trusted with, one sentence each.
        use: a program that uses the model.
    """
    warned = [finding.message for finding in report.findings if finding.level != "ok"]
    fine = [finding.message for finding in report.findings if finding.level == "ok"]
    parts = [
        _header(task, base),
        f"# {report.title}",
        report.summary,
        f"## Use\n\n```python\n{use}\n```",
        f"## Results\n\n{_table(report.metrics)}",
        f"## Data\n\n{_bullets(fine)}",
        f"## Limits\n\n{_bullets([*limits, *warned, *report.notes])}",
        "## Training and environment\n\n" + _bullets([f"{name}: {value}" for name, value in report.facts]),
        f"The whole configuration:\n\n```yaml\n{report.config.strip()}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(task: str, base: str) -> str:
    """The lines that a hub reads; a base model that lies on a disk or in a package is none that it knows."""
    known = [f"base_model: {base}"] if not base.startswith((".", "/", "package:")) else []
    return "\n".join(["---", "library_name: transformers", f"pipeline_tag: {task}", *known, "tags:", "- regard", "---"])


def _table(metrics: list[Metric]) -> str:
    rivals = list(dict.fromkeys(rival for metric in metrics for rival in metric.baselines))
    rows = [["measure", "value", "95 % interval", *rivals], ["---"] * (3 + len(rivals))]
    for metric in metrics:
        interval = f"{metric.interval[0]:.3f} to {metric.interval[1]:.3f}" if metric.interval else ""
        values = [f"{metric.baselines[r]:.3f}" if r in metric.baselines else "" for r in rivals]
        rows.append([metric.name, f"{metric.value:.3f}", interval, *values])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "- none found"
