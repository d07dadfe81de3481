"""The verbs on JAX arrays, eager and traced."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from regard._backends.arrays import native
from regard.errors import DtypeError

name = "jax"

abs = jnp.abs
exp = jnp.exp
log = jnp.log
tanh = jnp.tanh
sqrt = jnp.sqrt
where = jnp.where
maximum = jnp.maximum
minimum = jnp.minimum
swapaxes = jnp.swapaxes
reshape = jnp.reshape
broadcast_to = jnp.broadcast_to
shape = jnp.shape
stop_gradient = lax.stop_gradient


def quiet() -> Any:
    """Axes of size one in front may be left out in here, also where the caller forbids it."""
    return jax.numpy_rank_promotion("allow")


def promoted(*arrays: Any) -> tuple:
    return arrays


def is_array(value: Any) -> bool:
    return isinstance(value, jax.Array)


def dtype_name(array: Any) -> str:
    return array.dtype.name


def device_name(array: Any) -> str:
    return "jax"  # JAX itself checks devices, and a traced array has none yet


def obstacle(array: Any) -> str | None:
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended):
        return f"{array.dtype.name}, which has no numbers; use jax.random.key_data"
    return None


def corner(array: Any) -> None:
    return None


def asarray(value: Any, like: Any) -> Any:
    value = native(value)
    if isinstance(value, np.ndarray) and jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        _check_32_bits(value)
    return jnp.asarray(value)


def _check_32_bits(value: Any) -> None:
    if value.dtype.kind in "iu" and value.size and (value.min() < -(2**31) or value.max() >= 2**31):
        raise DtypeError(
            f"attention: need whole numbers of 32 bits, which JAX has without jax_enable_x64; got larger ones, "
            f"{value.dtype} {value.shape}; make them smaller."
        )


def concrete(array: Any) -> Any:
    return None if isinstance(array, jax.core.Tracer) else np.asarray(array)


def fetched(array: Any) -> Any:
    return concrete(array)


def from_memory(array: Any) -> Any:
    return jnp.asarray(array)


def cast(array: Any, dtype_name: str) -> Any:
    return array.astype(dtype_name)


def zeros(shape: Any, dtype_name: str, like: Any) -> Any:
    return jnp.zeros(shape, dtype_name)


def arange(start: Any, count: Any, like: Any) -> Any:
    return start + jnp.arange(count, dtype=jnp.int32)


def concatenate(arrays: Any, axis: int) -> Any:
    return jnp.concatenate(list(arrays), axis=axis)


def take(array: Any, indices: Any, axis: int) -> Any:
    return jnp.take(array, jnp.asarray(indices), axis=axis)


def matmul(left: Any, right: Any) -> Any:
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def softmax(scores: Any, empty: bool) -> tuple[Any, Any, Any, None]:
    largest = max(stop_gradient(scores), -1)
    largest = jnp.where(largest == -jnp.inf, 0.0, largest)
    exponentials = jnp.exp(scores - largest)
    return exponentials, sum(exponentials, -1), largest, None


def outer(left: Any, right: Any) -> Any:
    return matmul(left, jnp.swapaxes(right, -1, -2))


def in_order(array: Any) -> Any:
    return array


def max(array: Any, axis: int) -> Any:
    return jnp.max(array, axis=axis, keepdims=True)


def sum(array: Any, axis: int) -> Any:
    return jnp.sum(array, axis=axis, keepdims=True)


def argmax(array: Any, axis: int) -> Any:
    return jnp.argmax(array, axis=axis, keepdims=True).astype(jnp.int32)


def topk(array: Any, count: int) -> tuple[Any, Any]:
    values, indices = lax.top_k(array, count)
    return values, indices.astype(jnp.int32)


def segment_sum(array: Any, segments: Any, count: int, axis: int) -> Any:
    """By a product with indicators: XLA's additions by index go one after the other on a CPU."""
    indicators = (segments[:, None] == jnp.arange(count)).astype(array.dtype)
    return jnp.moveaxis(matmul(jnp.moveaxis(array, axis, -1), indicators), -1, axis)


