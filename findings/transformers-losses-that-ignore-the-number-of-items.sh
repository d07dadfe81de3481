#!/usr/bin/env bash
# transformers 5.23.0: Trainer leaves the division by accumulated batches to a model whose forward takes **kwargs,
# since it may take num_items_in_batch, and BERT's classifier does not use that number. Seen: one step over the same
# twelve rows has a gradient norm of 0.085 in one batch, 0.256 in three accumulated ones and 0.513 in six; the logged
# loss grows alike.
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
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
still = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}


def norm(batches):
    torch.manual_seed(0)
    arguments = TrainingArguments(
        "run", max_steps=1, per_device_train_batch_size=12 // batches, gradient_accumulation_steps=batches,
        logging_steps=1, max_grad_norm=1e9, save_strategy="no", use_cpu=True, report_to=[], disable_tqdm=True,
    )
    model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes, **still))
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    return trainer.state.log_history[0]["grad_norm"]


norms = [norm(batches) for batches in (1, 3, 6)]
print("transformers", transformers.__version__, "- norms of the gradient with 1, 3 and 6 accumulated batches:", norms)
assert abs(norms[1] / norms[0] - 3) < 0.05 and abs(norms[2] / norms[0] - 6) < 0.1, "the norms are alike now"
PROGRAM
