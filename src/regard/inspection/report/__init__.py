"""One run, told on one offline HTML page."""

from regard.inspection.report.content import (
    Calibration,
    ClassScore,
    Confusion,
    Curve,
    Example,
    Finding,
    Metric,
    Picture,
    Report,
    Sound,
    Source,
    Table,
    TokenAttention,
    Verdict,
)
from regard.inspection.report.page import render_report, write_report

__all__ = [
    "Calibration",
    "ClassScore",
    "Confusion",
    "Curve",
    "Example",
    "Finding",
    "Metric",
    "Picture",
    "Report",
    "Sound",
    "Source",
    "Table",
    "TokenAttention",
    "Verdict",
    "render_report",
    "write_report",
]
