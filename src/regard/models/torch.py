"""Watching PyTorch modules: what they hand to `scaled_dot_product_attention` is kept on its way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch.nn import functional

from regard.attention import Attention
from regard.errors import UnsupportedError
from regard.models.editing import Change
from regard.models.recording import Layers
from regard.models.seen import Seen, Values, none
from regard.models.torch_calls import FUSED, READING, weights_of
from regard.models.torch_editing import change_behind, change_of
from regard.models.torch_mode import Inside, modes
from regard.models.torch_onlooker import adapted, idle_adapters
from regard.models.torch_unseen import turned
from regard.weights import AttentionWeights


def is_model(value: Any) -> bool:
    return isinstance(value, torch.nn.Module)


class Recorder(Inside):
    """Keeps what each call of PyTorch's attention inside one model is given."""

    def __init__(self, model: torch.nn.Module, layers: Layers, heads: Any, values: bool) -> None:
        super().__init__("watch", model)
        self._adapted = adapted(model)
        self._layers, self._heads, self._values = layers, heads, values
        self._latest: _Kept | None = None  # whose projection is still to come
        self._gradients = Gradients()
        self._mask: torch.Tensor | None = None  # the last one
        self._padded: int | None = None  # the length of the texts of a nested tensor with their padding
        self.seen = Seen(lambda: self._unseen.names(layers.ran))

    def start(self) -> Seen:
        self.__enter__()
        return self.seen

    def stop(self) -> None:
        self._latest = self._mask = None
        self._layers.trim(self.seen, ended=True)
        self._tell(turned(self._model))
        self.seen.close()
        self.__exit__(None, None, None)

    def check(self) -> None:
        self._require_any(bool(self._layers.ran), self.seen.unseen)
        self._layers.check()

    def _another(self, function: Any, args: tuple, kwargs: dict, caller: FrameType) -> Any:
        if function in FUSED:
            return self._attention(partial(FUSED[function], length=self._padded), function, args, kwargs)
        if function is torch._nested_tensor_from_mask:
            self._padded = args[0].shape[1]
        elif function is torch.Tensor.to_padded_tensor:
            self._padded = None
        if self._latest is not None:
            self._look_for_projection(function, args)
        return super()._another(function, args, kwargs, caller)

    def _attention(self, read: Any, function: Any, args: tuple, kwargs: dict) -> Any:
        calling = self._calling()
        result = function(*args, **kwargs)
        if calling is None:
            return result
        name, module = calling
        if function in READING:
            self._tell(idle_adapters(self._adapted, name, args, kwargs))
        if function is torch._transformer_encoder_layer_fwd:  # which leaves its attention's module out
            name = self._names.get(id(module.self_attn), name)
        if not self._layers.runs(name):
            return result
        query, key, value, mask, causal, scale, projection = read(module, *args, **kwargs)
        if torch._C._functorch.is_functorch_wrapped_tensor(query):
            raise UnsupportedError(
                f"watch: need a model that is called on its own; got one inside a transformation of torch.func, in "
                f"{name or type(module).__name__}; call the model outside of it."
            )
        change, mask = change_behind(result), self._lasting(mask)
        weights: AttentionWeights | Callable[[], AttentionWeights]
        if self._heads is None:  # made when they are asked for, so that recording takes no time
            weights = partial(_under, change, weights_of, _alone(query), _alone(key), mask, causal, scale)
        else:
            weights = _of_heads(_under(change, weights_of, query, key, mask, causal, scale), self._heads)
        output = result[0] if isinstance(result, tuple) else result
        self._keep(name, weights, query.shape[-3], value, output, projection)
        return result

    def _tell(self, remarks: list[str]) -> None:
        self.seen.remarks += (each for each in remarks if each not in self.seen.remarks)

    def _lasting(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """A mask that nobody changes later, kept once for all layers that have it."""
        if mask is None or mask.is_meta:
            return mask
        for axis in range(mask.ndim):
            if not mask.stride(axis):  # expanded
                mask = mask.narrow(axis, 0, 1)
        kept = self._mask
        if kept is None or (kept.dtype, kept.device) != (mask.dtype, mask.device) or not torch.equal(kept, mask):
            self._mask = frozen(mask)
        return self._mask

    def told(self, module: torch.nn.Module, value: torch.Tensor, found: Attention) -> None:
        """An attention of Regard's own, inside a module, instead of the calls that it makes."""
        name = self._names.get(id(module))
        if name is None or not self._layers.runs(name):
            return
        weights = found.weights if self._heads is None else _of_heads(found.weights, self._heads)
        self._keep(name, weights, found.output.shape[-3], value, found.output, None)

    def _keep(
        self,
        name: str,
        weights: AttentionWeights | Callable[[], AttentionWeights],
        heads: int,
        value: torch.Tensor,
        output: torch.Tensor,
        projection: torch.Tensor | None,
    ) -> None:
        kept = None
        if self._values:
            kept = _Kept(heads, value, output, projection, self._gradients)
            self._latest = kept if projection is None else None
        self.seen.append(name, weights, None if kept is None else kept.values(self._heads))
        self._layers.trim(self.seen)

    def _look_for_projection(self, function: Any, args: tuple) -> None:
        """The first linear layer behind an attention, of as many inputs as its heads have outputs together."""
        kept = self._latest
        assert kept is not None
        matrix = None
        if function is functional.linear:
            matrix = args[1].T
        elif function is torch.addmm:  # GPT-2's
            matrix = args[2]
        if matrix is not None:
            if matrix.shape[0] == kept.heads * kept.value.shape[-1]:
                kept.projection = matrix
            self._latest = None


def being_watched() -> bool:
    """Whether somebody watches or edits this thread's calls."""
    return bool(modes(Inside))


def telling(module: torch.nn.Module, value: torch.Tensor, attend: Callable[..., Attention]) -> Attention:
    """Runs Regard's own attention inside a module, and tells those who watch.

    `attend` takes what edits make of it, a `Change`, or None.
    """
    found = [] if torch.compiler.is_compiling() else modes(Inside)
    for mode in found:
        mode.aside = True
    try:
        attended = attend(change_of(found, module))
    finally:
        for mode in found:
            mode.aside = False
    for mode in found:
        mode.told(module, value, attended)
    return attended


def _under(change: Change | None, make: Callable[..., AttentionWeights], *given: Any) -> AttentionWeights:
    """Weights as an edit makes them, if there is one."""
    weights = make(*given)
    return weights if change is None else change.weights(weights)


class Gradients:
    """The gradients of arrays in the last backward pass that reached any of them: `.grad` would add up all passes."""

    def __init__(self) -> None:
        self._pass, self._found = -1, dict[int, torch.Tensor]()
        self._count = 0

    def of(self, array: torch.Tensor) -> Callable[[], torch.Tensor | None]:
        """What gives the gradient of an array, None before a backward pass."""
        self._count += 1
        array.register_hook(partial(self._keep, self._count))
        return partial(self._get, self._count)

    def _keep(self, number: int, gradient: torch.Tensor) -> None:
        current = torch._C._current_graph_task_id()
        if current != self._pass:
            self._pass, self._found = current, {}
        self._found[number] = gradient.detach()

    def _get(self, number: int) -> torch.Tensor | None:
        return self._found.get(number)


class _Kept:
    """Value, output and projection of one attention, the last two of which come later."""

    def __init__(
        self,
        heads: int,
        value: torch.Tensor,
        output: torch.Tensor,
        projection: torch.Tensor | None,
        gradients: Gradients,
    ) -> None:
        self.heads, self.value, self.projection = heads, value, projection
        self._output = output if output.requires_grad else None
        self._gradient = none if self._output is None else gradients.of(output)

    def values(self, heads: Any) -> Values:
        if heads is not None:
            raise UnsupportedError(
                "watch: need all heads to keep values; got heads and values=True; leave heads out and choose later."
            )
        return Values(_alone(self.value.detach()), self._output, self._by_head, lambda: self.projection, self._gradient)

    def _by_head(self, gradient: torch.Tensor) -> torch.Tensor:
        if gradient.ndim == 4 or self.projection is None:
            return gradient
        gradient = gradient if gradient.ndim == 3 else gradient.unsqueeze(1)  # of nn.MultiheadAttention: (T, B, d)
        return (gradient @ self.projection.T).unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3)


def frozen(array: torch.Tensor) -> torch.Tensor:
    """An array that nobody changes later: a copy of one that has been written to in place, as a static cache is."""
    if array.is_inference() or array._version:
        return array.clone()
    return array


def _alone(array: torch.Tensor) -> torch.Tensor:
    """The same in memory of its own: a part of something larger, such as query, key and value in one, keeps it all."""
    if array.untyped_storage().nbytes() > array.nbytes:
        return array.clone(memory_format=torch.contiguous_format)
    return frozen(array)


def _of_heads(weights: AttentionWeights, heads: Any) -> AttentionWeights:
    """Those of some heads, of which alone query and key are kept."""
    (query, key, *others), rest = weights.heads(heads)._flatten()
    return AttentionWeights._unflatten(rest, (_alone(query), _alone(key), *others))
