"""`watch` on vision transformers of timm, against the weights that its own plain attention drops from.

timm imports torchvision, whose ordinary build wants CUDA's libraries: both are installed apart, where transformers does
not see them, and the operators that torchvision registers a shape for are declared first; nothing here runs them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

APART = Path(sys.prefix) / "timm"
PROGRAM = """
import sys, torch
for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
import timm, regard

for name, size in (
    ("vit_tiny_patch16_224", 48), ("deit3_small_patch16_224", 48), ("eva02_tiny_patch14_224", 42),
    ("vit_small_patch16_dinov3", 64), ("beit_base_patch16_224", 48),
):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, depth=2, img_size=size).eval()
    pictures, dense = torch.randn(2, 3, size, size), []
    with torch.no_grad():
        before = model(pictures)
        with regard.watch(model) as seen:
            assert torch.equal(model(pictures), before), name
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
                module.attn_drop.register_forward_pre_hook(lambda _, inputs: dense.append(inputs[0]))
        model(pictures)
    assert seen.names == ["blocks.0.attn", "blocks.1.attn"], (name, seen.names)
    found = max(float((weights.dense() - other).abs().max()) for weights, other in zip(seen, dense, strict=True))
    print(name, found)
    assert found < 1e-6, (name, found)

torch.manual_seed(0)
model = timm.create_model("maxvit_nano_rw_256", pretrained=False).eval()
with regard.watch(model, values=True) as seen:
    model(torch.randn(2, 3, 256, 256)).sum().backward()
for ask in (seen.rollout, seen.relevance):
    try:
        ask()
    except regard.errors.ShapeError as error:
        assert "got 2 over 128 and 4 over 32 and 6 over 8 and 2 over 2, such as windows of a picture" in str(error)
    else:
        raise AssertionError("windows were followed from layer to layer")
assert str(seen.summary()).endswith("(128, 32, 8, 2), as of windows: positions are counted within each")
assert seen[-2:].rollout().shape == (2, 64)
"""


@pytest.mark.slow
def test_vision_transformers_of_timm(monkeypatch):
    assert APART.is_dir(), f"need timm in {APART}, where `make test` installs it"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(APART), os.environ.get("PYTHONPATH")])))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
