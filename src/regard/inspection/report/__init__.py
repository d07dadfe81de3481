"""One run, told on one offline HTML page."""

from regard.inspection.report.content import (
    Confusion,
    Curve,
    Example,
    Finding,
    Metric,
    Picture,
    Report,
    Sound,
    Table,
    TokenAttention,
)
from regard.inspection.report.page import render_report, write_report

__all__ = [
    "Confusion",
    "Curve",
    "Example",
    "Finding",
    "Metric",
    "Picture",
    "Report",
    "Sound",
    "Table",
    "TokenAttention",
    "render_report",
    "write_report",
]
