"""Look at the data as training will see it, before any time is spent on training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.finetuning.config import Config
from regard.finetuning.data.tables.splits import read_splits
from regard.finetuning.frameworks import get_framework
from regard.finetuning.loading import loading
from regard.finetuning.tasks import Encoded, Spec, bases, get_task
from regard.finetuning.training.speed import Speed, predict_speed
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset


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
        return asdict(self)


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


def check(config: Config | dict[str, Any] | str | Path) -> Check:
    """Check configuration, data and tokenizer without training or writing anything.

    Args:
        config: a configuration, its values, or the YAML file that holds them.

    Raises:
        ConfigError: the configuration names what does not exist.
        DataError: the data cannot be trained on.
    """
    prepared = prepare(Config.load(config))
    rows = prepared.encoded["train"].rows
    lengths = list(rows["length"]) if {"length", "input_ids"} <= set(rows.column_names) else []
    return replace(prepared.check, speed=predict_speed(prepared.config, lengths))


def prepare(config: Config) -> Prepared:
    """Read, split, check and encode the data."""
    task = get_task(config.task)
    if not config.options.get("from_scratch"):
        bases.require_no_code(config.source)
    get_framework(config.framework).require(config)
    parted = read_splits(config)
    splits, sources = parted.tables, parted.config
    spec, findings = task.inspect(splits, sources)
    spec |= {"reading": parted.reading} if parted.reading else {}
    with loading("what prepares the inputs of a model", config.source):
        processor = task.load_processor(config.source, config, splits["train"])
    encoded = {name: task.encode(name, split, processor, spec, sources) for name, split in splits.items()}
    findings = [*parted.findings, *findings, *(finding for part in encoded.values() for finding in part.findings)]
    rows = {name: len(split) for name, split in splits.items()}
    return Prepared(config, sources, splits, encoded, processor, Check(findings, rows, spec))
