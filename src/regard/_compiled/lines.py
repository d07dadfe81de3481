"""Loops over the rows of one head's tile `(t, s)`, whose weights are put together along the keys: in lines `(s,)`.

Lines are put together into rectangles once all rows of these have been there.
"""

from __future__ import annotations

import numpy as np

from regard._compiled.arithmetic import exponential
from regard._compiled.loops import loop


@loop
def add_seen(tile, lowest, line):
    """Counts in `line (s,)` which scores of each key are above the lowest: what no query may see is not."""
    rows, width = tile.shape
    one, zero = tile.dtype.type(1), tile.dtype.type(0)
    for i in range(rows):
        row = tile[i]
        for j in range(width):
            line[j] += one if row[j] > lowest else zero


@loop
def add_known(scores, smallest, largest, rest, line, top):
    """Adds the weights exp((S - m) - r) of each key to `line (s,)`, and puts their largest into `top (s,)`.

    The log-sum-exp of the rows is known in parts, m and r `(t,)`.
    """
    rows, width = scores.shape
    zero = scores.dtype.type(0)
    for i in range(rows):
        row, m, r = scores[i], largest[i], rest[i]
        for j in range(width):
            x = (row[j] - m) - r
            y = smallest if x < smallest else x
            e = exponential(y)
            weight = zero if x < smallest else e
            line[j] += weight
            top[j] = weight if weight > top[j] else top[j]


@loop
def add_complete(tile, factor, line, top, first, distances):
    """The same of weights factor_i tile_ij, which also go to those of their distance: row i from `first - i` on."""
    rows, width = tile.shape
    for i in range(rows):
        row, a, into = tile[i], factor[i], distances[first - i : first - i + width]
        for j in range(width):
            weight = a * row[j]
            line[j] += weight
            top[j] = weight if weight > top[j] else top[j]
            into[j] += weight


@loop
def put_bins(line, top, seen, start, step, sums, maxima, counts):
    """Sums, maxima and counts of keys in bins of `step`, the first key being at `start` within the first bin.

    The lines begin anew behind it.
    """
    zero = line.dtype.type(0)
    width = line.shape[0]
    for column in range(sums.shape[0]):
        low, high = max(column * step - start, 0), min((column + 1) * step - start, width)
        total, best, count = zero, zero, zero
        for j in range(low, high):
            total += line[j]
            count += seen[j]
            best = top[j] if top[j] > best else best
            line[j] = top[j] = seen[j] = zero
        sums[column] += total
        counts[column] += count
        maxima[column] = best if best > maxima[column] else maxima[column]


def warm(dtype):
    """Compiles all of them for a type, or loads them."""
    one, rows, smallest = np.zeros((2, 3), dtype), np.ones(2, dtype), dtype.type(-80)
    line = [np.zeros(3, dtype) for _ in range(3)]
    add_known(one, smallest, rows, rows, *line[:2])
    add_complete(one, rows, *line[:2], 1, np.zeros(5, dtype))
    add_seen(one, smallest, line[2])
    put_bins(*line, 0, 2, *(np.zeros(2, dtype) for _ in range(3)))
