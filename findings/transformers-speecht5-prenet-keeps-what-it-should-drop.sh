#!/usr/bin/env bash
# transformers 5.23.0: the prenet of SpeechT5's decoder keeps each unit with the probability p by which it should drop
# it, and scales by 1 / (1 - p): right at 0.5 alone. It does so in evaluation too. Seen: at p = 0 nothing is left, and
# the prenet says the same whatever it hears; at 0.2 a fifth is left, of a mean of 0.25 where 1 went in.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch
import transformers
from transformers import SpeechT5Config
from transformers.models.speecht5.modeling_speecht5 import SpeechT5SpeechDecoderPrenet

torch.manual_seed(0)
sizes = {"hidden_size": 16, "speech_decoder_prenet_units": 32, "num_mel_bins": 8, "speaker_embedding_dim": 4}
said, kept = {}, {}
for share in (0.0, 0.5):
    prenet = SpeechT5SpeechDecoderPrenet(SpeechT5Config(speech_decoder_prenet_dropout=share, **sizes)).eval()
    one, other = (prenet(torch.randn(1, 3, 8), torch.zeros(1, 4)) for _ in range(2))
    said[share] = float((one - other).abs().max())
for share in (0.0, 0.2, 0.5):
    left = prenet._consistent_dropout(torch.ones(1, 4, 50_000), share)
    kept[share] = float((left != 0).float().mean()), float(left.mean())
print("transformers", transformers.__version__, "- two inputs differ by", said, "- units kept and their mean:", kept)
assert said[0.0] == 0 < said[0.5] and kept[0.0][0] == 0, "a dropout of 0 keeps everything now"
assert abs(kept[0.2][0] - 0.2) < 0.02 and abs(kept[0.2][1] - 0.25) < 0.03
PROGRAM
