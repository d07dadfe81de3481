"""PyTorch's own fused attention, block by block where a mask leaves something out.

These are the kernels that `F.scaled_dot_product_attention` runs; called directly they also give the log-sum-exp. They
are not public, so `fused_obstacle` looks for them, and without them everything runs by blocks. What they do otherwise
than the contract is put right here: a query that sees nothing (on a CPU its log-sum-exp is 0), a query of NaN (on a CPU
fewer than 16 keys give zeros, so that a NaN disappears), and rows that are not consecutive in memory (misread).

The CUDA kernel is written from its schema and has not been run on a GPU yet; tests run its logic on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

from regard._backends import _torch_varlen
from regard._backends.protocol import SMALL

fused_name = "PyTorch's fused kernel"

_MASK_NUMBERS = 1 << 22  # the largest tile of mask and bias, in numbers: 16 MB


class _Kernel(NamedTuple):
    """A kernel on `(N, H, T, W)`: forward gives output and log-sum-exp, backward the three gradients.

    `needs` are the operators that PyTorch must have; `grouped` says whether key and value may have fewer heads.
    """

    needs: tuple[str, ...]
    grouped: bool
    forward: Callable
    backward: Callable


def _cpu_forward(query: Any, key: Any, value: Any, bias: Any, causal: bool, scale: float) -> tuple[Any, Any]:
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(query, key, value, 0.0, causal, attn_mask=bias, scale=scale)


def _cpu_backward(
    up: Any, query: Any, key: Any, value: Any, output: Any, logsumexp: Any, bias: Any, causal: bool, scale: float
) -> Sequence[Any]:
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return flash(up, query, key, value, output, logsumexp, 0.0, causal, attn_mask=bias, scale=scale)


def _cuda_forward(query: Any, key: Any, value: Any, bias: Any, causal: bool, scale: float) -> tuple[Any, Any]:
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    output, logsumexp, *_ = efficient(query, key, value, _aligned(bias, query, key), True, 0.0, causal, scale=scale)
    return output, logsumexp[..., : query.shape[-2]]  # it comes padded to a multiple of 32


def _cuda_backward(
    up: Any, query: Any, key: Any, value: Any, output: Any, logsumexp: Any, bias: Any, causal: bool, scale: float
) -> Sequence[Any]:
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention_backward
    padded = torch.nn.functional.pad(logsumexp, (0, -logsumexp.shape[-1] % 32), value=math.inf)
    state = torch.zeros((), dtype=torch.int64)  # of the random numbers of dropout, which there is none of
    bias = _aligned(bias, query, key)
    given = (up, query, key, value, bias, output, padded, state, state, 0.0, (True, True, True, False), causal)
    return efficient(*given, scale=scale)[:3]


def _aligned(bias: Any, query: Any, key: Any) -> Any:
    """As the kernel needs it: whole, in the type of the query, rows beginning at multiples of 16 numbers."""
    if bias is None:
        return None
    full = bias.to(query.dtype).expand(*query.shape[:-1], key.shape[-2])
    return torch.nn.functional.pad(full, (0, -full.shape[-1] % 16))[..., : full.shape[-1]]


_KERNELS = {
    "cpu": _Kernel(
        ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"),
        True,
        _cpu_forward,
        _cpu_backward,
    ),
    "cuda": _Kernel(
        ("_scaled_dot_product_efficient_attention", "_scaled_dot_product_efficient_attention_backward"),
        False,
        _cuda_forward,
        _cuda_backward,
    ),
}


def _kernel(problem: Any) -> _Kernel:
    return _KERNELS[problem.query.array.device.type]


def fused_obstacle(problem: Any, value: Any) -> str | None:
    """What keeps the kernel from computing this, or None."""
    device = problem.query.array.device.type
    if device not in _KERNELS:
        return f"a tensor on {device}"
    if not all(hasattr(torch.ops.aten, name) for name in _KERNELS[device].needs):
        return f"PyTorch {torch.__version__}, which lacks the kernel"
    if transformed():
        return "a transform of torch.func or forward-mode differentiation, which the kernel does not know"
    if device != "cpu" and problem.dtype == "float64":
        return "float64, which the kernel for GPUs does not know"
    return None


def plain(
    query: Any, key: Any, value: Any, causal: bool, scale: float | None, again: Callable
) -> tuple[Any, Any] | None:
    """Output `(B, H, T, E)` and log-sum-exp `(B, H, T)` in one call, where nothing has to be put right; else None.

    The output has the kernel's own gradient, or that of `again`; the log-sum-exp has none. At 128 positions the kernel
    takes 300 microseconds, and Python's lines are slow behind it, which leaves the caches to them empty: so there are
    few here.
    """
    if not (type(query) is type(key) is type(value) is torch.Tensor and query.is_cpu and key.is_cpu and value.is_cpu):
        return None
    if not query.layout is key.layout is value.layout is torch.strided:
        return None
    if query.is_nested or key.is_nested or value.is_nested:
        return None
    sizes, of_key = query.shape, key.shape
    if (
        len(sizes) != 4
        or of_key != value.shape
        or len(of_key) != 4
        or sizes[3] != of_key[3]
        or sizes[0] != of_key[0]
        or of_key[2] < LOSSLESS
        or (causal and sizes[2] != of_key[2])
        or 0 in sizes
        or 0 in of_key
        or sizes[1] % of_key[1]
        or not query.stride(3) == key.stride(3) == value.stride(3) == 1
        or not query.dtype == key.dtype == value.dtype
        or not query.is_floating_point()
        or _flash is None
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or transformed()
    ):
        return None
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return _Plain.apply(causal, scale, again, query, key, value)
    return _flash(query, key, value, 0.0, causal, scale=scale)


def transformed() -> bool:
    """Whether a transform of torch.func is at work, or forward-mode differentiation: the kernels know neither."""
    return torch._C._functorch.maybe_current_level() is not None or forward_mode()


def forward_mode() -> bool:
    return forward_ad._current_level >= 0


# Under this name the call takes 5 microseconds less than under torch.ops.aten.
_flash: Any = getattr(torch, "_scaled_dot_product_flash_attention_for_cpu", None)
LOSSLESS = 16  # keys, from which on the CPU's kernel loses no NaN: what fills its vectors


class _Part(NamedTuple):
    """One call of the kernel: some examples (`lead`), some queries, the keys that they may see."""

    lead: slice
    rows: slice
    columns: slice
    bias: Any  # what is added to the scores, (N, H, t, s) or broadcasting to it
    causal: bool
    empty: Any  # which queries see nothing, or None


def fused(problem: Any, value: Any) -> tuple[Any, Any]:
    """Output `(*lead, R, T, 1, E)` and log-sum-exp `(*lead, R, T, 1)`, None where it is yet to be computed.

    Inputs that are not finite go by blocks: the kernel lets them reach other rows, or loses them.
    """
    if problem.query.array.is_cuda and _torch_varlen.serves(problem, value):
        return _by_document(problem, value)
    operands = (problem.query, problem.key, value, *problem.leaves)
    arrays = [operand.array for operand in operands]
    if problem.scores.mask is not None and problem.query.array.device.type == "cpu" and _spoiled(value.array):
        return problem.attend(value)
    if torch.is_grad_enabled() and any(array.requires_grad for array in arrays):
        output, logsumexp = _Fused.apply(problem, value.axes, *arrays)
    else:
        output, logsumexp, _ = _forward(problem, value, keep=False)
    if _lost(problem, logsumexp):
        return problem.attend(value)
    return output, logsumexp[..., None]


def _by_document(problem: Any, value: Any, kernel: Callable | None = None) -> tuple[Any, None]:
    """The output alone: in half precision the log-sum-exp comes from one of float32 (`_kernels.exact`)."""
    query, key, values, width = _flat(problem, value)
    output = _torch_varlen.attend(problem, query, key, values, kernel)
    return output[..., :width].reshape(*problem.rows_shape, width), None


def _spoiled(array: Any) -> bool:
    """Whether a tensor holds inf or NaN, as far as can be known while a graph is compiled: no."""
    return not torch.compiler.is_compiling() and not math.isfinite(array.detach().sum(dtype=torch.float64))


def _lost(problem: Any, logsumexp: Any) -> bool:
    """Whether the kernel may have lost a NaN or an empty row (a log-sum-exp of 0), or spread a NaN."""
    if problem.query.array.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if bool(logsumexp.detach().nan_to_num(0.0).all()):
        return False
    # A bias of -inf in a whole row hides it, and the kernel calls that 0 too.
    return problem.scores.bias is not None or _spoiled(problem.query.array) or _spoiled(problem.key.array)


def _forward(problem: Any, value: Any, keep: bool) -> tuple[Any, Any, list[_Part]]:
    query, key, values, width = _flat(problem, value)
    parts: list[_Part] = []
    forward = _kernel(problem).forward
    output: Any = None  # there is always a part: no axis is of size 0
    logsumexp: Any = None
    for part in _parts(problem):
        if keep:
            parts.append(part)
        piece, along = forward(*_cut(part, query, key, values), part.bias, part.causal, problem.scores.scale)
        if part.empty is not None:
            piece = torch.where(part.empty[..., None], 0.0, piece)
            along = torch.where(part.empty, -math.inf, along)
        if piece.shape[0] == query.shape[0] and piece.shape[2] == query.shape[2]:
            output, logsumexp = piece, along
            break
        if output is None:
            output = piece.new_empty(query.shape)
            logsumexp = along.new_empty(query.shape[:3])
        output[part.lead, :, part.rows] = piece
        logsumexp[part.lead, :, part.rows] = along
    place = problem.layout
    shape = (*place.lead, place.repeats, place.queries, 1)
    output = output[..., :width].reshape(*shape, width)
    return output, logsumexp.reshape(shape), parts


def _flat(problem: Any, value: Any) -> tuple[Any, Any, Any, int]:
    """Query `(N, H, T, W)`, key and value `(N, G, S, W)`, of one width W, and the width of the values."""
    place = problem.layout
    *batch, groups = place.lead
    query = problem.query.array.expand(*place.lead, place.repeats, place.queries, 1, -1)
    query = query.reshape(-1, groups * place.repeats, place.queries, query.shape[-1])
    key, values = (
        operand.array.expand(*batch, groups, 1, 1, place.keys, -1).reshape(
            -1, groups, place.keys, operand.array.shape[-1]
        )
        for operand in (problem.key, value)
    )
    width = values.shape[-1]
    widest = max(query.shape[-1], width)
    query, key, values = (_in_rows(_padded(array, widest)) for array in (query, key, values))
    if place.repeats > 1 and not _kernel(problem).grouped:
        key, values = (array.repeat_interleave(place.repeats, 1) for array in (key, values))
    return query, key, values, width


def _in_rows(array: Any) -> Any:
    """The kernel reads rows as consecutive numbers, whatever the strides say."""
    return array if array.shape[-1] == 1 or array.stride(-1) == 1 else array.contiguous()


def _padded(array: Any, width: int) -> Any:
    missing = width - array.shape[-1]
    return array if missing == 0 else torch.nn.functional.pad(array, (0, missing))


def _cut(part: _Part, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    lead = part.lead
    return query[lead, :, part.rows], key[lead, :, part.columns], value[lead, :, part.columns]


def _parts(problem: Any) -> Iterator[_Part]:
    """The calls that make up this attention."""
    place, scores = problem.layout, problem.scores
    everything = slice(None)
    if scores.mask is None and scores.bias is None:
        yield _Part(everything, slice(None), slice(None), None, False, None)
    elif scores.bias is None and str(scores.mask) == "causal()" and place.queries == place.keys:
        yield _Part(everything, slice(None), slice(None), None, True, None)
    else:
        yield from _blocks(problem)


def _blocks(problem: Any) -> Iterator[_Part]:
    place = problem.layout
    batch = place.lead[:-1]
    xp = problem.xp
    per_row = max(math.prod(place.lead), 1) * place.repeats * place.keys
    rows = max(64, min(512, _MASK_NUMBERS // max(per_row, 1)))
    grid = problem.grid(budget=max(per_row, 1) * rows, most_rows=rows)
    for block in grid.blocks:
        bias = empty = None
        lead = _flat_lead(block, batch)
        if block.masked or problem.scores.bias is not None:
            bias, empty = _bias(problem, block, xp)
            bias = _in_rows(_heads(bias, block, batch, 2).expand(-1, -1, *block.sizes[-2:]))
            empty = None if empty is None else _heads(empty, block, batch, 1)
        rows_at = slice(block.starts[-2], block.starts[-2] + block.sizes[-2])
        columns = slice(block.starts[-1], block.starts[-1] + block.sizes[-1])
        yield _Part(lead, rows_at, columns, bias, False, empty)


def _flat_lead(block: Any, batch: Sequence[int]) -> slice:
    """A chunk of the batch axes as one slice of the flattened batch: the whole, or one example."""
    chunk = block.sizes[: len(batch)]
    if tuple(chunk) == tuple(batch):
        return slice(None)
    start = 0
    for size, at in zip(batch, block.starts, strict=False):
        start = start * size + at
    return slice(start, start + math.prod(chunk))


def _bias(problem: Any, block: Any, xp: Any) -> tuple[Any, Any]:
    """What is added to the scores of a block, and which queries see nothing."""
    scores = problem.scores
    tile = [problem.accumulated(xp.cut(leaf.array, block, leaf.axes)) for leaf in problem.leaves]
    where = block.where(xp, problem.query.array, problem.layout.shift)
    added = None
    if scores.bias is not None:
        added = scores.bias.added(xp, where, tile[: scores.bias.leaves]).to(problem.query.array.dtype)
    visible = scores.visible(xp, tile, where) if block.masked else None
    if visible is None:
        return added, None
    empty = ~visible.any(-1)
    if added is None:
        added = problem.query.array.new_zeros(())
    nobody = not torch.compiler.is_compiling() and empty.device.type == "cpu" and not bool(empty.any())
    return torch.where(visible, added, -math.inf), None if nobody else empty


def _heads(array: Any, block: Any, batch: Sequence[int], trailing: int) -> Any:
    """`(*lead, R, ...)` as `(N or 1, H or 1, ...)`; of the type of the scores."""
    ends = array.shape[array.ndim - trailing :]
    lead = array.shape[: array.ndim - trailing]
    lead = (1,) * (len(batch) + 2 - len(lead)) + tuple(lead)
    examples, groups, repeats = lead[:-2], lead[-2], lead[-1]
    array = array.reshape(*examples, groups, repeats, *ends)
    if groups * repeats != 1 and (groups != block.sizes[len(batch)] or repeats != block.sizes[len(batch) + 1]):
        repeats = block.sizes[len(batch) + 1]
        groups = block.sizes[len(batch)]
        array = array.expand(*examples, groups, repeats, *ends)
    if any(size != 1 for size in examples):
        array = array.expand(*block.sizes[: len(batch)], groups, repeats, *ends)
    return array.reshape(-1, groups * repeats, *ends)


class _Fused(torch.autograd.Function):
    """The kernel with its own backward pass, where that serves, else the blocks' (`_kernels_own`)."""

    @staticmethod
    def forward(ctx: Any, problem: Any, value_axes: Any, *arrays: Any) -> Any:
        value = type(problem.query)(arrays[2], value_axes)
        output, logsumexp, parts = _forward(problem, value, keep=True)
        ctx.problem, ctx.parts, ctx.value_axes = problem, parts, value_axes
        ctx.save_for_backward(*arrays, output, logsumexp)
        ctx.set_materialize_grads(False)
        return output, logsumexp

    @staticmethod
    def backward(ctx: Any, of_output: Any, of_logsumexp: Any) -> Any:
        *arrays, output, logsumexp = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if of_output is None and of_logsumexp is None:
            return (None,) * (2 + len(wanted))
        problem, value = ctx.problem.of(arrays), type(ctx.problem.query)(arrays[2], ctx.value_axes)
        if of_logsumexp is None and not any(wanted[3:]) and _kernels_own(of_output, logsumexp):
            found = _backward(problem, value, ctx.parts, output, logsumexp, of_output)
            return (None, None, *found, *(None,) * (len(wanted) - 3))
        return (None, None, *problem.gradients(value, (of_output, of_logsumexp), wanted))


