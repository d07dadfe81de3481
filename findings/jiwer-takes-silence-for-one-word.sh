#!/usr/bin/env bash
# jiwer 4.0.0: the error rate of a transcript without words is the number of what was said falsely, as if the reference
# had one, so that rates of single recordings cannot be averaged; over several it is part of the sum. Seen: a word
# error rate of 3 for three words and a character error rate of 4 for one of four letters, where a division has no
# answer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jiwer==4.0.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
from importlib.metadata import version

import jiwer

words, letters = jiwer.wer([""], ["one two three"]), jiwer.cer([""], ["door"])
beside = jiwer.wer(["a b", ""], ["a b", "noise here"])
print("jiwer", version("jiwer"), "- words", words, "letters", letters, "- beside two right words", beside)
assert beside == 1
assert (words, letters) == (3, 4), "silence has another rate now"
PROGRAM
