"""Questions answered from exp(S - m) and what is known of its rows, in the shapes that `_questions` has them in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from regard import _questions
from regard._compiled import loops

Pieces = list[np.ndarray]


def entropy(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    seen = np.where(tile.log_sum == -math.inf, 0, tile.log_sum)
    sum_of_weights = 1 if tile.share is None else np.exp(tile.share)
    found = seen * sum_of_weights - tile.moment * tile.factor
    return [np.where(found < 0, 0, found)]


def log_sum_exp(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    return [tile.log_sum_exp()]


def largest_weight(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    return [np.where(tile.empty, 0, tile.factor)]  # that of exp(0)


def largest_score(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    return [tile.largest]


def place_of_largest(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    places = np.empty(tile.largest.shape, np.int32)
    loops.first_largest(tile.flat, tile.rows(places))
    return [places + tile.where.keys[0, 0]]


def distance(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    found = np.empty_like(tile.largest)
    own = (tile.where.queries[:, 0] + tile.where.shift - tile.where.keys[0, 0]).astype(np.int32)
    loops.distances(tile.flat, tile.rows(tile.factor), own, tile.rows(found))
    return [found]


def neighbour(question: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    there = tile.where.queries + (tile.where.shift + question.offset - tile.where.keys[0, 0])
    exists = (there >= 0) & (there < tile.exponentials.shape[-1])
    index = np.broadcast_to(np.where(exists, there, 0), tile.factor.shape)
    found = np.take_along_axis(tile.exponentials, index, -1) * tile.factor
    return [np.where(exists, found, 0)]


def top(question: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    shape = (*tile.largest.shape, question.count)
    values, places = np.empty(shape, tile.exponentials.dtype), np.empty(shape, np.int32)
    rows, count = shape[-3], question.count
    loops.largest(tile.flat, tile.rows(tile.factor), values.reshape(-1, rows, count), places.reshape(-1, rows, count))
    return [values, places + tile.where.keys[0, 0]]


def product(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    return [tile.output(extras[0])]


def transposed_product(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    return [_transposed(tile, tile.exponentials, extras[0] * tile.factor[..., None])]


def _transposed(tile: Any, left: np.ndarray, values: np.ndarray) -> np.ndarray:
    """left^T x: `(*lead, R, 1, s, X)` of `(*lead, R, t, 1, X)`."""
    *lead, rows, _, width = whole = np.broadcast_shapes(values.shape, (*left.shape[:-1], 1, 1))
    values = values if values.shape == whole else np.broadcast_to(values, whole).copy()
    values = values.reshape(*lead, rows, width)
    into = np.empty((*lead, left.shape[-1], width), left.dtype)
    tile.room.matmul(left.swapaxes(-1, -2), values, into)
    return into[..., None, :, :]


def gradient_weighted(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    """The largest of 0 and P (g v^T), then its transposed product with y."""
    gradient, value, values = extras
    *lead, repeats, rows, keys = tile.exponentials.shape
    left = gradient.reshape(*gradient.shape[:-4], -1, gradient.shape[-1])
    right = value.reshape(*value.shape[:-4], keys, value.shape[-1]).swapaxes(-1, -2)
    into = tile.room.memory.take("gradient", (*lead, repeats * rows, keys), tile.exponentials.dtype)
    tile.room.matmul(left, right, into)
    kept = into.reshape(tile.exponentials.shape)
    np.multiply(kept, tile.exponentials, out=kept)
    np.multiply(kept, tile.factor, out=kept)
    np.maximum(kept, 0, out=kept)
    return [_transposed(tile, kept, values)]


def received(question: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    factor = tile.factor * extras[0] if question.chosen else tile.factor
    *lead, _, keys = tile.exponentials.shape
    sums = np.empty((*lead, 1, keys), factor.dtype)
    loops.column_sums(tile.flat, tile.rows(factor), sums.reshape(-1, keys))
    return [sums]


def mass(_: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    return [tile.output(extras[0][..., None])[..., 0]]


def pool(question: Any, tile: Any, extras: Sequence[np.ndarray]) -> Pieces:
    rows, columns = (bins.reshape(-1).astype(np.int32) for bins in extras[:2])
    edges = np.searchsorted(columns, np.arange(question.columns + 1)).astype(np.int32)
    lead = tile.exponentials.shape[:-2]
    mean = question.reduce == "mean"
    found = np.full((*lead, 1, 1, question.rows, question.columns), 0 if mean else -math.inf, tile.factor.dtype)
    loop = loops.rectangle_sums if mean else loops.rectangle_maxima
    loop(tile.flat, tile.rows(tile.factor), rows, edges, found.reshape(-1, question.rows, question.columns))
    return [found / extras[2].reshape(-1, 1) / extras[3].reshape(-1) if mean else found]


KNOWN: dict[type, Callable[[Any, Any, Sequence[np.ndarray]], Pieces]] = {
    _questions.Entropy: entropy,
    _questions.LogSumExp: log_sum_exp,
    _questions.Max: largest_weight,
    _questions.MaxScore: largest_score,
    _questions.ArgMax: place_of_largest,
    _questions.Distance: distance,
    _questions.Neighbour: neighbour,
    _questions.Largest: top,
    _questions.Product: product,
    _questions.TransposedProduct: transposed_product,
    _questions.GradientWeighted: gradient_weighted,
    _questions.Received: received,
    _questions.Mass: mass,
    _questions.Pool: pool,
}
