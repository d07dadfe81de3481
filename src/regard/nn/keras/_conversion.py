"""Between Keras' terms and Regard's: where the heads are, who sees whom, what is returned of the weights."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from regard import _check, masks
from regard._asking import STATISTICS
from regard.errors import ConfigError, ShapeError, UnsupportedError
from regard.masks import Mask, Window
from regard.weights import AttentionWeights

LAZY = "lazy"  # what `attend` asks a layer's call for
DENSE_BYTES = 2**62  # a tensor that is asked for is made


# Where the heads are. In Keras, `(B, *positions, N, D)`, and attention is along some of the axes of positions.


def heads_first(array: Any, axes: Sequence[int] = (1,)) -> Any:
    """`(B, *positions, N, D)` as `(B, *others, N, T, D)`, T being all positions along `axes`."""
    array = ops.transpose(array, _order(len(array.shape), axes))
    if len(axes) == 1:
        return array
    sizes = ops.shape(array)
    return ops.reshape(array, (*sizes[: -1 - len(axes)], math.prod(sizes[-1 - len(axes) : -1]), sizes[-1]))


def heads_last(array: Any, axes: Sequence[int], like: Any) -> Any:
    """The reverse, `(B, *others, N, T, E)` as `(B, *positions, N, E)`, with the positions of `like`."""
    if len(axes) > 1:
        sizes, positions = ops.shape(array), ops.shape(like)
        array = ops.reshape(array, (*sizes[:-2], *(positions[axis] for axis in axes), sizes[-1]))
    return ops.transpose(array, tuple(int(axis) for axis in np.argsort(_order(len(like.shape), axes))))


def _order(rank: int, axes: Sequence[int]) -> tuple[int, ...]:
    others = (axis for axis in range(1, rank - 2) if axis not in axes)
    return (0, *others, rank - 2, *axes, rank - 1)


# Who sees whom.


def band(size: int) -> Mask:
    """Keras' sliding window: |i - j| < size, however many there are of both."""
    return Mask(Window(size - 1, size - 1, from_start=True))


def real_queries(mask: Any, sizes: Sequence, axes: Sequence[int] = (1,)) -> Mask:
    """Padding `(B, T)` or `(B, *positions)`, True = none, of queries of these sizes `(B, *positions)`."""
    return masks.boolean(_real(mask, sizes, axes))


def real_keys(mask: Any, sizes: Sequence, axes: Sequence[int] = (1,)) -> Mask:
    return masks.boolean(ops.swapaxes(_real(mask, sizes, axes), -2, -1))


def _real(mask: Any, sizes: Sequence, axes: Sequence[int]) -> Any:
    """`(B, *others, 1, T, 1)`."""
    mask = ops.cast(mask, "bool")
    missing = len(sizes) - len(mask.shape)
    if missing:
        mask = ops.broadcast_to(ops.reshape(mask, (*ops.shape(mask), *(1,) * missing)), sizes)
    return heads_first(ops.expand_dims(mask, (-2, -1)), axes)


def pairs(who: str, mask: Any, queries: Sequence, keys: Sequence, heads: int, axes: Sequence[int] = (1,)) -> Mask:
    """Keras' attention mask, `(T, S)`, `(B, T, S)` or with heads, for sizes `(B, *positions)` of queries and keys.

    With several axes of attention, T and S stand for several axes each.
    """
    mask = ops.cast(mask, "bool")
    full = weights_shape(queries, keys, heads, axes)
    check_mask(who, mask.shape, full)
    sizes = ops.shape(mask)
    before = len(sizes) - 2 * len(axes)
    mask = ops.reshape(mask, (*sizes[:before], *(1,) * (len(full) - len(sizes)), *sizes[before:]))
    if len(axes) > 1:
        outer, ends = ops.shape(mask)[: -2 * len(axes)], full[-2 * len(axes) :]
        mask = ops.broadcast_to(mask, (*outer, *ends))
        mask = ops.reshape(mask, (*outer, math.prod(ends[: len(axes)]), math.prod(ends[len(axes) :])))
    return masks.boolean(mask)


