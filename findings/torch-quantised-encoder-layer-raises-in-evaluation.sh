#!/usr/bin/env bash
# PyTorch 2.13.0: quantize_dynamic takes nn.TransformerEncoderLayer, and what it makes of it raises an AttributeError
# in evaluation, since the layer's fused path asks its linear layers for weights, which are functions once quantised.
# In training it runs. Seen: 'function' object has no attribute 'device'.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch

layer = torch.nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
quantised = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
texts = torch.randn(2, 5, 16)
trained = quantised.train()(texts).shape
said = None
try:
    quantised.eval()(texts)
except AttributeError as error:
    said = str(error)
print("torch", torch.__version__, "- in training", tuple(trained), "- in evaluation:", said)
assert said and "no attribute 'device'" in said, "it runs in evaluation now"
PROGRAM