class _Plain(torch.autograd.Function):
    """The same in one call, from the caller's arrays; `again` computes the output by blocks."""

    @staticmethod
    def forward(ctx: Any, causal: bool, scale: float | None, again: Callable, *arrays: Any) -> Any:
        output, logsumexp = _flash(*arrays, 0.0, causal, scale=scale)
        ctx.causal, ctx.scale, ctx.again = causal, scale, again
        ctx.save_for_backward(*arrays, output, logsumexp)
        ctx.mark_non_differentiable(logsumexp)
        ctx.set_materialize_grads(False)
        return output, logsumexp

    @staticmethod
    def backward(ctx: Any, of_output: Any, _: Any) -> Any:
        if of_output is None:
            return (None,) * 6
        *arrays, output, logsumexp = ctx.saved_tensors
        if _kernels_own(of_output, logsumexp):
            query, key, value = arrays
            given = (of_output.contiguous(), query, key, value, output, logsumexp, None, ctx.causal, ctx.scale)
            return (None, None, None, *_cpu_backward(*given))
        in_turn = torch.is_grad_enabled()
        with torch.enable_grad():
            inputs = [
                array.view_as(array) if array.requires_grad else array.clone().requires_grad_() for array in arrays
            ]
            found = torch.autograd.grad(ctx.again(*inputs), inputs, of_output, create_graph=in_turn)
        return (None, None, None, *found)


