"""What a model attended to, seen by other means than ours: its eager functions, and plain arithmetic in float64."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Attention(NamedTuple):
    """The weights of one attention, and whether it goes through transformers' interface."""

    name: str
    weights: torch.Tensor
    interface: bool


Observed = list[Attention]


class Observer(TorchFunctionMode):
    """Keeps the weights of every attention that runs, with the name of its module, in call order."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._names = {id(module): name for name, module in model.named_modules()}
        self.found: Observed = []
        self._inside = 0

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return function(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            self.keep(self._caller(), _plain(*args, **kwargs))
        if function is functional.multi_head_attention_forward:
            whole = kwargs | {"need_weights": True, "average_attn_weights": False}
            if len(args) <= 15:  # as nn.MultiheadAttention calls it
                self.keep(self._caller(), function(*args, **whole)[1])
        result = function(*args, **kwargs)
        if getattr(function, "__name__", "") in ("softmax", "_softmax") and result.ndim >= 3:
            module = self._caller_module()
            kind = type(module).__name__
            if "tten" in kind and "Deformable" not in kind:  # which weighs points, not keys
                self.keep(self._names[id(module)], result.detach())
        return result

    def keep(self, name: str | None, weights: torch.Tensor, interface: bool = False) -> None:
        if name is not None:
            self.found.append(Attention(name, weights.detach(), interface))

    @contextlib.contextmanager
    def eagerly(self) -> Iterator[None]:
        """While an eager function of transformers runs, which gives its weights itself."""
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def name(self, module: torch.nn.Module) -> str | None:
        return self._names.get(id(module))

    def _caller_module(self) -> Any:
        frame: Any = sys._getframe(2)
        while frame is not None:
            if "self" in frame.f_code.co_varnames[:1]:
                module = frame.f_locals.get("self")
                if id(module) in self._names and not isinstance(module, torch.nn.Softmax):
                    return module
            frame = frame.f_back
        return None

    def _caller(self) -> str | None:
        module = self._caller_module()
        return None if module is None else self._names[id(module)]


def _plain(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    query, key = query.double(), key.double()
    if key.ndim == 4 and key.shape[1] not in (1, query.shape[1]):
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).tril().logical_not(), -torch.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1).nan_to_num(0.0)


@contextlib.contextmanager
def eager_functions(observer: Observer) -> Iterator[None]:
    """Every eager function of transformers' models tells the observer its weights."""
    replaced = []
    for module in [each for name, each in sys.modules.items() if name.startswith("transformers.models.")]:
        for name, function in list(vars(module).items()):
            if name.startswith("eager_") and callable(function):
                replaced.append((module, name, function))
                setattr(module, name, _told(observer, function))
    try:
        yield
    finally:
        for module, name, function in replaced:
            setattr(module, name, function)


def _told(observer: Observer, function: Any) -> Any:
    def eager(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        with observer.eagerly():
            result = function(module, *args, **kwargs)
        observer.keep(observer.name(module), result[1], True)
        return result

    return eager
