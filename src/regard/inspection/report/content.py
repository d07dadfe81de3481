"""What a report says, as plain values; `page.py` makes the page of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Metric:
    """One measure of the model beside the same measure of each baseline.

    `interval` is the confidence interval of `value`, 95 % unless the report's notes say otherwise.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    baselines: dict[str, float] = field(default_factory=dict)
    higher_is_better: bool = True


@dataclass(frozen=True)
class Curve:
    """Lines over the course of training: `series` maps a name to its `(x, y)` points."""

    title: str
    x_label: str
    y_label: str
    series: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Confusion:
    """How often each true label (row) was given each predicted label (column)."""

    labels: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class Example:
    """One input that the model was asked about, with what was right and what it said."""

    text: str
    truth: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class TokenAttention:
    """What every head of every layer attends to in one input; `weights` is (layers, heads, n, n), n tokens."""

    example: Example
    tokens: list[str]
    weights: np.ndarray


@dataclass(frozen=True)
class Picture:
    """A drawing, as the bytes of a PNG file, with what it shows in words."""

    title: str
    png: bytes
    explanation: str = ""


@dataclass(frozen=True)
class Sound:
    """Something to listen to, as the bytes of a WAV file."""

    title: str
    wav: bytes


@dataclass(frozen=True)
class Table:
    """Rows of texts under their columns' names; the first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Finding:
    """One remark of the check before training: level `"ok"`, `"warning"` or `"error"`."""

    level: str
    message: str


@dataclass(frozen=True)
class Report:
    """One run, told: what it is, how good, how it was trained, where it errs, what it attends to."""

    title: str
    summary: str
    facts: list[tuple[str, str]]
    metrics: list[Metric]
    curves: list[Curve] = field(default_factory=list)
    confusion: Confusion | None = None
    mistakes: list[Example] = field(default_factory=list)
    attention: list[TokenAttention] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    config: str = ""
