"""Watching PyTorch modules: what they hand to `scaled_dot_product_attention` is kept on its way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack

from regard import masks
from regard._backends import get_backend
from regard.attention import Attention, make_problem
from regard.errors import UnsupportedError
from regard.models.recording import Layers, compiled, nothing_seen
from regard.models.seen import Seen, Values, none
from regard.models.torch_onlooker import Onlooker, adapted, attention, encoder_layer, idle_adapters, projected
from regard.models.torch_unseen import Unseen, help_for, turned
from regard.weights import AttentionWeights

WHAT = "torch.nn.functional.scaled_dot_product_attention"


def is_model(value: Any) -> bool:
    return isinstance(value, torch.nn.Module)


class Recorder(Onlooker):
    """Sees each call of PyTorch's attention inside one model, in this thread, and the module it comes from.

    A mode belongs to a thread and to a `with`: nothing of the model or of PyTorch is replaced or hooked, so nesting,
    threads and exceptions leave everything as it was. Which module calls is read off the stack.
    """

    def __init__(self, model: torch.nn.Module, layers: Layers, heads: Any, values: bool) -> None:
        super().__init__()
        _require_uncompiled(model)
        self._names = {id(module): name for name, module in model.named_modules()}
        self._unseen = Unseen(model, self._names)
        self._adapted = adapted(model)
        self._model, self._layers, self._heads, self._values = model, layers, heads, values
        self.aside = False  # while Regard's own attention runs, of which it is told
        self.compiled = False  # whether a compiled function that holds an attention ran
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
        if self.compiled:
            raise compiled("one that calls a compiled function")
        if not self._layers.ran:
            kinds = (type(module).__name__ for module in self._model.modules())
            raise nothing_seen(kinds, WHAT, help_for(self._model, self.seen.unseen))
        self._layers.check()

    def _calling(self) -> tuple[str, Any] | None:
        """The innermost module of the model that is running, with its name, or None."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if "self" in frame.f_code.co_varnames[:1]:
                module = frame.f_locals.get("self")
                name = self._names.get(id(module))
                if name is not None:
                    return name, module
            frame = frame.f_back
        return None

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():
            if function in CALLS:
                self.compiled = True  # compiled too: set in each run
            return function(*args, **kwargs)
        if self.aside:
            return function(*args, **kwargs)
        caller = _caller()
        self.look(caller)
        if caller.f_code in self._unseen.codes:
            self._unseen.called(caller)
        read = CALLS.get(function)
        if read is not None:
            return self._attention(read, function, args, kwargs)
        if function in FUSED:
            read = partial(FUSED[function], length=self._padded)
            return self._attention(read, function, args, kwargs)
        if function is torch._nested_tensor_from_mask:
            self._padded = args[0].shape[1]
        elif function is torch.Tensor.to_padded_tensor:
            self._padded = None
        elif self._unseen.might_be(function):
            self._unseen.attended(function, args[0] if args else kwargs.get("input"), caller)
        if self._latest is not None:
            self._look_for_projection(function, args)
        return function(*args, **kwargs)

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
        mask = self._lasting(mask)
        weights: AttentionWeights | Callable[[], AttentionWeights]
        if self._heads is None:  # made when they are asked for, so that recording takes no time
            weights = partial(weights_of, _alone(query), _alone(key), mask, causal, scale)
        else:
            weights = _of_heads(weights_of(query, key, mask, causal, scale), self._heads)
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


def _caller() -> FrameType:
    """What makes the call that a recorder is told of, behind other recorders."""
    frame = sys._getframe(2)
    while frame.f_code in _OWN and frame.f_back is not None:
        frame = frame.f_back
    return frame


_OWN = {Recorder.__torch_function__.__code__, Recorder._attention.__code__}


def _require_uncompiled(model: torch.nn.Module) -> None:
    """Refuse what runs as compiled code, in which no call can be seen, and in other threads."""
    own = len(torch.nn.Module.__mro__)
    of_kinds = {
        kind: _compiled_method(*map(vars, kind.__mro__[:-own])) for kind in {type(each) for each in model.modules()}
    }
    for name, module in model.named_modules():
        where = f" in {name}" if name else ""
        if isinstance(module, torch.jit.ScriptModule):
            raise compiled(f"a module of torch.jit{where}")
        if type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            raise compiled(f"a module compiled by torch.compile{where}")
        if len(getattr(module, "device_ids", None) or []) > 1 and isinstance(module, torch.nn.DataParallel):
            raise UnsupportedError(
                f"watch: need a model that runs in this thread; got DataParallel over {len(module.device_ids)} devices"
                f"{where}; watch the module inside, and call that."
            )
        method = _compiled_method(vars(module)) or of_kinds[type(module)]
        if method is not None:
            raise compiled(f"a method compiled by torch.compile, {method}{where}")


def _compiled_method(*spaces: Any) -> str | None:
    """The name of a compiled function among the attributes of an object or of classes."""
    for name, value in (item for space in spaces for item in space.items()):
        if callable(value) and hasattr(value, "get_compiler_config"):
            return name
    return None


def _recorders() -> list[Recorder]:
    """Those that see this thread's calls."""
    return [mode for mode in _get_current_function_mode_stack() if isinstance(mode, Recorder)]


