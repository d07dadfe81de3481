#!/usr/bin/env bash
# rouge_score 0.1.2: the usual ROUGE keeps letters from a to z and digits, so that a text in another alphabet has no
# words, and letters with accents cut words apart. Nothing is said. Seen: a Chinese and a Russian sentence score 0
# against themselves, and German with its umlauts left out scores 1 against German.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check rouge_score==0.1.2
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
from importlib.metadata import version

from rouge_score.rouge_scorer import RougeScorer

pairs = {"Chinese": ["猫坐在垫子上"] * 2, "Russian": ["кошка сидит"] * 2, "German": ["schöne Äpfel", "sch ne pfel"]}
scores = {name: RougeScorer(["rouge1"]).score(*pair)["rouge1"].fmeasure for name, pair in pairs.items()}
print("rouge_score", version("rouge_score"), "-", scores)
assert scores == {"Chinese": 0, "Russian": 0, "German": 1}, "other alphabets are read now"
PROGRAM
