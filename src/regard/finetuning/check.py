"""Look at the data as training will see it, before any time is spent on training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config
from regard.finetuning.data.splits import read_splits, told_of_no_test
from regard.finetuning.frameworks import get_framework
from regard.finetuning.loading import loading
from regard.finetuning.tasks import bases, get_task
from regard.finetuning.training.speed import predict_speed

if TYPE_CHECKING:
    pass
from regard.finetuning.prepared import Check, Prepared


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
    ]
    rows = {name: len(split) for name, split in splits.items()}
    return Prepared(config, sources, splits, encoded, processor, Check(findings, rows, spec))
