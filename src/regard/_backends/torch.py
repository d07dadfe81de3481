"""The verbs on PyTorch tensors; the fused kernels are in `_torch_fused.py`."""

from __future__ import annotations

import builtins
import contextlib
import math
import threading
from typing import Any

import numpy as np
import torch

from regard._backends._torch_fused import forward_mode, fused, fused_name, fused_obstacle, plain, transformed
from regard._backends.arrays import native

__all__ = ["fused", "fused_name", "fused_obstacle", "plain"]

name = "torch"

log = torch.log
tanh = torch.tanh
sqrt = torch.sqrt
abs = torch.abs
matmul = torch.matmul
swapaxes = torch.swapaxes


def is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def shape(array: Any) -> tuple:
    return tuple(array.shape)


def dtype_name(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def device_name(array: Any) -> str:
    return str(array.device)


def obstacle(array: Any) -> str | None:
    if array.is_nested:
        return "a nested tensor; pad it with torch.nested.to_padded_tensor, and mask by masks.lengths"
    if type(array) is not torch.Tensor and type(array) is not torch.nn.Parameter:
        return _obstacle_of_kind(array)
    return None if array.layout is torch.strided else _of_layout(array.layout)


def _of_layout(layout: torch.layout) -> str:
    return f"a tensor of layout {layout}; convert it with .to_dense()"


def _obstacle_of_kind(array: Any) -> str | None:
    """Of a subclass; `torch.compile` looks at no such thing, and could not."""
    if torch.nn.parameter.is_lazy(array):
        return "a parameter without values; run its module once"
    if array.layout is not torch.strided:
        return _of_layout(array.layout)
    if corner(array) is not None:
        return "a causal mask of torch.nn.attention.bias; give it as mask or bias, or write masks.causal()"
    if _elsewhere(array) and not (torch.compiler.is_compiling() and type(array).__module__.startswith("torch._")):
        return f"a {type(array).__name__}, whose values are not in its own memory; convert it to a plain tensor"
    return None


def _elsewhere(array: Any) -> bool:
    """Whether a tensor is of a kind that computes in ways of its own."""
    kind = type(array)
    return kind is not torch.Tensor and kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__


def corner(array: Any) -> tuple[bool, tuple] | None:
    """Of the masks in torch.nn.attention.bias, which are tensors of numbers that nobody set."""
    if type(array) is torch.Tensor or type(array).__name__ != "CausalBias" or not hasattr(array, "variant"):
        return None
    return array.variant.name == "UPPER_LEFT", (array.seq_len_q, array.seq_len_kv)


def asarray(value: Any, like: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        value = native(np.array(value))  # a copy: torch warns about memory that it may not write to
        brain = value.dtype.name == "bfloat16"
        value = torch.from_numpy(value.view(np.int16)).view(torch.bfloat16) if brain else torch.from_numpy(value)
    value = value.to(like.device)
    # Otherwise a view made here would have a gradient that is lost, once it is asked about where there are gradients.
    return value if torch.is_grad_enabled() else value.detach()


def concrete(array: Any) -> Any:
    if torch.compiler.is_compiling() or transformed() or array.device.type != "cpu" or _elsewhere(array):
        return None  # while tracing there are no values yet, and on an accelerator reading them would wait
    array = array.detach().resolve_neg()
    return array.numpy() if array.dtype != torch.bfloat16 else array.float().numpy()


def fetched(array: Any) -> Any:
    if torch.compiler.is_compiling() or array.device.type == "meta":
        return None
    return concrete(array.detach().cpu())


def cast(array: Any, dtype_name: str) -> Any:
    return array.to(getattr(torch, dtype_name))


def zeros(shape: Any, dtype_name: str, like: Any) -> Any:
    return torch.zeros(tuple(shape), dtype=getattr(torch, dtype_name), device=like.device)


def arange(start: Any, count: Any, like: Any) -> Any:
    return torch.arange(start, start + count, dtype=torch.int32, device=like.device)


def quiet() -> Any:
    """Without autocast, which would take products of float32 for products of half precision."""
    kind = _autocast()
    return contextlib.nullcontext() if kind is None else torch.autocast(kind, enabled=False)


def _autocast() -> str | None:
    """The kind of device on which autocast is at work."""
    return next((kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)), None)


def promoted(*arrays: Any) -> tuple:
    """As autocast hands them to PyTorch's own attention: of its type, but for float64."""
    kind = arrays[0].device.type
    if not (kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)):
        return arrays
    wanted = torch.get_autocast_dtype(kind)
    return tuple(
        array.to(wanted) if array.is_floating_point() and array.dtype != torch.float64 else array for array in arrays
    )


