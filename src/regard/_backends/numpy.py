"""The verbs on NumPy arrays. No gradients: NumPy has none."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from regard._backends._numpy_threads import blas, limited

name = "numpy"

abs = np.abs
exp = np.exp
tanh = np.tanh
sqrt = np.sqrt
where = np.where
maximum = np.maximum
minimum = np.minimum
matmul = np.matmul
swapaxes = np.swapaxes
concatenate = np.concatenate
reshape = np.reshape
broadcast_to = np.broadcast_to
shape = np.shape
take = np.take


def is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


def dtype_name(array: Any) -> str:
    dtype = array.dtype
    return _NAMES.get(dtype) or _NAMES.setdefault(dtype, dtype.name)


_NAMES: dict[Any, str] = {}  # NumPy makes a name anew each time, which takes longer than most of what is done with it


def device_name(array: Any) -> str:
    return "cpu"


def obstacle(array: Any) -> str | None:
    if isinstance(array, np.ma.MaskedArray):
        return "a masked array, whose mask would be lost; fill it with .filled(...), and hide keys by mask"
    return None


def corner(array: Any) -> None:
    return None


def asarray(value: Any, like: Any) -> Any:
    return np.asarray(value)


def concrete(array: Any) -> Any:
    return np.asarray(array)


def fetched(array: Any) -> Any:
    return np.asarray(array)


def _dtype(dtype_name: str) -> Any:
    if dtype_name == "bfloat16":
        import ml_dtypes  # the package whose arrays these are

        return ml_dtypes.bfloat16
    return np.dtype(dtype_name)


def cast(array: Any, dtype_name: str) -> Any:
    return array.astype(_dtype(dtype_name), copy=False)


def zeros(shape: Any, dtype_name: str, like: Any) -> Any:
    return np.zeros(shape, _dtype(dtype_name))


def arange(start: Any, count: Any, like: Any) -> Any:
    return np.arange(start, start + count, dtype=np.int32)


def quiet() -> Any:
    return np.errstate(invalid="ignore", over="ignore")


def promoted(*arrays: Any) -> tuple:
    return arrays


def stop_gradient(array: Any) -> Any:
    return array


def log(array: Any) -> Any:
    with np.errstate(divide="ignore"):
        return np.log(array)


def max(array: Any, axis: int) -> Any:
    return np.max(array, axis=axis, keepdims=True)


def sum(array: Any, axis: int) -> Any:
    return np.sum(array, axis=axis, keepdims=True)


def argmax(array: Any, axis: int) -> Any:
    return np.argmax(array, axis=axis, keepdims=True).astype(np.int32)


def topk(array: Any, count: int) -> tuple[Any, Any]:
    largest = np.argpartition(array, -count, axis=-1)[..., -count:] if count < array.shape[-1] else None
    if largest is None:
        largest = np.broadcast_to(np.arange(count), (*array.shape[:-1], count))
    values = np.take_along_axis(array, largest, -1)
    order = np.argsort(-values, axis=-1, kind="stable")
    return np.take_along_axis(values, order, -1), np.take_along_axis(largest, order, -1).astype(np.int32)


def softmax(scores: Any, empty: bool) -> tuple[Any, Any, Any, None]:
    largest = max(scores, -1)
    largest[largest == -np.inf] = 0.0
    exponentials = np.exp(np.subtract(scores, largest, out=scores), out=scores)
    return exponentials, sum(exponentials, -1), largest, None


def outer(left: Any, right: Any) -> Any:
    return np.matmul(left, np.swapaxes(right, -1, -2))


def in_order(array: Any) -> Any:
    return array


def segment_sum(array: Any, segments: Any, count: int, axis: int) -> Any:
    """By a product with indicators: BLAS is faster than NumPy's additions by index."""
    indicators = (np.asarray(segments)[:, None] == np.arange(count)).astype(array.dtype)
    return np.moveaxis(np.moveaxis(array, axis, -1) @ indicators, -1, axis)


def segment_max(array: Any, segments: Any, count: int, axis: int) -> Any:
    result = np.full((count, *np.moveaxis(array, axis, 0).shape[1:]), -np.inf, array.dtype)
    np.maximum.at(result, segments, np.moveaxis(array, axis, 0))
    return np.moveaxis(result, 0, axis)


def cut(array: Any, block: Any, axes: tuple) -> Any:
    return array[block.index(axes)]


def mix(bits: Any, coordinate: Any) -> Any:
    bits = np.asarray(bits, np.uint32) ^ (coordinate.astype(np.uint32) * np.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return bits


def fraction(bits: Any) -> Any:
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def sweep(task: Any, operands: Any) -> tuple:
    """Blocks side by side on the processor's cores, each with one BLAS thread."""
    results = [np.full(output.shape, output.before, _dtype(output.dtype_name)) for output in task.outputs]
    merging = threading.Lock()

    def run(block: Any) -> None:
        with quiet():
            pieces = task.evaluate(operands, block)
        with merging:
            for output, result, piece in zip(task.outputs, results, pieces, strict=True):
                merge(output, result[block.index(output.axes)], piece)

    blocks = task.grid.blocks
    workers = min(len(blocks), _cores())
    if workers < 2 or blas() is None:
        for block in blocks:
            run(block)
    else:
        with blas().limit(limits=1), ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, blocks))
    return tuple(results)


def merge(output: Any, place: Any, piece: Any) -> None:
    """Puts a piece of a result to what is there."""
    (np.add if output.merge == "add" else np.maximum)(place, piece, out=place)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keeps_shapes() -> bool:
    return False


def vjp(function: Any, operands: Any, cotangents: Any) -> tuple:
    raise NotImplementedError("NumPy has no gradients")


def differentiable(run: Any, pull: Any, operands: Any) -> tuple:
    return run(operands)


def tied(results: Any, run: Any, pull: Any, operands: Any) -> tuple:
    return tuple(results)


def register(container: Any) -> None:
    return None


def recording() -> Any:
    return contextlib.nullcontext()


def has_gradient(array: Any) -> bool:
    return True  # there are none that it could lack


def plain(query: Any, key: Any, value: Any, causal: bool, scale: float | None, again: Any) -> None:
    return None


fused_name = "none"


def fused_obstacle(problem: Any, value: Any) -> str | None:
    return "NumPy, which has no fused kernel"


def fused(problem: Any, value: Any) -> tuple[Any, Any]:
    raise NotImplementedError("NumPy has no fused kernel")


# The compiled pass, see `regard._compiled`.


def from_memory(array: Any) -> Any:
    return array


def into(left: Any, right: Any, result: Any, add: bool = False) -> None:
    if add:
        raise NotImplementedError("NumPy has no gradients")
    np.matmul(left, right, out=result)


threads = limited.threads


def one_thread_each() -> Any:
    return limited


def settle(pool: Any, count: int) -> None:
    return None
