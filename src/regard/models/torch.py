"""Watching PyTorch modules: what they hand to `scaled_dot_product_attention` is kept on its way."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from regard import masks
from regard._backends import get_backend
from regard.attention import make_problem
from regard.masks import Mask, Window
from regard.models.watch import Seen, nothing_seen
from regard.weights import AttentionWeights

WHAT = "torch.nn.functional.scaled_dot_product_attention"


def is_model(value: Any) -> bool:
    return isinstance(value, torch.nn.Module)


class Recorder(TorchFunctionMode):
    """Sees each call of PyTorch's attention inside one model, in this thread, and the module it comes from.

    A mode belongs to a thread and to a `with`: nothing of the model or of PyTorch is replaced or hooked, so nesting,
    threads and exceptions leave everything as it was. Which module calls is read off the stack.
    """

    def __init__(self, model: torch.nn.Module, layers: list | None, heads: list | None) -> None:
        super().__init__()
        self._names = {id(module): name for name, module in model.named_modules()}
        self._model, self._layers, self._heads = model, layers, heads
        self._calls = 0
        self.seen = Seen()

    def start(self) -> Seen:
        self.__enter__()
        return self.seen

    def stop(self) -> None:
        self.__exit__(None, None, None)

    def check(self) -> None:
        if not self._calls:
            raise nothing_seen((type(module).__name__ for module in self._model.modules()), WHAT)

    def _calling(self) -> str | None:
        """The name of the innermost module of the model that is running, or None."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if "self" in frame.f_code.co_varnames[:1]:
                name = self._names.get(id(frame.f_locals.get("self")))
                if name is not None:
                    return name
            frame = frame.f_back
        return None

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.nn.functional.scaled_dot_product_attention:
            name = self._calling()
            if name is not None:
                self._record(name, *args, **kwargs)
        return function(*args, **kwargs)

    def _record(
        self,
        name: str,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        number = self._calls
        self._calls += 1
        if self._layers is not None and name not in self._layers and number not in self._layers:
            return
        weights = weights_of(query, key, attn_mask, is_causal, scale)
        self.seen.append(name, weights if self._heads is None else _some_heads(weights, self._heads))


def frozen(key: torch.Tensor) -> torch.Tensor:
    """A key that nobody changes later: a copy of one that has been written to in place, as a static cache is."""
    if key.is_inference() or key._version:
        return key.clone()
    return key


def weights_of(
    query: torch.Tensor, key: torch.Tensor, attn_mask: torch.Tensor | None, is_causal: bool, scale: float | None
) -> AttentionWeights:
    """The weights of one call of PyTorch's attention, whose causal mask has its corner top-left."""
    mask: Mask | None = None
    bias = None
    if is_causal:
        mask = Mask(Window(None, query.shape[-2] - key.shape[-2]))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        mask = masks.boolean(attn_mask) if mask is None else mask & masks.boolean(attn_mask)
    elif attn_mask is not None:
        bias = attn_mask
    backend = get_backend("watch", query=query)
    problem, _ = make_problem(backend, query, frozen(key), key, mask=mask, bias=bias, scale=scale)
    return AttentionWeights(problem, kernel="the model's own", reason="watched")


def _some_heads(weights: AttentionWeights, heads: list[int]) -> AttentionWeights:
    return weights.heads(heads)