def segment_max(array: Any, segments: Any, count: int, axis: int) -> Any:
    result = jax.ops.segment_max(jnp.moveaxis(array, axis, 0), jnp.asarray(segments), num_segments=count)
    return jnp.moveaxis(result, 0, axis)


@functools.partial(jax.jit, static_argnums=0)
def sweep(task: Any, operands: Any) -> tuple:
    """Blocks of one shape share one loop, whose body is compiled once."""
    if task.grid.whole:
        return tuple(_evaluate(task, operands, task.grid.blocks[0]))
    results = tuple(jnp.full(output.shape, output.before, output.dtype_name) for output in task.outputs)
    blocks = sorted(task.grid.blocks, key=_kind)
    for _, group in itertools.groupby(blocks, key=_kind):
        results = _loop(task, operands, results, list(group))
    return results


def _kind(block: Any) -> tuple:
    return (block.sizes, block.masked)


def _evaluate(task: Any, operands: Any, block: Any) -> Any:
    """A block, of which derivatives keep nothing but its operands: they compute it again.

    Twice, since the backward pass of what is computed again is not itself: with once, second derivatives taken
    backwards keep n x n numbers, with twice third ones.
    """

    def evaluate(operands: Any) -> Any:
        with quiet():
            return task.evaluate(operands, block)

    again = functools.partial(jax.checkpoint, prevent_cse=task.grid.whole)
    return again(again(evaluate))(operands)


def _loop(task: Any, operands: Any, results: tuple, blocks: list) -> tuple:
    def step(results: tuple, starts: Any) -> tuple:
        here = blocks[0].moved(tuple(starts[axis] for axis in range(len(blocks[0].starts))))
        pieces = _evaluate(task, operands, here)
        merged = (
            _merge(output, result, piece, here)
            for output, result, piece in zip(task.outputs, results, pieces, strict=True)
        )
        return tuple(merged), None

    if len(blocks) == 1:
        return step(results, np.array(blocks[0].starts, np.int32))[0]
    return lax.scan(step, results, np.array([block.starts for block in blocks], np.int32))[0]


def _merge(output: Any, result: Any, piece: Any, block: Any) -> Any:
    starts, sizes = _window(block, output.axes, result.shape)
    present = lax.dynamic_slice(result, starts, sizes)
    piece = jnp.broadcast_to(piece, sizes).astype(result.dtype)
    together = present + piece if output.merge == "add" else jnp.maximum(present, piece)
    return lax.dynamic_update_slice(result, together, starts)


def cut(array: Any, block: Any, axes: tuple) -> Any:
    starts, sizes = _window(block, axes, array.shape)
    return lax.dynamic_slice(array, starts, sizes)


def _window(block: Any, axes: tuple, shape: tuple) -> tuple[list, tuple]:
    """Starts of one type: with 64-bit types enabled, a Python number and a traced one differ."""
    starts, sizes = block.window(axes, shape)
    return [jnp.asarray(start, jnp.int32) for start in starts], sizes


