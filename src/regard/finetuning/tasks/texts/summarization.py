"""Summarization: each text gets a shorter one that says what matters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.finetuning.config import Config
from regard.finetuning.data.tables import Formats
from regard.finetuning.progress import Display
from regard.finetuning.tasks import Prediction, Score, Spec
from regard.finetuning.tasks.targets import intervals
from regard.finetuning.tasks.texts import pairs, sequences

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"text": "the text to sum up", "summary": "its summary"}
INPUT = "text"
FORMATS: Formats = {"": pairs.read_aligned}
ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l_sum": "rougeLsum"}
Options = sequences.Options

TEMPLATE = """\
# What to learn. Every key that is left out has the value shown here; paths start where you run the command.
task: summarization

# A directory with a pretrained model (T5, BART, LED, Pegasus) and its tokenizer, package:NAME/PATH in an installed
# Python package, or a name on the Hugging Face hub.
model: facebook/bart-base

data:
  train: articles.jsonl       # .csv, .tsv, .jsonl, .parquet, .xlsx, or a folder with two files, aligned by lines
  validation: 0.05            # the same, or a fraction to set aside of train: chooses the checkpoint
  test: 0.05                  # the same, or a fraction to set aside of train: measures the result
  columns:                    # the task's name of each column, then yours
    text: text
    summary: summary
  # group: source             # a column whose equal cells stay together when rows are set aside
  # max_length: 512           # tokens to read of each text; what the model can read if left out
  too_long: cut               # cut longer texts and report how many, or refuse to start

output: runs/summaries        # the run directory to make

train:
  epochs: 3
  batch_size: 32
  accumulate: 1               # batches in a step
  max_tokens: 16384           # in a forward pass: bounds the memory, not the step
  learning_rate: 5.0e-5
  warmup: 0.1                 # fraction of the steps
  schedule: linear            # linear, cosine or constant_with_warmup
  weight_decay: 0.01
  # dropout: 0.1              # of every dropout in the model; the model's own if left out
  precision: auto             # float32, or bfloat16 where the hardware is made for it
  evaluate_every: 0.2         # fraction of the run, or a number of steps
  keep: best                  # the checkpoint with the least loss, or the last

adapter:
  kind: none                  # lora or dora: train a few parameters in place of all

options:
  prefix: ""                  # put before each text: "summarize: " for T5
  beams: 4                    # continuations kept while a text is written
  max_output: 128             # tokens to write of a summary at most
  # from_scratch: {layers: 3, width: 256, heads: 4, vocabulary: 8000}   # no pretrained model; then model: bart

report:
  baselines: true             # the first sentence; the summary of the nearest training text
  mistakes: 20                # samples to show
  attention: 6                # texts whose attention is drawn

seed: 42
"""


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


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Spec) -> dict[str, Score]:
    """Score with the F-measures of ROUGE-1, 2 and Lsum (Lin 2004), with bootstrapped intervals."""
    scorer = _scorer(list(ROUGE.values()))
    found = [scorer.score(r, p["output"]) for r, p in zip(split["summary"], predictions, strict=True)]
    rows = np.array([[each[kind].fmeasure for kind in ROUGE.values()] for each in found])
    draws = intervals.resampled_sums(rows) / len(rows)
    return {name: intervals.drawn(float(rows[:, n].mean()), draws[:, n]) for n, name in enumerate(ROUGE)}


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Spec, config: Config, display: Display
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
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Spec, config: Config
) -> dict[str, Any]:
    """Return samples, what the summaries attend to, and how exactly they were measured."""
    note = "ROUGE: F-measures of rouge-score with Porter's stemmer, a summary's lines as its sentences for Lsum."
    shown = _task.illustrate(model, processor, split, predictions, spec, config)
    return {**shown, "notes": [note, *shown["notes"]]}
