#!/usr/bin/env bash
# transformers 5.23.0: ConditionalDetrConfig has a cls_loss_coefficient beside bbox_loss_coefficient, and its loss
# reads the second alone. Seen: the same loss to the last digit with a coefficient of 2 and of 200, where
# bbox_loss_coefficient changes it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 scipy==1.17.1 pillow==13.0.0
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import torch
import transformers
from transformers import ConditionalDetrConfig, ConditionalDetrForObjectDetection, ResNetConfig


def loss(**coefficients):
    torch.manual_seed(0)
    layers = {f"{side}_{name}": size for side in ("encoder", "decoder")
              for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic",
                            out_features=["stage2"])
    config = ConditionalDetrConfig(backbone_config=backbone, d_model=16, num_queries=5, num_labels=3, **layers,
                                   **coefficients)
    model = ConditionalDetrForObjectDetection(config).eval()
    truth = {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}
    return float(model(torch.zeros(1, 3, 32, 32), labels=[truth]).loss)


names, more_names, boxes = loss(), loss(cls_loss_coefficient=200), loss(bbox_loss_coefficient=500)
print("transformers", transformers.__version__, "- losses", names, "with names by 200", more_names,
      "with boxes by 500", boxes)
assert boxes > 10 * names
assert names == more_names, "names are weighed now"
PROGRAM
