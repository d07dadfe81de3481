"""The verbs on TensorFlow tensors, eager and in graphs, where dimensions may be unknown."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import tensorflow as tf

name = "tensorflow"

# Nothing in here branches on tensors, so AutoGraph has nothing to convert.
_as_it_is = tf.autograph.experimental.do_not_convert

abs = tf.abs
exp = tf.exp
log = tf.math.log
tanh = tf.tanh
sqrt = tf.sqrt
maximum = tf.maximum
minimum = tf.minimum
matmul = tf.matmul
reshape = tf.reshape
broadcast_to = tf.broadcast_to
stop_gradient = tf.stop_gradient


def quiet() -> Any:
    return contextlib.nullcontext()


def is_array(value: Any) -> bool:
    return isinstance(value, (tf.Tensor, tf.Variable))


def shape(array: Any) -> tuple:
    """The static size of each axis where it is known, else a scalar tensor."""
    array = tf.convert_to_tensor(array)
    static = array.shape.as_list()
    if None not in static:
        return tuple(static)
    dynamic = tf.shape(array)
    return tuple(dynamic[axis] if size is None else size for axis, size in enumerate(static))


def dtype_name(array: Any) -> str:
    return array.dtype.name


def device_name(array: Any) -> str:
    return "tensorflow"  # TensorFlow moves tensors by itself


def asarray(value: Any, like: Any) -> Any:
    return tf.convert_to_tensor(value)


def concrete(array: Any) -> Any:
    return array.numpy() if tf.executing_eagerly() and hasattr(array, "numpy") else None


def cast(array: Any, dtype_name: str) -> Any:
    return tf.cast(array, dtype_name)


def zeros(shape: Any, dtype_name: str, like: Any) -> Any:
    return tf.zeros(shape, dtype_name)


def arange(start: Any, count: Any, like: Any) -> Any:
    return tf.range(start, start + count, dtype=tf.int32)


def swapaxes(array: Any, first: int, second: int) -> Any:
    order = list(range(array.shape.rank))
    order[first], order[second] = order[second], order[first]
    return tf.transpose(array, order)


def concatenate(arrays: Any, axis: int) -> Any:
    return tf.concat(list(arrays), axis)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """With numbers in the type of the array beside them."""
    if not is_array(yes) and is_array(no):
        yes = tf.cast(yes, no.dtype)
    elif not is_array(no) and is_array(yes):
        no = tf.cast(no, yes.dtype)
    return tf.where(condition, yes, no)


def take(array: Any, indices: Any, axis: int) -> Any:
    return tf.gather(array, indices, axis=axis)


def softmax(scores: Any) -> tuple[Any, Any, Any]:
    """The library's, which is normalised: its largest weight is exp(0) over the sum. It takes at most five axes."""
    if scores.shape.rank > 5:
        *axes, rows, columns = shape(scores)
        results = softmax(reshape(scores, (-1, rows, columns)))
        return reshape(results[0], (*axes, rows, columns)), results[1], reshape(results[2], (*axes, rows, 1))
    weights, largest = tf.nn.softmax(scores), max(scores, -1)
    logsumexp = where(largest == -np.inf, largest, largest - tf.math.log(max(weights, -1)))
    return weights, tf.ones([1], scores.dtype), logsumexp


def outer(left: Any, right: Any) -> Any:
    return tf.matmul(left, right, transpose_b=True)


def in_order(array: Any) -> Any:
    return array


def max(array: Any, axis: int) -> Any:
    return tf.reduce_max(array, axis, keepdims=True)


def sum(array: Any, axis: int) -> Any:
    return tf.reduce_sum(array, axis, keepdims=True)


def argmax(array: Any, axis: int) -> Any:
    return tf.expand_dims(tf.argmax(array, axis, tf.int32), axis)


def topk(array: Any, count: int) -> tuple[Any, Any]:
    values, indices = tf.math.top_k(array, count)
    return values, indices


def segment_sum(array: Any, segments: Any, count: int, axis: int) -> Any:
    first = swapaxes(array, 0, axis % array.shape.rank)
    return swapaxes(tf.math.unsorted_segment_sum(first, segments, count), 0, axis % array.shape.rank)


def segment_max(array: Any, segments: Any, count: int, axis: int) -> Any:
    first = swapaxes(array, 0, axis % array.shape.rank)
    result = tf.math.unsorted_segment_max(first, segments, count)
    lowest = tf.cast(result.dtype.min, result.dtype)  # what an empty segment holds
    return swapaxes(tf.where(result == lowest, -np.inf, result), 0, axis % array.shape.rank)


def cut(array: Any, block: Any, axes: tuple) -> Any:
    return array[block.index(axes)]


def mix(bits: Any, coordinate: Any) -> Any:
    bits = tf.bitwise.bitwise_xor(tf.cast(bits, tf.uint32), tf.cast(coordinate, tf.uint32) * np.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, np.uint32(shift))) * np.uint32(factor)
    return bits


def fraction(bits: Any) -> Any:
    return tf.cast(tf.bitwise.right_shift(bits, np.uint32(8)), tf.float32) * 2.0**-24


@_as_it_is
def sweep(task: Any, operands: Any) -> tuple:
    """Blocks in order, each after the one before: a graph would run them all at once, and hold n x n numbers."""
    if task.grid.blocks is None:
        return _loop(task, operands)
    if task.grid.whole:
        return tuple(task.evaluate(operands, task.grid.blocks[0]))
    chunks: dict[tuple, list] = {}
    before: list[Any] = []
    for block in task.grid.blocks:
        with tf.control_dependencies(before if not tf.executing_eagerly() else []):
            pieces = [_widen(*both, block) for both in zip(task.outputs, task.evaluate(operands, block), strict=True)]
        before = pieces
        _append(task.outputs, chunks.setdefault(block.starts[: len(task.grid.lead_spans)], []), pieces)
    whole = {place: [_join(*both) for both in zip(task.outputs, parts, strict=True)] for place, parts in chunks.items()}
    return tuple(_assemble(task, whole, ()))


