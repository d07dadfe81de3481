"""What is set aside: parts that hold each label as often as the rest, and part nothing that belongs together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.data import duplicates
from regard.finetuning.data.columns import GROUP, take_columns
from regard.finetuning.data.spreadsheets import SHEET, told_of_sheets
from regard.finetuning.data.tables import Formats, read_rows, read_table
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset

    from regard.finetuning.tasks import Part, Spec

PARTS = ("train", "validation", "test")
Strata = Sequence[Sequence[str]]
"""For each row, what the parts shall hold alike: its label, its labels, or none."""


@dataclass(frozen=True)
class Splits:
    """The rows of each part.

    Attributes:
        tables: the part's name -> its rows.
        reading: how the task's cells are written, plain JSON; empty where there is one way.
        findings: what had to be said.
        config: the configuration with the sources that were read.
        whole: the files' rows, before any were set aside.
    """

    tables: dict[str, Dataset]
    reading: dict[str, Any]
    findings: list[Finding]
    config: Config
    whole: dict[str, Dataset]


def read_files(config: Config, formats: Formats, parts: Callable[[Path], dict[str, Part]] | None) -> Splits:
    """Read the files of the configuration; what it asks for as a fraction is not there yet.

    Args:
        formats: what else than tables holds rows; see `regard.finetuning.tasks.Task.FORMATS`.
        parts: finds the parts that a data set names its own.
    """
    config, own, findings = _with_own_parts(config, parts)
    sources = {name: getattr(config.data, name) for name in PARTS}
    tables = {
        name: _read(source, own.get(name), config, formats)
        for name, source in sources.items()
        if isinstance(source, str)
    }
    return Splits(tables, {}, [*_told_of_sheets(sources.values(), config), *findings], config, tables)


def _with_own_parts(
    config: Config, parts: Callable[[Path], dict[str, Part]] | None
) -> tuple[Config, dict[str, Part], list[Finding]]:
    """Take the parts that a data set brings with it, where the configuration names no file."""
    own = parts(Path(config.data.train)) if parts and Path(config.data.train).exists() else {}
    own = {name: part for name, part in own.items() if name == "train" or not isinstance(_source(config, name), str)}
    if not own:
        return config, {}, []
    findings = []
    for name, part in own.items():
        asked = _source(config, name)
        instead = f", so data.{name}: {asked} sets nothing aside" if name != "train" and asked is not None else ""
        findings.append(Finding("ok", f"{name}: {part.path}, which the data set names its own{instead}"))
    sources = {name: str(part.path) for name, part in own.items()}
    return config.model_copy(update={"data": config.data.model_copy(update=sources)}), own, findings


def _source(config: Config, name: str) -> str | float | None:
    return getattr(config.data, name)


def _read(source: str, own: Part | None, config: Config, formats: Formats) -> Dataset:
    table = read_rows(own.rows(), own.path) if own else read_table(source, formats, config.data.sheet)
    return take_columns(table, config.data.columns, source, config.data.group)


def _told_of_sheets(sources: Iterable[str | float | None], config: Config) -> list[Finding]:
    """Say which sheets of workbooks are left out."""
    paths = dict.fromkeys(Path(source) for source in sources if isinstance(source, str))
    told = [each for path in paths if (each := told_of_sheets(path, config.data.sheet))]
    if config.data.sheet is not None:
        if not any(path.suffix.lower() == SHEET for path in paths):
            return [Finding("warning", f"data.sheet: no file is a workbook with a sheet '{config.data.sheet}'")]
        return [Finding("ok", each) for each in told]
    return [Finding("warning", f"{each}; set data.sheet if that is not what was meant") for each in told]


def with_fraction(splits: Splits, name: str, alike: Sequence[Hashable | None], strata: Strata | None) -> Splits:
    """Set the rows of a part aside, of which the configuration says the fraction.

    Args:
        splits: what was read.
        name: of the part.
        alike: for each row of the training table, what ties it to others, none of which are parted; None to none.
        strata: likewise, what the part shall hold as often as the rest.
    """
    config, train = splits.config, splits.tables["train"]
    fraction, seed = getattr(config.data, name), config.seed + PARTS.index(name)
    units = belonging_together([alike, groups_of(train)] if config.data.group else [alike])
    aside = set_aside(units, fraction, seed, strata)
    if not aside or len(aside) == len(train):
        what = f"different values in column '{config.data.group}'" if config.data.group else "different rows"
        raise DataError(
            f"{config.data.train}: need enough {what} to set some aside; got {len(units)}; "
            f"add rows, or name a file in data.{name}."
        )
    taken = set(aside)
    rest = train.select([row for row in range(len(train)) if row not in taken])
    tables = splits.tables | {"train": rest, name: train.select(aside)}
    tables = {part: tables[part] for part in PARTS if part in tables}
    return replace(splits, tables=tables, findings=splits.findings + _rare(name, fraction, aside, strata))


def groups_of(table: Dataset) -> list[str | None]:
    """Return the group of each row, None for those that belong to none."""
    return [None if cell is None or not str(cell).strip() else str(cell).strip() for cell in table[GROUP]]


def belonging_together(ties: Iterable[Sequence[Hashable | None]]) -> list[list[int]]:
    """Return the numbers of rows in units that no split may part: those that share a value, directly or by others.

    Args:
        ties: sequences with a value for each row; None ties to nothing.
    """
    ties = list(ties)
    parent = list(range(len(ties[0])))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for values in ties:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(values):
            if value is not None:
                key = repr(value) if isinstance(value, list | dict) else value  # which the task refuses in a sentence
                parent[root(row)] = root(first.setdefault(key, row))
    units: dict[int, list[int]] = {}
    for row in range(len(parent)):
        units.setdefault(root(row), []).append(row)
    return list(units.values())


def set_aside(units: list[list[int]], fraction: float, seed: int, strata: Strata | None = None) -> list[int]:
    """Return the rows of about `fraction` of all, whole units each, in order; the same for the same seed.

    Args:
        units: rows that stay together.
        fraction: of the rows.
        seed: fixes what is left to chance.
        strata: for each row, what the part shall hold as often as the rest.

    Source:
        Iterative stratification, Sechidis et al. 2011, algorithm 1, for units of rows: the rarest label first, each
        unit to the side that lacks the label most, and where less than a unit is lacking, to the side that lacks rows.
    """
    order = [list(unit) for unit in units]
    random.Random(seed).shuffle(order)
    chosen = _Stratified(order, strata, fraction).choose() if strata else []
    if not chosen:
        total, rows = sum(map(len, order)), 0
        while order and rows < fraction * total:
            chosen.append(order.pop())
            rows += len(chosen[-1])
    return sorted(row for unit in chosen for row in unit)


class _Stratified:
    """Deals units to two sides, the rest (0) and what is set aside (1)."""

    def __init__(self, units: list[list[int]], strata: Strata, fraction: float) -> None:
        self.units = sorted(units, key=len, reverse=True)  # while there is most room; else as shuffled
        self.labels = [Counter(label for row in unit for label in strata[row]) for unit in self.units]
        self.share = (1 - fraction, fraction)
        counts = sum(self.labels, Counter())
        self.lacking = {label: [part * count for part in self.share] for label, count in counts.items()}
        self.room = [part * sum(map(len, units)) for part in self.share]
        self.having: dict[str, list[int]] = {label: [] for label in counts}
        for number, labels in enumerate(self.labels):
            for label in labels:
                self.having[label].append(number)
        self.left = {label: len(numbers) for label, numbers in self.having.items()}
        self.in_rest: set[str] = set()
        self.side: dict[int, int] = {}

    def choose(self) -> list[list[int]]:
        """Return the units that are set aside."""
        while any(self.left.values()):
            rarest = min(
                (label for label in self.left if self.left[label]), key=lambda label: (self.left[label], label)
            )
            for number in self.having[rarest]:
                if number not in self.side:
                    self._put(number, self._side_for(number, rarest))
        for number in range(len(self.units)):
            if number not in self.side:
                self._put(number, self._by_room())
        return [unit for number, unit in enumerate(self.units) if self.side[number]]

    def _side_for(self, number: int, label: str) -> int:
        if any(self.left[each] == 1 and each not in self.in_rest for each in self.labels[number]):
            return 0  # a label that is not learned cannot be measured
        rest, aside = self.lacking[label]
        if max(rest, aside) < self.labels[number][label] or rest == aside:
            return self._by_room()
        return int(aside > rest)

    def _by_room(self) -> int:
        return int(self.room[1] / self.share[1] > self.room[0] / self.share[0])

    def _put(self, number: int, side: int) -> None:
        self.side[number] = side
        self.room[side] -= len(self.units[number])
        for label, count in self.labels[number].items():
            self.lacking[label][side] -= count
            self.left[label] -= 1
            if side == 0:
                self.in_rest.add(label)


def _rare(name: str, fraction: float, aside: Sequence[int], strata: Strata | None) -> list[Finding]:
    """Name the labels of which there are too few rows for one of them to be set aside."""
    if not strata:
        return []
    counts = Counter(label for labels in strata for label in set(labels))
    held = {label for row in aside for label in strata[row]}
    rare = sorted((label for label in counts if label not in held), key=lambda label: (counts[label], label))
    if not rare:
        return []
    shown = ", ".join(f"'{label}' ({counts[label]} row{'' if counts[label] == 1 else 's'})" for label in rare[:5])
    more = f" and {len(rare) - 5} labels more" if len(rare) > 5 else ""
    told = f"{name}: too few rows to set any aside, at {fraction:g} of them, have label {shown}{more}"
    return [Finding("warning", f"{told}; they are learned and not measured: add rows, or name a file in data.{name}")]


def told_of_groups(tables: dict[str, Dataset], config: Config) -> list[Finding]:
    """Say how many groups there are, and which are on two sides."""
    if not config.data.group:
        return []
    keys = {name: groups_of(table) for name, table in tables.items()}
    counts = ", ".join(f"{len(set(groups) - {None})} in {name}" for name, groups in keys.items())
    without = sum(group is None for groups in keys.values() for group in groups)
    alone = f"; {without} rows have none, and stand alone" if without else ""
    found = [Finding("warning" if without else "ok", f"groups by column '{config.data.group}': {counts}{alone}")]
    return found + duplicates.leaks(keys, "group")


def told_of_no_test(tables: dict[str, Dataset], config: Config, spec: Spec) -> list[Finding]:
    """Say what the rows of validation did before they measure the result, where there are no others."""
    if "test" in tables:
        return []
    options, chosen = config.options, []
    chosen += ["choose the checkpoint"] * (config.train.keep == "best")
    chosen += ["say when training ends"] * (config.train.patience is not None)
    chosen += ["fit the temperature"] * bool(options.get("calibrate"))
    chosen += ["fit the thresholds"] * (
        getattr(spec, "kind", None) == "multi" and options.get("thresholds") == "validation"
    )
    told = "test: no rows measure the result but those of validation"
    if not chosen:
        return [Finding("ok", f"{told}, by which nothing is chosen: the score is that of new rows")]
    named = " and ".join([", ".join(chosen[:-1]), chosen[-1]] if len(chosen) > 1 else chosen)
    return [Finding("warning", f"{told}, which {named}, so the score flatters; set data.test to a fraction or a file")]
