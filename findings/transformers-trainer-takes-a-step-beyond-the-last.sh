#!/usr/bin/env bash
# transformers 5.23.0: Trainer, resumed from the checkpoint of the last of max_steps, trains a step more before it
# looks whether it is done. Seen: of four steps, the resumed run is at step 5, and its weights are others.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

rows = [{"input_ids": [row, row + 1], "labels": row % 2} for row in range(12)]
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def train(checkpoint=None):
    torch.manual_seed(0)
    arguments = TrainingArguments(
        "run", max_steps=4, save_steps=4, per_device_train_batch_size=4, learning_rate=0.1,
        lr_scheduler_type="constant", use_cpu=True, report_to=[], disable_tqdm=True,
    )
    model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer.state.global_step, model.classifier.weight.detach()


(steps, weight), (steps_again, weight_again) = train(), train("run/checkpoint-4")
difference = float((weight - weight_again).abs().max())
print("transformers", transformers.__version__, "- steps", steps, "and", steps_again, "- weights differ by", difference)
assert (steps, steps_again) == (4, 5) and difference > 0.01, "a finished run stays as it is now"
PROGRAM
