"""Reports to try the page on: a full one with a distinct value everywhere, a bare one, and random weights."""

import base64

import numpy as np

from regard.inspection.report import (
    Calibration,
    ClassScore,
    Confusion,
    Curve,
    Example,
    Finding,
    Metric,
    Picture,
    Report,
    Source,
    Table,
    TokenAttention,
)


def softmax_weights(layers, heads, n, seed=0):
    scores = np.exp(3 * np.random.default_rng(seed).normal(size=(layers, heads, n, n)))
    return (scores / scores.sum(-1, keepdims=True)).astype(np.float32)


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOKENS = ["[CLS]", "un", "##for", "##get", "##table", "film", "[SEP]"]


def full(**changes):
    right = Example("An unforgettable film.", "praise", "praise", 0.873)
    values = {
        "title": "Film reviews",
        "summary": "It tells praise from complaint in 91.8 % of 1,200 reviews.",
        "facts": [("Seed", "1729"), ("Hardware", "2 cores")],
        "metrics": [
            Metric("accuracy", 0.9183, (0.9025, 0.9333), {"majority": 0.5108, "words": 0.8417}),
            Metric("log_loss", 0.2412, (0.2117, 0.2743), {"majority": 0.6931}, higher_is_better=False),
            Metric("reviews a second", 412.37),
        ],
        "date": "28 November 2026",
        "sources": [Source("train", "reviews.csv", 4321, "abcdef0123456789" * 4)],
        "hardware": [("Memory", "16 GB")],
        "classes": [ClassScore("recalled", 0.7123, 0.3333, 0.4541, 87)],
        "calibration": Calibration([(0.621, 0.6, 40), (0.955, 0.888, 60)], 0.042, 1.37, 0.099),
        "right": [Example("Rightly judged.", "praise", "praise", 0.75)],
        "curves": [
            Curve("Loss", "step", "nats", {"training": [(0, 0.69), (50, 0.41), (100, 0.2)], "validation": [(100, 0.3)]})
        ],
        "confusion": Confusion(["complaint", "praise"], [[541, 46], [52, 561]]),
        "mistakes": [
            Example("Quite sure.", "praise", "complaint", 0.614),
            Example("Very sure indeed.", "complaint", "praise", 0.993),
        ],
        "attention": [TokenAttention(right, TOKENS, softmax_weights(3, 5, len(TOKENS)))],
        "pictures": [Picture("Where it looked", PIXEL, "One point of it.")],
        "tables": [Table("Largest shares", ["position", "share"], [["row 3, column 5", "17.3 %"]])],
        "findings": [Finding("ok", "All rows were read."), Finding("error", "Seven labels are empty.")],
        "notes": ["The test set was looked at once."],
        "config": "task: text-classification\nseed: 1729\n",
    }
    return Report(**{**values, **changes})


def bare():
    return Report("Nothing yet", "", facts=[], metrics=[])
