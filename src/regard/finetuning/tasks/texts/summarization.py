"""Summarization: each text gets a shorter one that says what matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regard import _language
from regard.errors import DataError
from regard.finetuning.config import Config
from regard.finetuning.data.tables import Formats
from regard.finetuning.progress import Display
from regard.finetuning.tasks import Prediction, Score, Template
from regard.finetuning.tasks.targets import classes, intervals
from regard.finetuning.tasks.texts import languages, pairs, sequences
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"text": "the text to sum up", "summary": "its summary"}
INPUT = "text"
FORMATS: Formats = {"": pairs.read_aligned}
ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l_sum": "rougeLsum"}
Options = sequences.Options

Known = sequences.Known
TEMPLATE = Template(
    model="facebook/bart-base",
    train="articles.jsonl",
    output="runs/summaries",
    examples={"data.group": "source", "data.max_length": 512},
    hidden=sequences.HIDDEN,
    comments=sequences.COMMENTS,
    additions=sequences.ADDITIONS
    | {
        "model": "T5, BART, LED or Pegasus with its tokenizer",
        "data.train": "or a folder with two files, aligned by lines",
        "options.prefix": '"summarize: " for T5',
        "report.baselines": "the first sentence, and the summary of the nearest training text",
    },
)


def _quality(language: str) -> tuple[str, Any]:
    scorer = languages.rouge(["rougeLsum"], language)
    return "ROUGE-Lsum", lambda output, reference: scorer.score(reference, output)["rougeLsum"].fmeasure


_task = sequences.TextToText("text", "summary", _quality)
alike = pairs.likeness
parts = pairs.own_parts
strata = reading = read = None
encode, record = _task.encode, _task.record
metric, loss, collator = sequences.metric, sequences.loss, sequences.collator
tally = validate = None
load_model, respond, tell = sequences.load_model, sequences.respond, sequences.tell


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Look for rows that teach nothing or too much, and for summaries in which there is nothing to count."""
    spec, findings = _task.inspect(splits, config)
    for name, split in splits.items():
        findings += _wordless(name, split, classes.where(name, config))
    counted = "ROUGE counts its words"
    if not languages.has_spaces(spec.language):
        counted = "ROUGE counts each of its characters as a word, for no spaces part its words"
    elif spec.language == _language.ENGLISH:
        counted += " by their stems"
    return spec, [
        *findings,
        languages.told("train", "summary", spec.language, bool(config.options["language"]), counted),
    ]


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require two texts in each row, and words to measure by."""
    _task.inspect_held_out(split, path, spec)
    _wordless("test", split, path)


def _wordless(name: str, split: Dataset, path: str) -> list[Finding]:
    """Find summaries of signs alone, whose words cannot be counted."""
    rows = [number for number, text in enumerate(split["summary"], start=1) if not _language.words(text)]
    if not rows:
        return []
    if len(rows) == len(split):
        raise DataError(
            f"{path}: need summaries with letters or digits to measure by; got none; choose another column."
        )
    told = f"{name}: {len(rows)} summaries hold no letters and no digits (first: row {rows[0]})"
    return [Finding("warning", f"{told}; ROUGE leaves them out, for it counts words")]


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the tokenizer; from scratch, make one of the training texts and their summaries."""
    return sequences.load_processor(source, config, train, list(COLUMNS))


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with the F-measures of ROUGE-1, 2 and Lsum (Lin 2004), with bootstrapped intervals.

    The mean over the rows whose reference holds words.
    """
    scorer = languages.rouge(ROUGE.values(), languages.of(spec.language, split["summary"]))
    pairs = [(r, p["output"]) for r, p in zip(split["summary"], predictions, strict=True)]
    found = [scorer.score(*pair) for pair in pairs]
    counted = np.array([bool(_language.words(reference)) for reference, _ in pairs])
    rows = np.array([[each[kind].fmeasure for kind in ROUGE.values()] for each in found])[counted]
    draws = intervals.resampled_sums(rows) / len(rows)
    return {name: intervals.drawn(float(rows[:, n].mean()), draws[:, n]) for n, name in enumerate(ROUGE)}


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Take the first sentence, and the summary of the nearest training text."""
    return {
        "first sentence": sequences.answers([first_sentence(text) for text in test["text"]]),
        "nearest training text (TF-IDF)": sequences.nearest(train, test, "text", "summary", config),
    }


def first_sentence(text: str) -> str:
    """Return the first sentence of a text in any language, or nothing of none."""
    return next(iter(_language.sentences(text)), "")


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return samples, what the summaries attend to, and how exactly they were measured."""
    signature = languages.rouge_signature(languages.of(spec.language, split["summary"]))
    note = f"rouge: F-measures, signature {signature}; a summary's lines are its sentences for Lsum."
    shown = _task.illustrate(model, processor, split, predictions, spec, config)
    return {**shown, "notes": [note, *shown["notes"]]}
