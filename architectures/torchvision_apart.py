"""torchvision beside a PyTorch that it was not built for: operators that it gives a shape are declared before it."""

from __future__ import annotations

import importlib.util

import torch

if importlib.util.find_spec("torchvision"):
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
