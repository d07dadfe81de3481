#!/usr/bin/env bash
# transformers 5.23.0: SpeechT5's generate_speech gives the cross-attention of several texts as (texts, layers, ...),
# but layers were put one behind the other before texts and are taken apart the other way round. Seen: with two texts
# and two layers, what is given for the second text's first layer is not that text's, but the first text's second
# layer; the speech is right.
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
from transformers import SpeechT5Config, SpeechT5ForTextToSpeech

torch.manual_seed(0)
model = SpeechT5ForTextToSpeech(SpeechT5Config(
    vocab_size=20, hidden_size=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
    decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, speech_decoder_prenet_units=16,
    speech_decoder_postnet_units=8, speaker_embedding_dim=4, num_mel_bins=8, reduction_factor=1,
)).eval()
model.speecht5.decoder.prenet._consistent_dropout = lambda units, share: units  # it would drop in evaluation too
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_(std=0.5)
texts, speaker = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]]), torch.zeros(2, 4)


def speak(rows):
    options = {"threshold": 2.0, "maxlenratio": 3.0, "output_cross_attentions": True, "return_output_lengths": True}
    mask = torch.ones_like(texts[rows])
    sounds, _, attentions = model.generate_speech(texts[rows], speaker[rows], attention_mask=mask, **options)
    return sounds, attentions


def apart(one, other):
    return float((one - other).abs().max())


(sounds, both), (first_sound, first), (second_sound, second) = speak([0, 1]), speak([0]), speak([1])
wrong, mixed, right = apart(both[1, 0], second[0, 0]), apart(both[1, 0], first[0, 1]), apart(both[1, 1], second[0, 1])
print("transformers", transformers.__version__, "- sounds differ by", apart(sounds[1], second_sound[0]),
      "- first layer of the second text differs from its own by", wrong, "- from the first text's second by", mixed)
assert apart(sounds[1], second_sound[0]) < 1e-4 and right < 1e-5
assert wrong > 1e-3 and mixed < 1e-5, "each text has its own attention now"
PROGRAM
