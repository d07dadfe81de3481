#!/usr/bin/env bash
# peft 0.21.2, transformers 5.23.0: for TaskType.SEQ_CLS peft trains and saves beside the adapter what is called score
# or classifier. The head of DeBERTa-v2 begins with a pooler, which is as new, but stays frozen at its random values
# and is not saved. Seen: an adapter put on the same base again, whose new pooler is drawn anew, answers otherwise than
# the model that saved it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import peft
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, DebertaV2Model

torch.manual_seed(0)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
DebertaV2Model(DebertaV2Config(vocab_size=30, **sizes)).save_pretrained("base")


def base():
    return DebertaV2ForSequenceClassification.from_pretrained("base")


model = get_peft_model(base(), LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["query_proj"])).eval()
with torch.no_grad():
    model.base_model.model.classifier.modules_to_save["default"].weight.normal_()
    model.base_model.model.pooler.dense.weight.normal_()  # as if it had been trained, so that the difference is large
trained = {name.split(".")[2] for name, parameter in model.named_parameters() if parameter.requires_grad}
model.save_pretrained("adapter")
again = PeftModel.from_pretrained(base(), "adapter").eval()
text = torch.tensor([[3, 4, 5, 6]])
with torch.no_grad():
    difference = float((model(text).logits - again(text).logits).abs().max())
print("peft", peft.__version__, "- trained:", sorted(trained), "- loaded again it differs by", difference)
assert trained == {"classifier", "deberta"}, "the pooler is trained now"
assert difference > 1e-3, "the pooler is saved now"
PROGRAM
