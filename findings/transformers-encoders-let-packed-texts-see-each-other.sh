#!/usr/bin/env bash
# transformers 5.23.0: texts put one behind the other with position_ids that restart are kept apart by decoders, as
# DataCollatorWithFlattening relies on, and not by encoders: their mask does not look at positions. Nothing is said.
# Seen: BERT's states of the first text of a pack differ from those of the text alone by half of their spread; Llama's
# do not differ.
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
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
one, other = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5]])
positions = torch.tensor([[0, 1, 2, 0, 1]])


def differ(kind, config, alone, place, **options):
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        packed = model(torch.cat([one, other], 1), position_ids=positions, **options).last_hidden_state[:, place]
        expected = model(alone).last_hidden_state
    return float((packed - expected).abs().max() / expected.std())


bert = differ(BertModel, BertConfig(**sizes), one, slice(3))
llama = differ(LlamaModel, LlamaConfig(**sizes), other, slice(3, 5), use_cache=False)
print("transformers", transformers.__version__, "- a packed text differs from itself alone by", bert, "of the spread in",
      "BERT and by", llama, "in Llama")
assert llama < 1e-4, "decoders kept texts apart"
assert bert > 0.1, "encoders keep texts apart now"
PROGRAM
