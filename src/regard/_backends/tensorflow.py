"""The verbs on TensorFlow tensors, eager and in graphs, where dimensions may be unknown."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager.forwardprop_util import pack_tangents
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from regard._backends.arrays import native
from regard.errors import UnsupportedError

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
reshape = tf.reshape
broadcast_to = tf.broadcast_to
stop_gradient = tf.stop_gradient


def quiet() -> Any:
    return contextlib.nullcontext()


def promoted(*arrays: Any) -> tuple:
    return arrays


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


def obstacle(array: Any) -> str | None:
    return None  # what is ragged or sparse is no tf.Tensor


def corner(array: Any) -> None:
    return None


def asarray(value: Any, like: Any) -> Any:
    return tf.convert_to_tensor(native(value))


def concrete(array: Any) -> Any:
    return array.numpy() if tf.executing_eagerly() and hasattr(array, "numpy") else None


def fetched(array: Any) -> Any:
    return concrete(array)


def from_memory(array: Any) -> Any:
    return tf.convert_to_tensor(array)


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


def softmax(scores: Any, empty: bool) -> tuple[Any, None, Any, Any]:
    """The library's, which is normalised: its largest weight is exp(0) over the sum. It takes at most five axes."""
    if scores.shape.rank > 5:
        *axes, rows, columns = shape(scores)
        weights, _, largest, rest = softmax(reshape(scores, (-1, rows, columns)), empty)
        largest, rest = (reshape(array, (*axes, rows, 1)) for array in (largest, rest))
        return reshape(weights, (*axes, rows, columns)), None, largest, rest
    largest = max(scores, -1)
    nothing = largest == -np.inf
    if empty:  # of which the library makes NaN
        scores, largest = where(nothing, 0.0, scores), where(nothing, 0.0, largest)
    weights = tf.nn.softmax(scores)
    rest = -tf.math.log(max(weights, -1))
    return weights, None, largest, where(nothing, -np.inf, rest) if empty else rest


def matmul(left: Any, right: Any) -> Any:
    return tf.matmul(*_as_many(left, right))


def outer(left: Any, right: Any) -> Any:
    return tf.matmul(*_as_many(left, right), transpose_b=True)


def _as_many(left: Any, right: Any) -> tuple[Any, Any]:
    """Both with all leading axes: TensorFlow's own broadcasting in a product has given wrong numbers on CPUs."""
    leading = left.shape[:-2], right.shape[:-2]
    if leading[0].as_list() == leading[1].as_list():  # axes of unknown size are alike: a copy for each would stay
        return left, right
    if not all(axes.is_fully_defined() for axes in leading):
        sizes = tf.broadcast_dynamic_shape(tf.shape(left)[:-2], tf.shape(right)[:-2])
    else:
        sizes = tf.constant(tf.broadcast_static_shape(*leading).as_list(), tf.int32)
    return tuple(tf.broadcast_to(array, tf.concat([sizes, tf.shape(array)[-2:]], 0)) for array in (left, right))


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
    if isinstance(block.starts[-2], int) or not all(isinstance(size, int) for size in block.sizes):
        return array[block.index(axes)]
    starts, sizes = block.window(axes, array.shape)
    return tf.slice(array, tf.stack(starts), sizes)


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
        # Inside a loop XLA knows no sizes but those it was traced with, so there everything is one block.
        at_once = task.grid.whole or GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
        return tuple(_evaluated(task, operands, task.grid.everything)) if at_once else _loop_of_unknown(task, operands)
    if task.grid.whole:
        return tuple(task.evaluate(operands, task.grid.blocks[0]))
    leading = len(task.grid.lead_spans)
    chunks: dict[tuple, list] = {}
    few = tf.executing_eagerly() or len(task.grid.blocks) <= _FEW
    evaluated = _one_by_one if few else _by_loops
    for block, pieces in evaluated(task, operands):
        _append(task.outputs, chunks.setdefault(block.starts[:leading], []), block, pieces)
    whole = {place: [_join(*both) for both in zip(task.outputs, parts, strict=True)] for place, parts in chunks.items()}
    return tuple(_assemble(task, whole, ()))


