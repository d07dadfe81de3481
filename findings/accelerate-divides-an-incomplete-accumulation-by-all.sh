#!/usr/bin/env bash
# accelerate 1.15.0: `accumulate` divides each loss by gradient_accumulation_steps, also where the data end before that
# many batches are there and the step is made of fewer. Seen: of six batches of one row, each with a gradient of 1, and
# four accumulated, the first step moves the weight by 1 and the second, of two batches, by a half.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 accelerate==1.15.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import accelerate
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
model = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.zeros_(model.weight)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
model, optimizer, batches = accelerator.prepare(model, optimizer, DataLoader([1.0] * 6, batch_size=1))
weights = []
for batch in batches:
    with accelerator.accumulate(model):
        accelerator.backward(model(batch.float()[:, None]).mean())
        optimizer.step()
        optimizer.zero_grad()
    weights.append(float(model.weight))
print("accelerate", accelerate.__version__, "- the weight after each batch:", weights)
assert weights[:5] == [0, 0, 0, -1, -1]
assert weights[5] == -1.5, "the last step is a mean of what it has now"
PROGRAM
