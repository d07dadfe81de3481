#!/usr/bin/env bash
# linformer 0.2.3: its self-attention takes any keyword, so a mask is accepted and ignored; it mixes positions before
# they are attended to, and has none. Nothing is said. Seen: what is hidden changes the output of what is seen by 0.15.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 linformer==0.2.3
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
from importlib.metadata import version

import torch
from linformer import LinformerSelfAttention

torch.manual_seed(0)
layer = LinformerSelfAttention(16, 6, k=4, heads=2).eval()
texts, visible = torch.randn(1, 6, 16), torch.tensor([[True, True, True, False, False, False]])
others = torch.where(visible[..., None], texts, 2 * texts)
with torch.no_grad():
    masked, plain, changed = layer(texts, mask=visible), layer(texts), layer(others, mask=visible)
difference = float((masked - changed)[visible].abs().max())
print("linformer", version("linformer"), "- hidden positions change the others by", difference)
assert torch.equal(masked, plain) and difference > 0.01, "a mask does something now"
PROGRAM