def keeps_shapes() -> bool:
    return True  # a graph compiles a loop for each, and oneDNN keeps a third of a megabyte for each product's


_FEW = 16  # blocks that a graph has side by side: a loop takes a tenth longer, and more of them long to trace


def _one_by_one(task: Any, operands: Any) -> Any:
    before: list[Any] = []
    for block in task.grid.blocks:
        with tf.control_dependencies(before if not tf.executing_eagerly() else []):
            pieces = _evaluated(task, operands, block)
        before = [piece for output, piece in zip(task.outputs, pieces, strict=True) if not output.optional]
        yield block, pieces


def _evaluated(task: Any, operands: Any, block: Any) -> list:
    return [_widen(*both, block) for both in zip(task.outputs, task.evaluate(operands, block), strict=True)]


def _by_loops(task: Any, operands: Any) -> Any:
    """Blocks of one shape share one loop, whose body is traced once: a graph of all blocks takes a minute to trace.

    Gives `(block, pieces)`: of what has rows, one for each block; of what is added up, None but for the last block of
    each chunk of the leading axes, which has the chunk's sum.
    """
    before: list[Any] = []
    for _, group in itertools.groupby(sorted(task.grid.blocks, key=_kind), key=_kind):
        blocks = sorted(group, key=lambda block: block.starts)
        with tf.control_dependencies(before):
            pieces = _loop(task, operands, blocks)
        before = [found[-1] for found in pieces]
        yield from zip(blocks, zip(*pieces, strict=True), strict=True)


def _kind(block: Any) -> tuple:
    return (block.sizes, block.masked)


def _loop(task: Any, operands: Any, blocks: list) -> list[list]:
    """For each output a list as long as the blocks, see `_by_loops`."""
    if len(blocks) == 1:
        return [[piece] for piece in _evaluated(task, operands, blocks[0])]
    leading = len(task.grid.lead_spans)
    places = sorted({block.starts[:leading] for block in blocks})
    chunk_of = [places.index(block.starts[:leading]) for block in blocks]
    starts, chunks = tf.constant([block.starts for block in blocks]), tf.constant(chunk_of)
    shapes = [_piece_shape(output, blocks[0]) for output in task.outputs]

    def array(output: Any, shape: tuple) -> Any:
        if output.axes[-2]:
            return tf.TensorArray(output.dtype_name, len(blocks), element_shape=shape)
        nothing = tf.fill(shape, tf.constant(output.before, output.dtype_name))
        return tf.TensorArray(output.dtype_name, len(places), element_shape=shape, clear_after_read=False).unstack(
            tf.stack([nothing] * len(places))
        )

    def step(number: Any, *arrays: Any) -> tuple:
        here = blocks[0].moved(tuple(tf.unstack(starts[number])))
        chunk = chunks[number]
        written = []
        for output, array, piece, shape in zip(
            task.outputs, arrays, _evaluated(task, operands, here), shapes, strict=True
        ):
            piece = tf.ensure_shape(tf.broadcast_to(piece, shape), shape)
            if output.axes[-2]:
                written.append(array.write(number, piece))
            else:
                written.append(array.write(chunk, _together(output, array.read(chunk), piece)))
        return (number + 1, *written)

    arrays = [array(output, shape) for output, shape in zip(task.outputs, shapes, strict=True)]
    _, *arrays = tf.while_loop(lambda number, *_: number < len(blocks), step, (0, *arrays), parallel_iterations=1)
    last = {chunk: number for number, chunk in enumerate(chunk_of)}
    results = []
    for output, found in zip(task.outputs, arrays, strict=True):
        pieces = tf.unstack(found.stack(), len(blocks) if output.axes[-2] else len(places))
        if not output.axes[-2]:
            pieces = [pieces[chunk] if last[chunk] == number else None for number, chunk in enumerate(chunk_of)]
        results.append(pieces)
    return results


