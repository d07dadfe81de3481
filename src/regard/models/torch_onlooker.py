"""A mode that sees PyTorch's calls and changes none: its own fused layers run while somebody looks on.

In evaluation `nn.TransformerEncoder`, its layers and `nn.MultiheadAttention` run as fused calls, with answers of their
own: nested tensors for padding, NaN for a text of padding alone, no adapters of their linear layers. Any mode switches
that off, since they ask `torch.overrides.has_torch_function`, which is true while one is on. So while one of them is
making up its mind, that function answers as if nobody looked on.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode_temporarily

_ASKING = {kind.forward.__code__ for kind in (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)}
_lock = threading.Lock()
_original = torch.overrides.has_torch_function
_count = 0  # how many are making up their minds, in all threads


class Onlooker(TorchFunctionMode):
    """The base of modes that call what they see with what it was given, and tell `look` first."""

    unnoticed = True

    def __init__(self) -> None:
        super().__init__()
        self._asked = False  # whether the code that called last is one that asks

    def look(self, caller: FrameType) -> None:
        """Tells what makes the call that is seen: code that asks does so between calls of its own or from within."""
        asks = caller.f_code in _ASKING or (self._asked and _within_one(caller.f_back))
        if asks is not self._asked:
            self._asked = asks
            _change(1 if asks else -1)

    def __exit__(self, *error: Any) -> None:
        if self._asked:
            self._asked = False
            _change(-1)
        super().__exit__(*error)


def _within_one(frame: FrameType | None) -> bool:
    """Whether a frame is called by code that asks."""
    while frame is not None and frame.f_code not in _ASKING:
        frame = frame.f_back
    return frame is not None


def _change(step: int) -> None:
    """Replace PyTorch's function while anybody asks it, and no longer: compilers know it by its identity."""
    global _count
    with _lock:
        _count += step
        torch.overrides.has_torch_function = _has_torch_function if _count else _original


def _has_torch_function(args: Iterable[Any]) -> bool:
    if sys._getframe(1).f_code not in _ASKING:
        return _original(args)
    with ExitStack() as stack:
        while isinstance(mode := _get_current_function_mode(), Onlooker) and mode.unnoticed:
            stack.enter_context(_pop_mode_temporarily())
        return _original(args)


def adapted(model: torch.nn.Module) -> list[tuple[str, Any]]:
    """Linear layers with an adapter of peft's, with their names."""
    return [(n, module) for n, module in model.named_modules() if isinstance(_base(module), nn.Linear)]


def _base(module: Any) -> Any:
    return getattr(module, "base_layer", None)


def idle_adapters(layers: list[tuple[str, Any]], name: str, args: tuple, kwargs: dict[str, Any]) -> list[str]:
    """Say which adapters do nothing, for a call takes the weights of their layers, and the layers never run."""
    taken = {id(array) for array in (*args, *kwargs.values())}
    return [
        f"the adapter of {where} does nothing, for {name or 'the model'} reads the layer's weights without calling it: "
        "merge_and_unload() lets it count, as does, of PyTorch's encoder layers in evaluation, "
        "torch.backends.mha.set_fastpath_enabled(False) for linear1 and linear2"
        for where, layer in layers
        if id(getattr(_base(layer), "weight", None)) in taken and not (layer.merged or layer.disable_adapters)
    ]


def encoder_layer(
    module: torch.nn.Module,
    source: torch.Tensor,
    width: int,
    heads: int,
    in_weight: torch.Tensor,
    in_bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    gelu: bool,
    norm_first: bool,
    epsilon: float,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    *others: Any,
    length: int | None = None,
) -> tuple:
    """Query, key, value, mask, causal, scale and projection in a call of `torch._transformer_encoder_layer_fwd`."""
    *_, mask, kind = others
    source, visible = _padded(source, length)
    if norm_first:
        source = functional.layer_norm(source, (width,), norm_weight, norm_bias, epsilon)
    query, key, value = projected((source,) * 3, in_weight.chunk(3), in_bias.chunk(3), heads)
    return query, key, value, _seen(mask, kind) if visible is None else visible, False, None, out_weight.T


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    width: int,
    heads: int,
    in_weight: torch.Tensor,
    in_bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    mask: torch.Tensor | None = None,
    need_weights: bool = True,
    average: bool = True,
    kind: int | None = None,
    length: int | None = None,
) -> tuple:
    """The same in a call of `torch._native_multi_head_attention`, which is self-attention alone."""
    source, visible = _padded(query, length)
    query, key, value = projected((source,) * 3, in_weight.chunk(3), in_bias.chunk(3), heads)
    return query, key, value, _seen(mask, kind) if visible is None else visible, False, None, out_weight.T


def projected(given: Any, matrices: Any, biases: Any, heads: int) -> list[torch.Tensor]:
    """Query, key and value `(B, H, T, D)` of inputs `(B, T, d)`: once more what a fused call keeps to itself."""
    return [
        functional.linear(array, matrix, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
        for array, matrix, bias in zip(given, matrices, biases, strict=True)
    ]


def _padded(source: torch.Tensor, length: int | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A nested tensor as an ordinary one of that length, or that of its longest text, and which keys are real."""
    if not source.is_nested:
        return source, None
    texts = source.unbind()
    lengths = torch.tensor([len(text) for text in texts], device=source.device)
    size = None if length is None else (len(texts), length, texts[0].shape[-1])
    source = source.to_padded_tensor(0.0, size)
    real = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
    return source, real[:, None, None]


def _seen(mask: torch.Tensor | None, kind: int | None) -> torch.Tensor | None:
    """A mask of a fused call, where any number but 0 hides: of pairs (0), of keys (1) or of both (2)."""
    if mask is None:
        return None
    if kind == 1:
        return ~mask.bool()[:, None, None]
    while mask.ndim < 4:
        mask = mask[None]
    for axis in range(2):  # what was expanded is kept once
        if not mask.stride(axis):
            mask = mask.narrow(axis, 0, 1)
    return ~mask.bool()
