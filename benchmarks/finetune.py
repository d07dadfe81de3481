"""The demo's fine-tuning against a plain script on transformers' Trainer; prints a row as JSON.

python benchmarks/finetune.py finetune full|brief|quick

Both train MiniLM for one epoch on the demo's sentences, in steps of 32, one after the other; what counts is the time of
training, and that the accuracy on the test sentences is no worse.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from attention import describe
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)  # fmt: skip

import regard
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "sentiment" / "demo.yaml"


def sentences(path: str) -> Dataset:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row["sentiment"] == "positive") for row in rows]
    return Dataset.from_dict({"text": [row["sentence"] for row in rows], "labels": labels})


def plain(config: Config, folder: str, steps: int) -> tuple[float, float]:
    """Seconds of training and accuracy of what a tutorial would write."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(config.source)
    model = AutoModelForSequenceClassification.from_pretrained(config.source)
    splits = {
        name: sentences(path).map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True)
        for name, path in (("train", config.data.train), ("test", str(config.data.test)))
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=folder, num_train_epochs=1, max_steps=steps, per_device_train_batch_size=32, report_to="none",
            per_device_eval_batch_size=32, learning_rate=config.train.learning_rate, save_strategy="no",
            disable_tqdm=True, dataloader_pin_memory=False,
        ),
        train_dataset=splits["train"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    answers = trainer.predict(splits["test"])
    return seconds, float(np.mean(answers.predictions.argmax(-1) == answers.label_ids))


def ours(config: Config, folder: str, steps: int) -> tuple[float, float]:
    values = config.model_dump()
    values["output"] = folder
    values["report"]["baselines"] = False
    values["train"] |= {"epochs": 1, "max_steps": steps if steps > 0 else None, "evaluate_every": 10_000}
    run = regard.finetune(values, quiet=True)
    return run.metrics["seconds"]["train"], run.metrics["accuracy"]


def main() -> None:
    extent = sys.argv[2]
    steps = 8 if extent == "quick" else -1
    if not (ROOT / "data" / "sentiment" / "test.csv").is_file():
        subprocess.run([sys.executable, "examples/sentiment/get_data.py"], cwd=ROOT, check=True, stdout=sys.stderr)
    config = load_config(DEMO)
    places = {name: str(ROOT / getattr(config.data, name)) for name in ("train", "validation", "test")}
    config = config.model_copy(update={"data": config.data.model_copy(update=places)})
    with tempfile.TemporaryDirectory() as folder:
        mine, accuracy = ours(config, f"{folder}/ours", steps)
        theirs, reached = plain(config, f"{folder}/plain", steps)
    row = {
        "framework": "torch", "what": "finetune, to one epoch's accuracy", "n": 8070, "d": 384, "dtype": "float32",
        "peer": "transformers' Trainer", "regard_ms": mine * 1e3, "peer_ms": theirs * 1e3, "speed": theirs / mine,
        "accuracy": accuracy, "peer_accuracy": reached,
    }  # fmt: skip
    print(describe(row), f"accuracy {accuracy:.3f} and {reached:.3f}", file=sys.stderr, flush=True)
    print(json.dumps([row]))


if __name__ == "__main__":
    main()
