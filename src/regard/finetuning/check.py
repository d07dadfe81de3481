"""Look at the data as training will see it, before any time is spent on training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config
from regard.finetuning.data.splits import PARTS, Splits, read_files, told_of_groups, told_of_no_test, with_fraction
from regard.finetuning.frameworks import get_framework
from regard.finetuning.loading import loading
from regard.finetuning.prepared import Check, Prepared
from regard.finetuning.tasks import Encoded, Task, bases, get_task
from regard.finetuning.tasks.targets.classes import require_few
from regard.finetuning.training.padding import told_of_full_attention
from regard.finetuning.training.speed import predict_speed
from regard.inspection.report.content import Finding


def check(config: Config | dict[str, Any] | str | Path) -> Check:
    """Check configuration, data and tokenizer without training or writing anything.

    Args:
        config: a configuration, its values, or the YAML file that holds them.

    Raises:
        ConfigError: the configuration names what does not exist.
        DataError: the data cannot be trained on.
    """
    prepared = prepare(load_config(config))
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
    try:
        spec, findings = task.inspect(splits, sources)
    except DataError:
        task.inspect(parted.whole, sources)  # which tells the row's number in its file
        raise
    if parted.reading:
        spec = spec.model_copy(update={"reading": parted.reading})
    with loading("what prepares the inputs of a model", config.source):
        processor = task.load_processor(config.source, config, splits["train"])
    encoded = {name: task.encode(name, split, processor, spec, sources) for name, split in splits.items()}
    findings = [
        *parted.findings,
        *told_of_no_test(splits, config, spec),
        *findings,
        *(finding for part in encoded.values() for finding in part.findings),
        *_told_of_lengths(config, encoded),
    ]
    rows = {name: len(split) for name, split in splits.items()}
    return Prepared(config, sources, splits, encoded, processor, Check(findings, rows, spec))


def _told_of_lengths(config: Config, encoded: dict[str, Encoded]) -> list[Finding]:
    """Say what a model does with texts of these lengths, where it is one that is there already."""
    texts = {
        name: part.rows for name, part in encoded.items() if {"length", "input_ids"} <= set(part.rows.column_names)
    }
    if config.options.get("from_scratch") or not texts:
        return []
    return told_of_full_attention(config.source, {name: list(rows["length"]) for name, rows in texts.items()})


def read_splits(config: Config) -> Splits:
    """Read the files of the configuration, and set the fractions aside that it asks for."""
    task = get_task(config.task)
    splits = _as_written(read_files(config, task.FORMATS, task.parts), task)
    for name in PARTS:
        if isinstance(getattr(splits.config.data, name), float):
            splits = _with_fraction(splits, name, task)
    return replace(splits, findings=splits.findings + told_of_groups(splits.tables, splits.config))


def _as_written(splits: Splits, task: Task) -> Splits:
    """Bring cells that can be written in several ways into the task's one way."""
    if not (task.reading and task.read):
        return splits
    reading, findings = task.reading(splits.tables["train"], splits.config)
    read, data = task.read, splits.config.data
    tables = {name: read(table, reading, str(getattr(data, name))) for name, table in splits.tables.items()}
    return replace(splits, tables=tables, reading=reading, findings=splits.findings + findings, whole=tables)


def _with_fraction(splits: Splits, name: str, task: Task) -> Splits:
    """Set rows aside by what they are to the task: which are alike, and which labels they have."""
    train, config = splits.tables["train"], splits.config
    alike = [task.alike(value) for value in train[next(iter(task.COLUMNS))]]
    strata = task.strata(train, config) if task.strata else None
    if strata:
        require_few(len({label for row in strata for label in row}), config.data.train)
    return with_fraction(splits, name, alike, strata)