def stop_gradient(array: Any) -> Any:
    return array.detach()


def reshape(array: Any, shape: Any) -> Any:
    return array.reshape(tuple(shape))


def broadcast_to(array: Any, shape: Any) -> Any:
    return array.expand(tuple(shape))


def concatenate(arrays: Any, axis: int) -> Any:
    return torch.cat(list(arrays), dim=axis)


def take(array: Any, indices: Any, axis: int) -> Any:
    indices = asarray(indices, array).long()
    axis = axis % array.ndim
    flat = array.index_select(axis, indices.reshape(-1))
    return flat.reshape(*array.shape[:axis], *indices.shape, *array.shape[axis + 1 :])


def _scalar(value: Any, like: Any) -> Any:
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=like.dtype, device=like.device)


def where(condition: Any, yes: Any, no: Any) -> Any:
    return torch.where(condition, yes, no)


def maximum(left: Any, right: Any) -> Any:
    return torch.maximum(left, _scalar(right, left))


def minimum(left: Any, right: Any) -> Any:
    return torch.minimum(left, _scalar(right, left))


def max(array: Any, axis: int) -> Any:
    return array.amax(dim=axis, keepdim=True)


def sum(array: Any, axis: int) -> Any:
    return array.sum(dim=axis, keepdim=True)


def argmax(array: Any, axis: int) -> Any:
    return array.argmax(dim=axis, keepdim=True).int()


def outer(left: Any, right: Any) -> Any:
    """The long side first: a third faster on a CPU, and the result lies transposed in memory."""
    return torch.matmul(right, left.mT).mT


def in_order(array: Any) -> Any:
    return array.contiguous()


_LOG2_E = 1 / math.log(2)


def exp(array: Any) -> Any:
    """By powers of two in float32, as fused kernels do: three times as fast on a CPU, and as exact as a score is."""
    return (array * _LOG2_E).exp2_() if array.dtype == torch.float32 else torch.exp(array)


def softmax(scores: Any, empty: bool) -> tuple[Any, Any, Any, None]:
    largest = max(scores.detach(), -1)
    largest = largest.masked_fill(largest == -torch.inf, 0.0)
    exponentials = exp(scores.sub_(largest))
    return exponentials, sum(exponentials, -1), largest, None


_CHUNK, _SHORT = 8, 1024  # keys


def topk(array: Any, count: int) -> tuple[Any, Any]:
    """The library's, on long rows only of the chunks with the largest maxima: all that it would find is in them.

    A chunk is every so-manieth key, so that its maximum is taken along whole vectors, whichever way the tile lies in
    memory (the other way round is thirty times slower).
    """
    length = array.shape[-1]
    if length <= builtins.max(_SHORT, 2 * _CHUNK * count) or length % _CHUNK:
        values, indices = array.topk(count, dim=-1)
        return values, indices.int()
    chunks = length // _CHUNK
    transposed = array.stride(-1) != 1
    maxima = (
        array.mT.unflatten(-2, (_CHUNK, chunks)).amax(-3).mT
        if transposed
        else array.unflatten(-1, (_CHUNK, chunks)).amax(-2)
    )
    best = topk(maxima, count)[1].long()
    candidates = (best[..., None, :] + torch.arange(0, length, chunks, device=array.device)[:, None]).flatten(-2)
    values, places = array.gather(-1, candidates).topk(count, dim=-1)
    return values, candidates.gather(-1, places).int()


def segment_sum(array: Any, segments: Any, count: int, axis: int) -> Any:
    axis = axis % array.ndim
    result = array.new_zeros((*array.shape[:axis], count, *array.shape[axis + 1 :]))
    return result.index_add(axis, asarray(segments, array).long(), array)


def segment_max(array: Any, segments: Any, count: int, axis: int) -> Any:
    axis = axis % array.ndim
    result = array.new_full((*array.shape[:axis], count, *array.shape[axis + 1 :]), -torch.inf)
    places = asarray(segments, array).long().reshape(-1, *(1,) * (array.ndim - axis - 1)).expand_as(array)
    return result.scatter_reduce(axis, places, array, "amax")


_ALL = slice(None)


def cut(array: Any, block: Any, axes: tuple) -> Any:
    for axis, part in enumerate(block.index(axes)):
        if part != _ALL and part.stop - part.start != array.shape[axis]:  # several gradients at once know no aliases
            array = array.narrow(axis, part.start, part.stop - part.start)
    return array


def mix(bits: Any, coordinate: Any) -> Any:
    """In 64-bit integers, since PyTorch has little arithmetic on unsigned ones."""
    low = 0xFFFFFFFF
    bits = (torch.as_tensor(bits, device=coordinate.device).long() & low) ^ ((coordinate.long() * 0x9E3779B9) & low)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        bits = ((bits ^ (bits >> shift)) * factor) & low
    return bits


