#!/usr/bin/env bash
# performer-pytorch 1.1.4: the mask of its self-attention empties the hidden values and leaves the keys in the sum by
# which it divides, so that what is hidden makes the rest smaller. Seen: where every value is the same, so that any
# average is that value, an output with half of the keys hidden is about half as large.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 performer-pytorch==1.1.4 axial-positional-embedding==0.3.12 local-attention==1.11.2 \
  einops==0.8.2
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
from importlib.metadata import version

import torch
from performer_pytorch import SelfAttention

torch.manual_seed(0)
layer = SelfAttention(dim=16, heads=2, causal=False, nb_features=256).eval()
text = torch.randn(1, 1, 16).expand(1, 6, 16)  # one vector six times: every average of its values is the same
visible = torch.tensor([[True, True, True, False, False, False]])
torch.nn.init.zeros_(layer.to_out.bias)
with torch.no_grad():
    share = (layer(text, mask=visible)[:, :3] / layer(text)[:, :3]).median()
print("performer-pytorch", version("performer-pytorch"), "- what half of the keys hidden leaves:", float(share))
assert abs(float(share) - 0.5) < 0.01, "hidden keys do not count now"
PROGRAM
