"""Summarization: each text gets a shorter one that says what matters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.finetuning.config import Config
from regard.finetuning.data.tables import Formats
from regard.finetuning.progress import Display
from regard.finetuning.tasks import Prediction, Score, Template
from regard.finetuning.tasks.targets import intervals
from regard.finetuning.tasks.texts import pairs, sequences

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


def _scorer(kinds: Sequence[str]) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), use_stemmer=True)


def _quality(output: str, reference: str) -> float:
    return _scorer(["rougeLsum"]).score(reference, output)["rougeLsum"].fmeasure


_task = sequences.TextToText("text", "summary", _quality, "ROUGE-Lsum")
alike = pairs.likeness
parts = pairs.own_parts
strata = reading = read = None
inspect, inspect_held_out, encode, record = _task.inspect, _task.inspect_held_out, _task.encode, _task.record
metric, loss, collator = sequences.metric, sequences.loss, sequences.collator
tally = validate = None
load_model, respond, tell = sequences.load_model, sequences.respond, sequences.tell


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the tokenizer; from scratch, make one of the training texts and their summaries."""
    return sequences.load_processor(source, config, train, list(COLUMNS))


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with the F-measures of ROUGE-1, 2 and Lsum (Lin 2004), with bootstrapped intervals."""
    scorer = _scorer(list(ROUGE.values()))
    found = [scorer.score(r, p["output"]) for r, p in zip(split["summary"], predictions, strict=True)]
    rows = np.array([[each[kind].fmeasure for kind in ROUGE.values()] for each in found])
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
    """Return what comes before the first full stop, exclamation or question mark with a space behind it."""
    return re.split(r"(?<=[.!?])\s|(?<=[。！？])", text.strip(), maxsplit=1)[0]


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return samples, what the summaries attend to, and how exactly they were measured."""
    note = "ROUGE: F-measures of rouge-score with Porter's stemmer, a summary's lines as its sentences for Lsum."
    shown = _task.illustrate(model, processor, split, predictions, spec, config)
    return {**shown, "notes": [note, *shown["notes"]]}
