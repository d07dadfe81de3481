#!/usr/bin/env bash
# PyTorch 2.13.0, CPU: scaled_dot_product_attention of a query of NaN gives 0 where there are fewer than 16 keys and no
# mask, so that a model that has gone wrong looks as if it had not. Seen: 0 for 1 to 15 keys and NaN from 16 on, where
# softmax gives NaN for all. How many keys it takes may depend on the vectors of the processor.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch
from torch.nn.functional import scaled_dot_product_attention

torch.manual_seed(0)
lost, plain = [], []
for count in range(1, 20):
    query, key, value = (torch.randn(1, 1, count, 8) for _ in range(3))
    query[0, 0, 0] = torch.nan
    if not scaled_dot_product_attention(query, key, value)[0, 0, 0].isnan().any():
        lost.append(count)
    if not (torch.softmax(query @ key.mT, -1) @ value)[0, 0, 0].isnan().all():
        plain.append(count)
print("torch", torch.__version__, "- NaN is lost with these numbers of keys:", lost, "- by softmax:", plain)
assert not plain
assert 5 in lost and 7 in lost, "NaN stays now"
PROGRAM
