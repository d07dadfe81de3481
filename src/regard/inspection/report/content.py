"""What a report says, as plain values; `page.py` makes the page of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

UNRECORDED = "not recorded when the run began"
"""In place of a fingerprint."""


@dataclass(frozen=True)
class Metric:
    """One measure of the model beside the same measure of each baseline.

    Attributes:
        interval: the 95 % confidence interval of `value`.
        baselines: name -> value.
        differences: name of a baseline -> the 95 % interval of `value` minus its value, on the same rows.
        ceilings: the baselines that no model can better, such as the truth itself.
        repeats: the values of models that were trained with other seeds, this one's first.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    baselines: dict[str, float] = field(default_factory=dict)
    higher_is_better: bool = True
    differences: dict[str, tuple[float, float]] = field(default_factory=dict)
    ceilings: tuple[str, ...] = ()
    repeats: tuple[float, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a report comes to.

    Attributes:
        outcome: `"better"`, `"worse"`, `"unclear"`, or `"alone"` where nothing is beside the model.
        sentence: that, with the numbers.
        details: what else should be known before anything is read of it.
    """

    outcome: str
    sentence: str
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A file of data: what it was for, its name, its rows, and the SHA-256 of what it held when training began.

    `fingerprint` is empty where the run did not record that, and the report says so.
    """

    role: str
    name: str
    rows: int
    fingerprint: str = ""


@dataclass(frozen=True)
class ClassScore:
    """How well one label is found; `threshold` is the probability from which it is given, where each has its own."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    threshold: float | None = None


@dataclass(frozen=True)
class Calibration:
    """How far stated probabilities are from how often they are right.

    Attributes:
        bins: stated probability, share of right answers and number of answers, of all answers in each tenth.
        error: the expected calibration error: the mean distance of the two, by the number of answers.
        temperature: what logits are divided by, if anything.
        uncalibrated: the error without that.
        what: the answers that are counted, in words.
    """

    bins: list[tuple[float, float, int]]
    error: float
    temperature: float | None = None
    uncalibrated: float | None = None
    what: str = "answers"


@dataclass(frozen=True)
class Curve:
    """Lines over the course of training: `series` maps a name to its `(x, y)` points."""

    title: str
    x_label: str
    y_label: str
    series: dict[str, list[tuple[float, float]]]


Cells = Mapping[tuple[int, int], int]
"""Numbers of the true and the predicted label -> how often that was, if ever."""


@dataclass(frozen=True)
class Confusion:
    """How often each true label (row) was given each predicted label (column).

    Attributes:
        counts: all cells, row by row; or those that are not 0, by the numbers of the true and the predicted label.
    """

    labels: list[str]
    counts: Sequence[Sequence[int]] | Cells

    @property
    def cells(self) -> Cells:
        """The counts that are not 0."""
        if isinstance(self.counts, Mapping):
            return self.counts
        rows = enumerate(self.counts)
        return {(true, said): count for true, row in rows for said, count in enumerate(row) if count}


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
    """A drawing, as the bytes of a PNG file, with what it shows in words; `inside` if that is the model's inside."""

    title: str
    png: bytes
    explanation: str = ""
    inside: bool = False


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
    """One run, told: what it comes to, how good it is, where it errs, how it was trained, what it attends to.

    Attributes:
        hide_special: whether the view of `attention` begins without marks such as `[CLS]`; a reader can show them.
    """

    title: str
    summary: str
    facts: list[tuple[str, str]]
    metrics: list[Metric]
    verdict: Verdict | None = None
    date: str = ""
    sources: list[Source] = field(default_factory=list)
    classes: list[ClassScore] = field(default_factory=list)
    calibration: Calibration | None = None
    curves: list[Curve] = field(default_factory=list)
    confusion: Confusion | None = None
    mistakes: list[Example] = field(default_factory=list)
    right: list[Example] = field(default_factory=list)
    attention: list[TokenAttention] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hardware: list[tuple[str, str]] = field(default_factory=list)
    config: str = ""
    hide_special: bool = False
