#!/usr/bin/env bash
# transformers 5.23.0: Whisper's basic normaliser, which is said to keep diacritics, puts a space in place of each mark,
# and in Thai, Hindi and vocalised Arabic marks are vowels: words fall apart, and vowels that were misheard count as
# right. Seen: two Thai words that differ in their vowels come out as the same, and a word of Arabic as three letters.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
from importlib.metadata import version

from transformers.models.whisper.english_normalizer import BasicTextNormalizer

write = BasicTextNormalizer()
pairs = {"Thai": ("ที", "ทู"), "Arabic": ("كَتَبَ", "ك ت ب")}
found = {name: [write(text).strip() for text in pair] for name, pair in pairs.items()}
print("transformers", version("transformers"), "-", found)
assert all(one == other for one, other in found.values()), "marks on letters stay now"
PROGRAM