def mix(bits: Any, coordinate: Any) -> Any:
    bits = jnp.asarray(bits).astype(jnp.uint32) ^ (coordinate.astype(jnp.uint32) * jnp.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits


def fraction(bits: Any) -> Any:
    return (bits >> 8).astype(jnp.float32) * 2.0**-24


def keeps_shapes() -> bool:
    return True


def vjp(function: Any, operands: Any, cotangents: Any) -> tuple:
    results, pull = jax.vjp(function, *operands)
    return pull(tuple(c.astype(r.dtype) for r, c in zip(results, cotangents, strict=True)))


def differentiable(run: Any, pull: Any, operands: Any) -> tuple:
    """JAX differentiates the blocks itself, forwards and backwards and as often as one likes, see `_evaluate`."""
    return tuple(run(tuple(operands)))


def tied(results: Any, run: Any, pull: Any, operands: Any) -> tuple:
    @jax.custom_jvp
    def known(results: tuple, operands: tuple) -> tuple:
        return results

    @known.defjvp
    def rule(primals: tuple, tangents: tuple) -> tuple:
        results, operands = primals
        _, of_results = jax.jvp(lambda *operands: tuple(run(operands)), operands, tangents[1])
        return known(results, operands), of_results  # whose derivatives are known in turn

    return known(tuple(map(stop_gradient, results)), tuple(operands))


@functools.cache
def register(container: Any) -> None:
    """A class with `_flatten` and `_unflatten` as one that JAX can take apart: it may go in and out of `jit`."""
    jax.tree_util.register_pytree_node(container, container._flatten, container._unflatten)


def recording() -> Any:
    return contextlib.nullcontext()


def has_gradient(array: Any) -> bool:
    return True  # whatever was computed while tracing


def plain(query: Any, key: Any, value: Any, causal: bool, scale: float | None, again: Any) -> None:
    return None


fused_name = "cuDNN through jax.nn.dot_product_attention"


def fused_obstacle(problem: Any, value: Any) -> str | None:
    """cuDNN takes half precision on a GPU, of one width, masked by causality alone. Not yet run on a GPU."""
    if jax.default_backend() != "gpu":
        return f"JAX on a {jax.default_backend()}, which has no fused kernel"
    if problem.query.array.dtype not in (jnp.float16, jnp.bfloat16):
        return f"{problem.query.array.dtype.name}, which cuDNN does not know"
    scores, place = problem.scores, problem.layout
    causal = str(scores.mask) == "causal()" and place.queries == place.keys
    if scores.bias is not None or not (scores.mask is None or causal):
        return "a mask or bias, which runs by blocks"
    if problem.query.array.shape[-1] != value.array.shape[-1]:
        return "values of another width than the keys"
    return None


def fused(problem: Any, value: Any, implementation: str = "cudnn") -> tuple[Any, Any]:
    """Output `(*lead, R, T, 1, E)` and log-sum-exp `(*lead, R, T, 1)`; the gradient runs by blocks.

    JAX gives no gradient for its log-sum-exp, and a zero in its place would be silent.
    """

    arrays = (problem.query.array, problem.key.array, value.array)
    query, key, values = map(stop_gradient, arrays)
    results = _dot_product_attention(problem, query, key, values, implementation)

    def by_blocks(arrays: Any) -> tuple:
        again = dataclasses.replace(
            problem,
            query=dataclasses.replace(problem.query, array=arrays[0]),
            key=dataclasses.replace(problem.key, array=arrays[1]),
        )
        output, parts = again.attend(dataclasses.replace(value, array=arrays[2]))
        return output.astype(results[0].dtype), parts[..., 0] + parts[..., 1]

    output, logsumexp = tied(results, by_blocks, None, arrays)
    return output, logsumexp[..., None]


def _dot_product_attention(problem: Any, query: Any, key: Any, values: Any, implementation: str) -> tuple[Any, Any]:
    place = problem.layout
    heads = place.lead[-1] * place.repeats

    def by_position(array: Any, length: int, count: int) -> Any:
        return jnp.swapaxes(jnp.reshape(array, (-1, count, length, array.shape[-1])), 1, 2)

    def whole(array: Any, shape: tuple) -> Any:
        return jnp.broadcast_to(array, (*shape, array.shape[-1]))

    query = by_position(whole(query, (*place.lead, place.repeats, place.queries, 1)), place.queries, heads)
    key, values = (
        by_position(whole(array, (*place.lead, 1, 1, place.keys)), place.keys, place.lead[-1])
        for array in (key, values)
    )
    attend: Any = jax.nn.dot_product_attention
    output, logsumexp = attend(
        query,
        key,
        values,
        scale=problem.scores.scale,
        is_causal=problem.scores.mask is not None,
        implementation=implementation,
        return_residual=True,  # the log-sum-exp
    )
    shape = (*place.lead, place.repeats, place.queries, 1)
    output = jnp.reshape(jnp.swapaxes(output, 1, 2), (*shape, output.shape[-1]))
    return output, jnp.reshape(jnp.swapaxes(logsumexp, 1, 2), shape).astype(problem.dtype)