def fraction(bits: Any) -> Any:
    return (bits >> 8).float() * 2.0**-24


def sweep(task: Any, operands: Any) -> tuple:
    with quiet():
        return _swept(task, operands)


def _swept(task: Any, operands: Any) -> tuple:
    if task.grid.whole:
        return tuple(task.evaluate(operands, task.grid.blocks[0]))
    results: list[Any] = [None] * len(task.outputs)
    for block in task.grid.blocks:
        for number, (output, piece) in enumerate(zip(task.outputs, task.evaluate(operands, block), strict=True)):
            if results[number] is None:
                start = output.before
                results[number] = piece.new_full(output.shape, start)
            place = results[number][block.index(output.axes)]
            if output.merge == "add":
                place.add_(piece)
            else:
                place.copy_(torch.maximum(place, piece))
    return tuple(results)


def keeps_shapes() -> bool:
    return False


def vjp(function: Any, operands: Any, cotangents: Any) -> tuple:
    """Where gradients are recorded, those of a block have gradients in turn, for what they are made of."""
    again = torch.is_grad_enabled()
    if transformed() or torch.compiler.is_compiling():
        results, pull, *_ = torch.func.vjp(function, *operands)
        return pull(tuple(c.to(r.dtype) for r, c in zip(results, cotangents, strict=True)))
    with torch.enable_grad():
        inputs = [
            operand.view_as(operand) if again and operand.requires_grad else operand.detach().requires_grad_()
            for operand in operands
        ]
        results = function(*inputs)
        pairs = [(r, c.to(r.dtype)) for r, c in zip(results, cotangents, strict=True) if r.requires_grad]
        if not pairs:
            return tuple(torch.zeros_like(operand) for operand in operands)
        return torch.autograd.grad(
            [r for r, _ in pairs], inputs, [c for _, c in pairs], create_graph=again, materialize_grads=True
        )


class _Differentiable(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(run: Any, pull: Any, *operands: Any) -> Any:
        return run(operands)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.pull, *operands = inputs
        ctx.save_for_backward(*operands)
        ctx.mark_non_differentiable(*(result for result in output if not result.is_floating_point()))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return (None, None, *ctx.pull(ctx.saved_tensors, cotangents, ctx.needs_input_grad[2:]))


def register(container: Any) -> None:
    return None


def recording() -> Any:
    return torch.enable_grad()


def has_gradient(array: Any) -> bool:
    return array.requires_grad or transformed()


def differentiable(run: Any, pull: Any, operands: Any) -> tuple:
    """In forward mode by PyTorch itself, block by block: there is nothing to keep for later."""
    tracked = transformed() or any(operand.requires_grad for operand in operands)
    if not (torch.is_grad_enabled() and tracked) or forward_mode():
        return run(operands)
    return _Differentiable.apply(run, pull, *operands)


def tied(results: Any, run: Any, pull: Any, operands: Any) -> tuple:
    """Under a transform they are computed again: what it has wrapped is not to be taken into a function."""
    if transformed():
        return differentiable(run, pull, operands)
    return differentiable(lambda _: tuple(result.detach() for result in results), pull, operands)


# The compiled pass, see `regard._compiled`.


def from_memory(array: Any) -> Any:
    return torch.from_numpy(array)


def into(left: Any, right: Any, result: Any, add: bool = False) -> None:
    """One by one: PyTorch's product of several makes what is expanded whole, and copies its result."""
    one, two, product = (torch.from_numpy(array) for array in (left, right, result))
    two, product = (array.expand(*one.shape[:-2], *array.shape[-2:]) for array in (two, product))
    for index in np.ndindex(*one.shape[:-2]):
        if add:
            torch.addmm(product[index], one[index], two[index], out=product[index])
        else:
            torch.mm(one[index], two[index], out=product[index])


def threads() -> int:
    return torch.get_num_threads()


def one_thread_each() -> Any:
    return contextlib.nullcontext()  # those of the pool have one for ever


def settle(pool: Any, count: int) -> None:
    """Starts the threads of a pool, each with one thread for PyTorch's operators; the others' number stays."""
    before = torch.get_num_threads()
    together = threading.Barrier(count + 1)

    def settled() -> None:
        torch.get_num_threads()  # else the thread's first operator takes the number that all others have, after all
        torch.set_num_threads(1)  # of this thread, and of threads that begin before it is set again
        together.wait()

    started = [pool.submit(settled) for _ in range(count)]
    together.wait()
    torch.set_num_threads(before)
    for each in started:
        each.result()