def weights_shape(queries: Sequence, keys: Sequence, heads: int, axes: Sequence[int] = (1,)) -> tuple:
    """`(B, *others, N, T, S)` for sizes `(B, *positions)`, T and S being as many axes as `axes`."""
    others = [size for axis, size in enumerate(queries) if axis not in axes]
    return (*others, heads, *(queries[axis] for axis in axes), *(keys[axis] for axis in axes))


def check_mask(who: str, got: Sequence, full: Sequence) -> None:
    """An attention mask that lacks leading axes, or has them, of size one where it is the same along them."""
    pair = len(got) >= 2 and not any(
        isinstance(a, int) and isinstance(b, int) and a not in (1, b)
        for a, b in zip([*got[:1], *got[-2:]], [*(full[:1] if len(got) > 2 else got[:1]), *full[-2:]], strict=True)
    )
    if not pair or len(got) > len(full):
        raise ShapeError(
            f"{who}: need attention_mask (T, S), (B, T, S) or (B, heads, T, S) for weights (B, heads, T, S) = "
            f"{_check.spelled(full)}; got {_check.spelled(got)}; True lets query i see key j at [..., i, j]."
        )


def both(*rules: Mask | None) -> Mask | None:
    """What all of these rules let be seen; None for everything."""
    found = [rule for rule in rules if rule is not None]
    return functools.reduce(operator.and_, found) if found else None


def check_padding(who: str, mask: Any, keys: Any) -> None:
    """A mask `(B, S)` of keys `(B, S, C)`."""
    got, full = tuple(mask.shape), tuple(keys.shape[:2])
    if len(got) != 2 or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(got, full, strict=False)
    ):
        raise ShapeError(
            f"{who}: need a mask (B, S) = {_check.spelled(full)}; got {_check.spelled(got)}; True is no padding."
        )


def dropping(dropout: keras.layers.Dropout, training: bool | None) -> dict[str, Any]:
    """The arguments of `attention` for dropout: while training, with another seed at every step."""
    return {"dropout": dropout.rate, "seed": dropout.seed_generator.next()} if training and dropout.rate else {}


# What is returned of the weights: a tensor with True, statistics by their names, or what answers any question.


def asked(wanted: Any) -> tuple[str, ...]:
    """The names among what is to be returned."""
    return () if isinstance(wanted, bool) or wanted in (None, LAZY) else tuple(wanted)


def returned(weights: AttentionWeights, wanted: Any) -> Any:
    if not wanted or wanted is LAZY:
        return weights if wanted else None
    return weights.dense(DENSE_BYTES) if wanted is True else weights.ask(*wanted)


def returned_spec(wanted: Any, shape: Sequence[int | None], dtype: str) -> Any:
    """What `returned` will be, for weights of this shape."""
    if wanted is True:
        return keras.KerasTensor(shape, dtype=dtype)
    _check.questions("AttentionWeights", wanted, {}, STATISTICS, ())
    *outer, queries, keys = shape
    exact = "float64" if dtype == "float64" else "float32"
    return {
        name: keras.KerasTensor(
            (*outer, keys if name == "received" else queries), dtype="int32" if name == "argmax" else exact
        )
        for name in wanted
    }


def refuse_symbolic(who: str, instead: str, *arrays: Any) -> None:
    """Lazy weights cannot flow through a model that is yet to be built."""
    if any(isinstance(array, keras.KerasTensor) for array in arrays):
        raise UnsupportedError(
            f"{who}.attend: need arrays; got a symbolic KerasTensor, through which lazy weights cannot flow; {instead} "
            "for statistics as tensors, or call attend with arrays, or in the call of a layer of your own."
        )


# Arguments that cannot be.


def check_heads(who: str, units: int, heads: int) -> None:
    if heads < 1 or units < 1 or units % heads:
        raise ConfigError(f"{who}: need units that heads divide; got units={units}, heads={heads}.")


def check_choice(who: str, name: str, value: Any, known: Sequence) -> None:
    if value not in known:
        raise ConfigError(f"{who}: need {name} to be one of {', '.join(map(repr, known))}; got {value!r}.")
