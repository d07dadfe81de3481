"""One run, told on one offline HTML page."""

from regard.inspection.report.content import (
    Confusion,
    Curve,
    Example,
    Finding,
    Metric,
    Report,
    TokenAttention,
)
from regard.inspection.report.page import render_report, write_report

__all__ = [
    "Confusion",
    "Curve",
    "Example",
    "Finding",
    "Metric",
    "Report",
    "TokenAttention",
    "render_report",
    "write_report",
]
