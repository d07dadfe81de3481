"""Linear layers in whole numbers of eight bits: a scale for each output of the weights, one for each row of the input.

    y_mn = s_m t_n sum_k X_mk W_nk + b_n,    s_m = max_k |x_mk| / 127,    t_n = max_k |w_nk| / 127

X and W are x / s and w / t, rounded. The sum is exact, so a row's answer is the same to the bit whatever is beside it.
The scales are found while the layer runs: nothing has to be calibrated.

Source: Yao et al. 2022 (ZeroQuant), arXiv 2206.01861, section 4.1: weights by group, activations by token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from regard._backends import torch as backend
from regard._compiled import store, threads
from regard.errors import UnsupportedError
from regard.finetuning.int8 import LEAST
from regard.finetuning.training.precision import choose_precision

SHARED = 1 << 18
"""Numbers from which on threads share the loops."""
_MOST = torch.tensor(127.0)


class Int8Linear(nn.Module):
    """A linear layer `(..., K)` to `(..., N)`, in float32 or bfloat16 as its input is; it learns nothing."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        integers, scales = to_integers(linear.weight.detach().float())
        bias = torch.zeros(len(integers)) if linear.bias is None else linear.bias.detach().float().clone()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.integers, self.scales, self.bias, self.dtype = integers, scales[:, 0], bias, linear.weight.dtype
        self._packed = (
            torch.ops.onednn.qlinear_prepack(integers, None) if torch.backends.mkldnn.is_available() else None
        )
        self._zeros = torch.zeros(len(integers), dtype=torch.long)

    @property
    def weight(self) -> torch.Tensor:
        """The weights as numbers, for those who look at a layer's weights."""
        return (self.integers * self.scales[:, None]).to(self.dtype)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        kind = given.dtype if given.dtype in (torch.float32, torch.bfloat16) else torch.float32
        rows = given.reshape(-1, self.in_features).to(kind).contiguous()
        if not len(rows):
            return given.new_zeros(*given.shape[:-1], self.out_features)
        if store.installed() and store.ready("float32"):
            found = self._compiled(rows)
        else:
            integers, scales = to_integers(rows.float())
            found = torch.addcmul(self.bias, self._products(integers), scales).to(kind)
        return found.to(given.dtype).view(*given.shape[:-1], self.out_features)

    def _products(self, integers: torch.Tensor) -> torch.Tensor:
        """Exact sums times the scales of the outputs, `(M, N)`."""
        if self._packed is None:
            return torch._int_mm(integers, self.integers.t()) * self.scales
        return torch.ops.onednn.qlinear_pointwise(
            integers, 1.0, 0, self._packed, self.scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )

    def _compiled(self, rows: torch.Tensor) -> torch.Tensor:
        from regard._compiled import integers as loops

        half = rows.dtype == torch.bfloat16
        integers, scales = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
        if half:
            bits = rows.view(torch.int16).numpy()
            _share(rows, lambda part: loops.half_to_integers(bits[part], integers[part], scales[part]))
        else:
            seen, bits = rows.numpy(), rows.view(torch.int32).numpy()
            _share(rows, lambda part: loops.to_integers(seen[part], bits[part], integers[part], scales[part]))
        products = self._products(torch.from_numpy(integers))
        numbers, bias = products.numpy(), self.bias.numpy()
        if not half:
            _share(products, lambda part: loops.from_integers(numbers[part], scales[part], bias))
            return products
        found = torch.empty(products.shape, dtype=torch.bfloat16)
        into = found.view(torch.uint16).numpy()
        _share(products, lambda part: loops.half_from_integers(numbers[part], scales[part], bias, into[part]))
        return found


def to_integers(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers of float32 `(M, K)`, and the scale of each row, `(M, 1)`."""
    largest = rows.abs().amax(1, keepdim=True)
    factors = torch.where(largest > 0, _MOST / largest, 0.0)
    return (rows * factors).round().to(torch.int8), largest / _MOST


def _share(rows: torch.Tensor, work: Callable[[slice], Any]) -> None:
    """Do the work on all rows, in as many threads as PyTorch has if there are many numbers."""
    parts = min(backend.threads(), len(rows)) if rows.numel() >= SHARED else 1
    ends = np.linspace(0, len(rows), parts + 1).astype(int)
    threads.each(backend, work, [slice(*ends[n : n + 2]) for n in range(parts)])


def quantize(model: Any, who: str = "predict") -> Any:
    """Put whole numbers in the place of a model's linear layers, in place; the rest is bfloat16 where that is faster.

    Only models of texts get the rest in bfloat16: others are given float32 by those who prepare their inputs.

    Raises:
        UnsupportedError: there are no such layers.
    """
    if _is_faster_in_half(model):
        model.to(torch.bfloat16)
    made: dict[int, Int8Linear] = {}
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and child.out_features >= LEAST:
                setattr(module, name, made.setdefault(id(child), Int8Linear(child)))
    if not made:
        raise UnsupportedError(
            f"{who}: need a model with linear layers of {LEAST} outputs or more for int8; got {type(model).__name__} "
            "without; leave out quantize."
        )
    model._regard_int8 = True
    return model.requires_grad_(False)


def _is_faster_in_half(model: Any) -> bool:
    return getattr(model, "main_input_name", None) == "input_ids" and choose_precision("auto") == "bfloat16"
