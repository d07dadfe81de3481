#!/usr/bin/env bash
# datasets 5.2.0: columns of float64 come as float32 under `with_format("numpy")`, though the column's type says
# float64, and NumPy has it. Nothing is said. Seen: 16777217 is read as 16777216; without a format it is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6
export HF_HUB_OFFLINE=1
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import datasets
from datasets import Dataset

numbers = Dataset.from_dict({"number": [16777217.0, 0.1]})
given = numbers.with_format("numpy")[:]["number"]
print("datasets", datasets.__version__, "- the column is", numbers.features["number"].dtype, "- given as", given.dtype,
      int(given[0]), "- without a format", numbers[:]["number"])
assert numbers.features["number"].dtype == "float64" and numbers[:]["number"][0] == 16777217
assert given.dtype == "float32" and given[0] == 16777216, "it comes as float64 now"
PROGRAM
