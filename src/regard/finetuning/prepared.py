"""What is known of a run before training begins: its data, read, parted and encoded, and what the check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from regard.finetuning.config import Config
from regard.finetuning.tasks import Encoded, Spec
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Speed:
    """A guess how long training will take.

    Attributes:
        tokens: real tokens in all steps.
        tokens_per_second: how fast training goes through them.
        seconds: for all steps, without validations.
    """

    tokens: int
    tokens_per_second: float
    seconds: float

    def __str__(self) -> str:
        rate = f"{self.tokens:,} tokens at some {self.tokens_per_second:,.0f} a second"
        told = f"about {_duration(self.seconds)} of training: {rate}"
        return f"{told}, guessed from the model's size and one matrix product on this machine"


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        findings: one remark each, level `"ok"` or `"warning"`; what forbids training is raised, not listed.
        rows: the split's name -> its number of rows.
        spec: what the task learned of the data, such as the names of the labels.
        speed: a guess how long training takes, of `check` alone and for texts.
    """

    findings: list[Finding]
    rows: dict[str, int]
    spec: Spec
    speed: Speed | None = None

    @property
    def warnings(self) -> list[Finding]:
        """The findings that ask for a decision."""
        return [finding for finding in self.findings if finding.level != "ok"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "spec": self.spec.dump()}


@dataclass(frozen=True)
class Prepared:
    """Everything that training needs to know of the data.

    `sources` is the configuration with the files that were read, where a data set names its own parts; `inputs` says
    what the files hold.
    """

    config: Config
    sources: Config
    splits: dict[str, Dataset]
    encoded: dict[str, Encoded]
    processor: Any
    check: Check
    inputs: dict[str, Any] = field(default_factory=dict)