def _kernels_own(gradient: Any, logsumexp: Any) -> bool:
    """Whether the kernel's backward pass serves: it has no gradient in turn, knows none of several gradients at once,
    and computes weights from a log-sum-exp in one rounded number, which is wrong for large ones.
    """
    return (
        not torch.is_grad_enabled()
        and not torch._C._functorch.is_functorch_wrapped_tensor(gradient)
        and not torch._C._functorch.is_legacy_batchedtensor(gradient)
        and (torch.compiler.is_compiling() or not _large(logsumexp))
    )


def _large(logsumexp: Any) -> bool:
    return bool(((logsumexp.abs() > SMALL) & (logsumexp != -math.inf)).any())


def _backward(problem: Any, value: Any, parts: list[_Part], output: Any, logsumexp: Any, of_output: Any) -> tuple:
    query, key, values, width = _flat(problem, value)
    flat = (*query.shape[:3], width)
    of_output, output = (_padded(array.reshape(flat), query.shape[-1]) for array in (of_output, output))
    logsumexp = logsumexp.reshape(flat[:3])
    logsumexp = torch.where(logsumexp == -math.inf, 0.0, logsumexp)  # as the kernel had it
    found = [torch.zeros_like(array) for array in (query, key, values)]
    for part in parts:
        lead, rows, columns = part.lead, part.rows, part.columns
        pieces = _kernel(problem).backward(
            of_output[lead, :, rows].contiguous(),
            *_cut(part, query, key, values),
            output[lead, :, rows],
            logsumexp[lead, :, rows],
            part.bias,
            part.causal,
            problem.scores.scale,
        )
        if len(parts) == 1 and columns == slice(None):
            found = list(pieces)
        else:
            found[0][lead, :, rows] += pieces[0]
            found[1][lead, :, columns] += pieces[1]
            found[2][lead, :, columns] += pieces[2]
    place = problem.layout
    if place.repeats > 1 and not _kernel(problem).grouped:
        found[1:] = [array.unflatten(1, (-1, place.repeats)).sum(2) for array in found[1:]]
    widths = (problem.query.array.shape[-1], problem.key.array.shape[-1], width)
    full = (
        (*place.lead, place.repeats, place.queries, 1, widths[0]),
        (*place.lead, 1, 1, place.keys, widths[1]),
        (*place.lead, 1, 1, place.keys, widths[2]),
    )
    targets = (problem.query.array, problem.key.array, value.array)
    return tuple(
        array[..., :size].reshape(shape).sum_to_size(target.shape)
        for array, size, shape, target in zip(found, widths, full, targets, strict=True)
    )