def being_watched() -> bool:
    """Whether some recorder sees this thread's calls."""
    return bool(_recorders())


def telling(module: torch.nn.Module, value: torch.Tensor, attend: Callable[[], Attention]) -> Attention:
    """Runs Regard's own attention inside a module, and tells those who watch."""
    recorders = [] if torch.compiler.is_compiling() else _recorders()
    for recorder in recorders:
        recorder.aside = True
    try:
        found = attend()
    finally:
        for recorder in recorders:
            recorder.aside = False
    for recorder in recorders:
        recorder.told(module, value, found)
    return found


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


def _called(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple:
    """Query, key, value, mask, causal, scale and projection of a call of `scaled_dot_product_attention`."""
    query, attn_mask = _unpacked(module, query, attn_mask)
    return query, key, value, attn_mask, is_causal, scale, None


def _unpacked(
    module: torch.nn.Module, query: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """transformers hands over the heads that share a key as if they were positions, while it generates."""
    repeats = getattr(module, "num_key_value_groups", 1)
    heads = _heads(module)
    if repeats == 1 or query.ndim != 4 or query.shape[2] != repeats or query.shape[1] * repeats != heads:
        return query, mask
    whole = query.reshape(query.shape[0], heads, 1, query.shape[-1])
    if mask is not None and mask.shape[1] != 1:
        mask = mask.reshape(mask.shape[0], heads, 1, mask.shape[-1])
    return whole, mask


def _heads(module: torch.nn.Module) -> int | None:
    """How many heads an attention of transformers has."""
    try:
        return module.config.num_attention_heads  # type: ignore[union-attr, return-value]
    except (AttributeError, RuntimeError):  # transformers' where layers differ in it
        return getattr(module, "num_heads", None)


def _called_whole(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: torch.Tensor | None,
    in_proj_bias: torch.Tensor | None,
    bias_k: torch.Tensor | None,
    bias_v: torch.Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    training: bool = True,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: torch.Tensor | None = None,
    k_proj_weight: torch.Tensor | None = None,
    v_proj_weight: torch.Tensor | None = None,
    static_k: torch.Tensor | None = None,
    static_v: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple:
    """The same of `nn.MultiheadAttention`, whose call hides the inner one: query and key are projected once more."""
    if bias_k is not None or add_zero_attn or static_k is not None:
        raise UnsupportedError(
            "watch: need a MultiheadAttention without add_bias_kv, add_zero_attn and static keys; got one with; leave "
            "it out by layers."
        )
    given = [(array if array.ndim == 3 else array.unsqueeze(1)).transpose(0, 1) for array in (query, key, value)]
    matrices: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight and in_proj_weight is not None:
        matrices = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    query, key, value = projected(given, matrices, biases, num_heads)
    mask = _merged(attn_mask, key_padding_mask, query)
    return query, key, value, mask, is_causal and mask is None, None, out_proj_weight.T


# What is seen, and what reads each call. The last two are calls of PyTorch's fused path, with nested tensors too.
CALLS: dict[Any, Callable[..., tuple]] = {
    functional.scaled_dot_product_attention: _called,
    torch.ops.aten.scaled_dot_product_attention.default: _called,  # of exported programs
    functional.multi_head_attention_forward: _called_whole,
}
READING = {
    functional.multi_head_attention_forward,
    torch._native_multi_head_attention,
    torch._transformer_encoder_layer_fwd,
}
FUSED: dict[Any, Callable[..., tuple]] = {
    torch._transformer_encoder_layer_fwd: encoder_layer,
    torch._native_multi_head_attention: attention,
}


def _merged(mask: torch.Tensor | None, padding: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor | None:
    """PyTorch's two masks, whose True means hidden and whose numbers are added, as one whose True means seen."""
    parts = []
    if mask is not None:
        shape = (-1, query.shape[1], *mask.shape[-2:]) if mask.ndim == 3 else (1, 1, *mask.shape[-2:])
        parts.append(mask.reshape(shape))
    if padding is not None:
        parts.append(padding.reshape(query.shape[0], 1, 1, -1))
    if not parts:
        return None
    if all(part.dtype == torch.bool for part in parts):
        return ~(parts[0] | parts[-1])
    numbers = [
        torch.zeros_like(part, dtype=query.dtype).masked_fill(part, -torch.inf) if part.dtype == torch.bool else part
        for part in parts
    ]
    return sum(numbers[1:], numbers[0])


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


def weights_of(
    query: torch.Tensor, key: torch.Tensor, attn_mask: torch.Tensor | None, is_causal: bool, scale: float | None
) -> AttentionWeights:
    """The weights of one call of PyTorch's attention, whose causal mask has its corner top-left."""
    backend = get_backend("watch", query=query)
    corner = None if attn_mask is None else backend.corner(attn_mask)
    if corner is not None and (corner[0] or corner[1][0] == corner[1][1]):  # to PyTorch, whatever its sizes are
        attn_mask, is_causal = None, True
    said = masks.from_torch(attn_mask=attn_mask, is_causal=is_causal, scale=scale)
    with backend.recording():  # whatever mode the weights are asked about in
        problem, _ = make_problem(backend, query, key, key, **said)
    return AttentionWeights(problem, kernel="the model's own", reason="watched")
