#!/usr/bin/env bash
# KerasHub 0.32.0 on JAX, transformers 5.23.0: BertBackbone.from_preset on a checkpoint of transformers takes its sizes
# and weights, and not its activation: it computes GELU whatever the configuration says. Nothing is said. Seen: a BERT
# with relu differs by 0.59 of the spread of its states, and agrees to five digits with itself under GELU (by tanh).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 keras==3.15.1 keras-hub==0.32.0 jax==0.10.2 jaxlib==0.10.2 \
  tensorflow==2.21.0 tensorflow-text==2.21.1
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=jax JAX_PLATFORMS=cpu
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import json

import torch
from transformers import BertConfig, BertModel

import keras_hub
import numpy as np

torch.manual_seed(0)
sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
model = BertModel(BertConfig(hidden_act="relu", **sizes)).eval()
with torch.no_grad():
    for name, parameter in model.named_parameters():
        parameter.normal_(1 if "LayerNorm.weight" in name else 0, 0.5 if parameter.ndim > 1 else 0.1)
model.save_pretrained("model")
with open("model/vocab.txt", "w") as file:
    file.write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]))
with open("model/tokenizer_config.json", "w") as file:
    json.dump({"tokenizer_class": "BertTokenizer", "do_lower_case": True}, file)
tokens = np.arange(5, 11)[None]
backbone = keras_hub.models.BertBackbone.from_preset("model")
zeros, ones = np.zeros_like(tokens), np.ones_like(tokens)
read = np.asarray(backbone({"token_ids": tokens, "segment_ids": zeros, "padding_mask": ones})["sequence_output"])


def states():
    with torch.no_grad():
        return model(torch.tensor(tokens)).last_hidden_state.numpy()


right = states()
for layer in model.encoder.layer:
    layer.intermediate.intermediate_act_fn = torch.nn.GELU(approximate="tanh")
off, from_gelu = abs(read - right).max() / right.std(), abs(read - states()).max()
print("keras-hub", keras_hub.__version__, "- off by", off, "of the spread - from GELU by", from_gelu)
assert off > 0.05 and from_gelu < 1e-4, "the activation is read now"
PROGRAM
