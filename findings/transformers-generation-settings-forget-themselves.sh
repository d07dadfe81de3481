#!/usr/bin/env bash
# transformers 5.23.0: a generation configuration that was derived from a model's own is marked `_from_model_config`,
# in the file it is saved to as well, and what was set on it beyond the usual settings is not read back. Seen:
# alignment_heads and no_timestamps_token_id of a Whisper stand in generation_config.json and are gone from the model
# loaded from there, so that it gives no words' times; max_new_tokens stays.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import json

import transformers
from transformers import WhisperConfig, WhisperForConditionalGeneration

sides = {f"{side}_{name}": size for side in ("encoder", "decoder")
         for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}
tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "decoder_start_token_id": 2}
config = WhisperConfig(vocab_size=30, d_model=16, num_mel_bins=8, max_source_positions=20, **sides, **tokens)
model = WhisperForConditionalGeneration(config)
model.generation_config.alignment_heads = [[0, 1]]
model.generation_config.no_timestamps_token_id = 7
model.generation_config.max_new_tokens = 5
model.save_pretrained("model")
with open("model/generation_config.json") as file:
    written = json.load(file)
loaded = WhisperForConditionalGeneration.from_pretrained("model").generation_config
names = ("alignment_heads", "no_timestamps_token_id", "max_new_tokens")
print("transformers", transformers.__version__, "- written", [written.get(name) for name in names],
      "- loaded", [getattr(loaded, name, None) for name in names])
assert [written[name] for name in names] == [[[0, 1]], 7, 5] and loaded.max_new_tokens == 5
assert getattr(loaded, "alignment_heads", None) is None, "settings are remembered now"
assert getattr(loaded, "no_timestamps_token_id", None) is None
PROGRAM
