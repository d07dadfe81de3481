"""What a check says of texts: empty, alike, cut, spoiled on their way, or no texts at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regard import _language
from regard.errors import DataError
from regard.finetuning.data.columns import normalize
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset
from regard.finetuning.tasks.texts.tokenizing import Encodings


def length_findings(name: str, lengths: Sequence[int], limit: int, refuse: bool) -> list[Finding]:
    """Say how many texts are longer than the model reads.

    Raises:
        DataError: there are some, and the configuration refuses them.
    """
    long = [length for length in lengths if length > limit]
    if not long:
        longest = max(lengths, default=0)
        return [Finding("ok", f"{name}: every text fits; the longest has {longest} tokens, the model reads {limit}")]
    told = f"{len(long)} of {len(lengths)} texts are longer than the {limit} tokens read (the longest has {max(long)})"
    if refuse:
        raise DataError(
            f"{name}: need texts of at most {limit} tokens; got {told}; split them, or set data.too_long to cut."
        )
    lost = sum(long) - limit * len(long)
    share = f"{lost:,} of {sum(lengths):,} tokens ({lost / sum(lengths):.1%})"
    return [Finding("warning", f"{name}: {told}; their ends are cut off, {share}")]


SPOILED = re.compile("\ufffd|\x00|[\xc2\xc3][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|â€|[\x01-\x08\x0b\x0c\x0e-\x1f]")
"""What a text holds that was decoded in another encoding than it was written in, or is no text."""


def reading_findings(name: str, texts: Sequence[str], encodings: Encodings, tokenizer: Any) -> list[Finding]:
    """Say how many texts were spoiled by an earlier program, and whether the tokenizer knows their words."""
    findings = []
    spoiled = [(number, found[0]) for number, text in enumerate(texts, start=1) if (found := SPOILED.search(text))]
    if spoiled:
        number, sign = spoiled[0]
        told = f"{name}: {len(spoiled)} texts hold signs of a wrong encoding (first {sign!a} in row {number})"
        findings.append(Finding("warning", f"{told}; read the original again, in the encoding that it was written in"))
    tokens = sum(map(len, encodings))
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encodings) if tokenizer.unk_token_id is not None else 0
    if unknown > 0.05 * tokens:
        told = f"{name}: {unknown:,} of {tokens:,} tokens are unknown to the tokenizer ({unknown / tokens:.0%})"
        findings.append(Finding("warning", f"{told}; choose a model of this language and script"))
    return findings


def require_texts(split: Dataset, path: str) -> None:
    """Raise DataError unless each row has a text."""
    for number, text in enumerate(split["text"], start=1):
        if not isinstance(text, str):
            raise DataError(
                f"{path}: need a text in each row; got {_kind(text)} in row {number}; fill it in or drop the row."
            )


def _kind(value: Any) -> str:
    return "none" if value is None else f"a value of type {type(value).__name__}"


def likeness(text: Any) -> Any:
    """Return what texts share that differ in case, spaces and punctuation alone."""
    if not isinstance(text, str):
        return text
    return " ".join(_language.words(text)) or text.strip() or None


def likenesses(splits: dict[str, Dataset]) -> dict[str, list[Any]]:
    """Return what the texts of each split are alike in."""
    return {name: [likeness(text) for text in split["text"]] for name, split in splits.items()}


def keys(split: Dataset) -> list[str | None]:
    """Return what is alike for texts that differ in case or spaces alone, None for those without any."""
    return [normalize(text) if text.strip() else None for text in split["text"]]


def empty_findings(name: str, split: Dataset) -> list[Finding]:
    """Say how many texts are empty."""
    empty = [number for number, text in enumerate(split["text"], start=1) if not text.strip()]
    if not empty:
        return []
    return [Finding("warning", f"{name}: {len(empty)} texts are empty (first in row {empty[0]}); they teach nothing")]