def _piece_shape(output: Any, block: Any) -> tuple:
    """Of what a block gives to an output, widened along the keys."""
    space = [size if varies else 1 for size, varies in zip(block.sizes, output.axes, strict=True)]
    if output.axes[-1]:
        space[-1] = output.shape[len(output.axes) - 1]
    return (*space, *output.shape[len(output.axes) :])


def _widen(output: Any, piece: Any, block: Any) -> Any:
    """A piece as wide as all the keys, where the result has a keys axis and the block saw only some."""
    axis = len(output.axes) - 1
    if not output.axes[axis]:
        return piece
    before, after = block.starts[-1], output.shape[axis] - block.starts[-1] - block.sizes[-1]
    missing = [[0, 0]] * piece.shape.rank
    missing[axis] = [before, after]
    return tf.pad(piece, missing, constant_values=tf.constant(output.before, piece.dtype))


def _append(outputs: Any, parts: list, block: Any, pieces: Any) -> None:
    """Rows are kept to be put side by side; what has no rows is added up, so that it does not pile up."""
    if not parts:
        parts.extend({} for _ in pieces)
    for output, part, piece in zip(outputs, parts, pieces, strict=True):
        if output.axes[-2]:
            part[block.starts[-2]] = piece
        elif piece is not None:
            part[0] = _together(output, part[0], piece) if part else piece


def _together(output: Any, one: Any, two: Any) -> Any:
    return one + two if output.merge == "add" else tf.maximum(one, two)


def _join(output: Any, parts: dict) -> Any:
    """The parts of each row's start, in order."""
    return next(iter(parts.values())) if len(parts) == 1 else tf.concat(_in_order(parts), len(output.axes) - 2)


def _in_order(parts: dict) -> list:
    return [parts[start] for start in sorted(parts)]


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


def _loop_of_unknown(task: Any, operands: Any) -> tuple:
    """Blocks of rows one after the other, where sizes are known only as the graph runs."""
    rows = [output.axes[-2] for output in task.outputs]
    first = [
        tf.TensorArray(output.dtype_name, 0, dynamic_size=True, infer_shape=False, element_shape=None)
        if has_rows
        else tf.fill(tf.stack(output.shape), tf.constant(output.before, output.dtype_name))
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
    if pack_tangents(list(operands)).tangents:
        raise UnsupportedError(
            "attention: need backward differentiation in TensorFlow; got tf.autodiff.ForwardAccumulator; use "
            "tf.GradientTape, one inside the other for second derivatives."
        )

    @tf.custom_gradient
    def function(*operands: Any) -> tuple:
        # Without the stop, an outer tape records the blocks too, and keeps all tiles.
        results = run(tuple(tf.stop_gradient(operand) for operand in operands))
        wanted = [operand.dtype.is_floating for operand in operands]
        return results, lambda *cotangents: tuple(pull(operands, cotangents, wanted))

    return tuple(function(*operands))


def tied(results: Any, run: Any, pull: Any, operands: Any) -> tuple:
    return differentiable(lambda _: tuple(tf.stop_gradient(result) for result in results), pull, operands)


def register(container: Any) -> None:
    return None


def recording() -> Any:
    return contextlib.nullcontext()


def has_gradient(array: Any) -> bool:
    return True  # whatever was computed under a tape


def plain(query: Any, key: Any, value: Any, causal: bool, scale: float | None, again: Any) -> None:
    return None


fused_name = "none"


def fused_obstacle(problem: Any, value: Any) -> str | None:
    return "TensorFlow, which has no fused kernel"


def fused(problem: Any, value: Any) -> tuple[Any, Any]:
    raise NotImplementedError("TensorFlow has no fused kernel")
