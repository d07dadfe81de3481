"""Text, from nothing: is a sentence of a movie review kind or unkind?

Each word becomes a vector (its embedding), attention lets words look at each other ("not" at "good"), and the mean of
what comes out decides. Nothing is pretrained: 8,070 sentences are all that this model ever reads.

    python examples/keras/text.py [--fast] [--output FOLDER]

The sentences are those of examples/sentiment, which says where they come from; they are fetched once.
"""

import argparse
import csv
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import regard
from regard.inspection import plots
from regard.inspection.keras import AttentionMonitor
from regard.nn.keras import Encoder

sys.path.append(str(Path(__file__).parents[1]))
from sentiment import get_data

DATA = Path("data/sentiment")
WORDS = 10_000  # how many different words are told apart
UNITS = 64
EXAMPLE = "not a good film , but the actors are wonderful ."


def read(part: str) -> tuple[list[str], np.ndarray]:
    """Sentences, and 1 for each that is positive."""
    with (DATA / f"{part}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["sentence"] for row in rows], np.array([float(row["sentiment"] == "positive") for row in rows])
