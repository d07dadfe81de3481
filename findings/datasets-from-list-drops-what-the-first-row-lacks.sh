#!/usr/bin/env bash
# datasets 5.2.0: `Dataset.from_list` takes its columns from the first row; a key that begins in a later row is
# dropped, and nothing is said. A key that a later row lacks becomes None. Seen: of {"text"} and {"text", "label"}, the
# labels are gone; the other way round they are there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0
export HF_HUB_OFFLINE=1
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import datasets
from datasets import Dataset

rows = [{"text": "a"}, {"text": "b", "label": 3}]
dropped, kept = Dataset.from_list(rows), Dataset.from_list(rows[::-1])
print("datasets", datasets.__version__, "- columns", dropped.column_names, "and", kept.column_names, kept[:])
assert kept.column_names == ["text", "label"] and kept["label"][:] == [3, None]
assert dropped.column_names == ["text"], "later keys are kept now"
PROGRAM
