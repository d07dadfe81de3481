#!/usr/bin/env bash
# PyTorch 2.13.0: nn.TransformerEncoderLayer in evaluation without gradients takes a mask of floating-point numbers, which
# its documentation says is added to the scores, for a mask that hides every position whose number is not 0.
# Seen: with a bias by distance, the layer's output with gradients on differs from the one under no_grad by more than 0.1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch

torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
texts = torch.randn(2, 5, 16)
places = torch.arange(5.0)
bias = -0.5 * (places[:, None] - places).abs()  # 0 on the diagonal alone
recorded = layer(texts, src_mask=bias)
with torch.no_grad():
    fused = layer(texts, src_mask=bias)
    hidden = layer(texts, src_mask=torch.zeros(5, 5).masked_fill(bias != 0, -torch.inf))
difference, as_mask = float((recorded - fused).abs().max()), float((hidden - fused).abs().max())
print("torch", torch.__version__, "- with and without gradients differ by", difference, "- from a mask by", as_mask)
assert difference > 0.1 and as_mask < 1e-5, "a bias is a bias now"
PROGRAM