def _widen(output: Any, piece: Any, block: Any) -> Any:
    """A piece as wide as all the keys, where the result has a keys axis and the block saw only some."""
    axis = len(output.axes) - 1
    if not output.axes[axis]:
        return piece
    missing = [[0, 0]] * piece.shape.rank
    before = block.starts[-1]
    missing[axis] = [before, output.shape[axis] - before - block.sizes[-1]]
    return tf.pad(piece, missing, constant_values=tf.constant(0 if output.merge == "add" else -np.inf, piece.dtype))


def _append(outputs: Any, parts: list, pieces: list) -> None:
    """Rows are kept to be put side by side; what has no rows is added up, so that it does not pile up."""
    if not parts:
        parts.extend([piece] for piece in pieces)
        return
    for output, part, piece in zip(outputs, parts, pieces, strict=True):
        if output.axes[-2]:
            part.append(piece)
        else:
            part[0] = _together(output, part[0], piece)


def _together(output: Any, one: Any, two: Any) -> Any:
    return one + two if output.merge == "add" else tf.maximum(one, two)


def _join(output: Any, parts: list) -> Any:
    return parts[0] if len(parts) == 1 else tf.concat(parts, len(output.axes) - 2)


def _assemble(task: Any, whole: dict, place: tuple) -> list:
    """The results of all chunks of the leading axes, side by side or added."""
    axis = len(place)
    if axis == len(task.grid.lead_spans):
        return whole[place]
    parts = [_assemble(task, whole, (*place, start)) for start, _ in task.grid.lead_spans[axis]]
    if len(parts) == 1:
        return parts[0]
    results = []
    for output, same in zip(task.outputs, zip(*parts, strict=True), strict=True):
        if output.axes[axis]:
            results.append(tf.concat(same, axis))
        else:
            total = same[0]
            for part in same[1:]:
                total = _together(output, total, part)
            results.append(total)
    return results


def _loop(task: Any, operands: Any) -> tuple:
    """Blocks of rows one after the other, where sizes are known only as the graph runs."""
    rows = [output.axes[-2] for output in task.outputs]
    first = [
        tf.TensorArray(output.dtype_name, 0, dynamic_size=True, infer_shape=False, element_shape=None)
        if has_rows
        else tf.fill(tf.stack(output.shape), tf.constant(0 if output.merge == "add" else -np.inf, output.dtype_name))
        for output, has_rows in zip(task.outputs, rows, strict=True)
    ]

    def step(number: Any, *results: Any) -> tuple:
        block = task.grid.block(number)
        merged = []
        for output, result, piece, has_rows in zip(
            task.outputs, results, task.evaluate(operands, block), rows, strict=True
        ):
            piece = _widen(output, piece, block)
            if has_rows:
                merged.append(result.write(number, _to_front(piece, len(output.axes) - 2)))
            else:
                merged.append(tf.ensure_shape(_together(output, result, piece), result.shape))
        return (number + 1, *merged)

    _, *results = tf.while_loop(lambda number, *_: number < task.grid.count, step, (0, *first), parallel_iterations=1)
    whole = []
    for output, result, has_rows in zip(task.outputs, results, rows, strict=True):
        if has_rows:
            rank = len(output.shape)
            axis = len(output.axes) - 2
            result = result.concat()
            result.set_shape([None] * rank)
            result = tf.transpose(result, [*range(1, axis + 1), 0, *range(axis + 1, rank)])
        static = [size if isinstance(size, int) else None for size in output.shape]
        whole.append(tf.ensure_shape(result, static))
    return tuple(whole)


def _to_front(piece: Any, axis: int) -> Any:
    return tf.transpose(piece, [axis, *(a for a in range(piece.shape.rank) if a != axis)])


def vjp(function: Any, operands: Any, cotangents: Any) -> tuple:
    with tf.GradientTape() as tape:
        tape.watch(operands)
        results = function(*operands)
    cotangents = [tf.cast(c, r.dtype) for r, c in zip(results, cotangents, strict=True)]
    return tuple(tape.gradient(results, operands, cotangents, unconnected_gradients="zero"))


@_as_it_is
def differentiable(run: Any, pull: Any, operands: Any) -> tuple:
    @tf.custom_gradient
    def function(*operands: Any) -> tuple:
        # Without the stop, an outer tape records the blocks too, and keeps all tiles.
        results = run(tuple(tf.stop_gradient(operand) for operand in operands))
        wanted = [operand.dtype.is_floating for operand in operands]
        return results, lambda *cotangents: tuple(pull(operands, results, cotangents, wanted))

    return tuple(function(*operands))


def register(container: Any) -> None:
    return None


def recording() -> Any:
    return contextlib.nullcontext()


def has_gradient(array: Any) -> bool:
    return True  # whatever was computed under a tape


def plain(query: Any, key: Any, value: Any, causal: bool, scale: float | None) -> None:
    return None


fused_name = "none"


def fused_obstacle(problem: Any, value: Any) -> str | None:
    return "TensorFlow, which has no fused kernel"


def fused(problem: Any, value: Any) -> tuple[Any, Any]:
    raise NotImplementedError("TensorFlow has no fused kernel")
