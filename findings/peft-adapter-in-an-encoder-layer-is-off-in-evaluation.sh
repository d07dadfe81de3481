#!/usr/bin/env bash
# peft 0.21.2, PyTorch 2.13.0: LoRA on the linear layers of nn.TransformerEncoderLayer works in training and not in
# evaluation, since the layer's fused path reads the weights of its linear layers without calling them. Seen: an
# adapter that changes the output by 0.9 in training changes nothing in evaluation, with gradients on.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 peft==0.21.2 transformers==5.23.0 accelerate==1.15.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import peft
import torch
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
config = LoraConfig(target_modules=["linear1", "linear2"], init_lora_weights=False)
model = get_peft_model(torch.nn.TransformerEncoder(layer, 2), config)
texts = torch.randn(2, 5, 16)


def effect():
    adapted = model.base_model.model(texts)
    with model.disable_adapter():
        return float((adapted - model.base_model.model(texts)).abs().max())


in_training = effect()
model.eval()
in_evaluation = effect()
print("peft", peft.__version__, "torch", torch.__version__, "- the adapter changes the output by", in_training,
      "in training and by", in_evaluation, "in evaluation")
assert in_training > 0.1
assert in_evaluation == 0, "the adapter works in evaluation now"
PROGRAM
