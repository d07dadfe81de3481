#!/usr/bin/env bash
# transformers 5.23.0: Trainer with save_total_limit=1 and load_best_model_at_end keeps the best checkpoint and the
# last one while it trains, and deletes the last when it stops: only the best is left, from which training cannot go on
# where it ended. Seen: best at step 8 of 12; checkpoint-12 and checkpoint-8 after the last save, checkpoint-8 at the
# end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import os

import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments


class Watcher(TrainerCallback):
    def on_save(self, *_, **__):
        self.seen = sorted(os.listdir("run"))


class Falling(Trainer):
    """Says that the model is best at its eighth step."""

    def evaluate(self, *_, **__):
        measures = {"eval_loss": float(abs(self.state.global_step - 8))}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measures)
        return measures


torch.manual_seed(0)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))
rows = [{"input_ids": [row, row + 1], "labels": row % 2} for row in range(16)]
arguments = TrainingArguments(
    "run", num_train_epochs=6, eval_strategy="epoch", save_strategy="epoch", save_total_limit=1,
    load_best_model_at_end=True, use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no",
)
watcher = Watcher()
trainer = Falling(model, arguments, train_dataset=rows, eval_dataset=rows, callbacks=[watcher])
trainer.train()
left = sorted(os.listdir("run"))
print("transformers", transformers.__version__, "- after the last save", watcher.seen, "- at the end", left)
assert watcher.seen == ["checkpoint-12", "checkpoint-8"]
assert left == ["checkpoint-8"], "the last checkpoint stays now"
PROGRAM
