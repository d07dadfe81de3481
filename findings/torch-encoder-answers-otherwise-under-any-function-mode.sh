#!/usr/bin/env bash
# PyTorch 2.13.0: nn.TransformerEncoder in evaluation answers otherwise inside a TorchFunctionMode that passes every call
# on unchanged. Seen, with padding: outputs at padding are 0 outside and numbers inside, so that a mean over positions
# differs. The layers ask torch.overrides.has_torch_function whether they may take their fused path, and that is true
# of every argument while any mode is on.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch
from torch.overrides import TorchFunctionMode


class Onlooker(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
encoder = torch.nn.TransformerEncoder(layer, 2).eval()
texts = torch.randn(2, 5, 16)
padding = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]).bool()
with torch.no_grad():
    alone = encoder(texts, src_key_padding_mask=padding)
    with Onlooker():
        seen = encoder(texts, src_key_padding_mask=padding)
means = [float(output[1].mean(0)[0]) for output in (alone, seen)]
print("torch", torch.__version__, "- at padding:", float(alone[1, 3:].abs().max()), "and", float(seen[1, 3:].abs().max()),
      "- a mean over positions:", means)
assert float(alone[1, 3:].abs().max()) == 0 < float(seen[1, 3:].abs().max()), "both are the same now"
assert abs(means[0] - means[1]) > 1e-3
PROGRAM
