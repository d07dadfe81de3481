#!/usr/bin/env bash
# transformers 5.23.0: BigBird's first text too short for its blocks turns the model to full attention for good, so
# that what it says of a long text depends on what it was asked before. Seen: the same text of 96 tokens before and
# after one of 8 differs by half the spread of the hidden states.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch
import transformers
from transformers import BigBirdConfig, BigBirdModel

torch.manual_seed(0)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
blocks = {"block_size": 4, "num_random_blocks": 1, "max_position_embeddings": 128}
model = BigBirdModel(BigBirdConfig(vocab_size=50, **sizes, **blocks)).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_()
    text = torch.randint(1, 50, (1, 96))
    kind, before = model.attention_type, model(text).last_hidden_state
    again = model(text).last_hidden_state
    model(text[:, :8])
    after = model(text).last_hidden_state
difference = float((before - after).abs().max() / before.std())
print("transformers", transformers.__version__, "-", kind, "and then", model.attention_type, "- the same text differs by",
      difference, "of the spread")
assert kind == "block_sparse" and torch.equal(before, again)
assert model.attention_type == "original_full" and difference > 0.1, "the model comes back to its blocks now"
PROGRAM
