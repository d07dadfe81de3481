"""Pairs of texts: the files they come in, and what spoils them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from regard import _language
from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.data import duplicates
from regard.finetuning.data.headers import require_own_names
from regard.finetuning.data.lines import read_lines
from regard.finetuning.tasks import Part, input_files
from regard.finetuning.tasks.targets import classes
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset

LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
UNEVEN = 4
"""A pair is uneven if one side has so many times the letters of the other, one of Chinese counted as three."""


def read_tmx(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the units of a translation memory, with a column for each language (TMX 1.4b).

    Raises:
        DataError: it is no XML, or a unit names no language, or one twice.
    """
    try:
        units = (unit for _, unit in ElementTree.iterparse(path) if unit.tag == "tu")
        for number, unit in enumerate(units, start=1):
            variants = [_variant(path, variant) for variant in unit.iter("tuv")]
            require_own_names([language for language, _ in variants], f"{path}, unit {number}", "language")
            yield dict(variants)
            unit.clear()
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: need a translation memory in XML; got '{error}'; write it again.") from None


def _variant(path: Path, variant: ElementTree.Element) -> tuple[str, str]:
    language, text = variant.get(LANGUAGE) or variant.get("lang"), variant.find("seg")
    if language is None:
        raise DataError(f"{path}: need xml:lang in each <tuv>; got one without; write the file as TMX 1.4.")
    return language, "" if text is None else "".join(text.itertext()).strip()


def read_aligned(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of two files in a folder side by side; `x.en` has the column `en`, `source.txt` has `source`.

    Raises:
        DataError: the folder holds other than two files, or their numbers of lines differ.
    """
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if len(files) != 2:
        raise DataError(
            f"{path}: need two files in the folder, a line of one for each of the other; got {len(files)}; name a "
            "folder with these two alone, or a table."
        )
    names = [file.stem if file.suffix == ".txt" else file.suffix.removeprefix(".") for file in files]
    sides = [[line.rstrip("\r\n") for line in read_lines(file)] for file in files]
    counts = [len(lines) for lines in sides]
    if counts[0] != counts[1]:
        raise DataError(
            f"{path}: need as many lines in both files; got {counts[0]} in {files[0].name} and {counts[1]} in "
            f"{files[1].name}; align them."
        )
    yield from (dict(zip(names, pair, strict=True)) for pair in zip(*sides, strict=True))


def own_parts(path: Path) -> dict[str, Part]:
    """Find the folders train, validation and test with two files each."""
    return input_files.own_parts(path, read_aligned, "*.*")


def likeness(value: Any) -> Any:
    """Return what texts share that differ in case, digits, spaces or punctuation alone."""
    if not isinstance(value, str):
        return value
    return " ".join(_language.words(re.sub(r"\d", " ", value))) or value.strip()


def require_pairs(split: Dataset, path: str, source: str, target: str) -> None:
    """Raise DataError unless each row has two texts."""
    for number, pair in enumerate(zip(split[source], split[target], strict=True), start=1):
        for role, text in zip((source, target), pair, strict=True):
            if not isinstance(text, str) or not text.strip():
                got = "an empty one" if isinstance(text, str) else "none" if text is None else type(text).__name__
                raise DataError(
                    f"{path}: need a {role} in each row; got {got} in row {number}; fill it in or drop the row."
                )


def inspect(splits: dict[str, Dataset], config: Config, source: str, target: str) -> list[Finding]:
    """Find pairs that are there twice, uneven or not translated at all, and sources that training knows already."""
    findings: list[Finding] = []
    for name, split in splits.items():
        require_pairs(split, classes.where(name, config), source, target)
        findings += _oddities(name, list(zip(split[source], split[target], strict=True)), source, target)
    keys = {name: [likeness(text) for text in split[source]] for name, split in splits.items()}
    for name, split in splits.items():
        findings += duplicates.repeats(
            name, [*zip(split[source], split[target], strict=True)], [""] * len(split), "pair"
        )
    return findings + duplicates.leaks(keys, f"{source} (case, digits and punctuation aside)")


def _oddities(name: str, pairs: list[tuple[str, str]], source: str, target: str) -> list[Finding]:
    same = [number for number, (one, other) in enumerate(pairs, start=1) if one.strip() == other.strip()]
    told = [Finding("ok", f"{name}: {len(pairs):,} pairs of a {source} and a {target}")]
    if same:
        share = f"{len(same)} of {len(pairs)} pairs ({len(same) / len(pairs):.0%}, first: row {same[0]})"
        told.append(Finding("warning", f"{name}: in {share} both texts are the same; they teach to copy"))
    return told


def uneven(name: str, split: Dataset, source: str, target: str) -> list[Finding]:
    """Find pairs of unlike lengths, which are rarely translations of each other."""
    sizes = [tuple(map(_language.extent, pair)) for pair in zip(split[source], split[target], strict=True)]
    rows = [number for number, pair in enumerate(sizes, start=1) if max(pair) > max(UNEVEN * min(pair), 40)]
    if not rows:
        return []
    told = f"{name}: in {len(rows)} pairs one text is {UNEVEN} times as long as the other (first: row {rows[0]})"
    return [Finding("warning", f"{told}; look whether they belong together")]
