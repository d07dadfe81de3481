"""Loops over the rows of a tile: each reads a tile once and writes numbers for its rows or columns.

Tiles are `(L, t, s)`: L leading indices, t queries, s keys, float32 or float64. Sums run over pieces of a row, whose
sums are added in float64: a row of a million keys is as exact as a short one. `nogil`: threads run side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from regard._compiled.arithmetic import exponential, number, order

PIECE = 4096  # numbers that are added in the type of the tile
CHUNK = 32  # keys whose largest weight is looked at before any of them is

# Sums in any order, multiplication and addition in one: vectors. NaN and inf stay what they are.
REORDERED = {"reassoc", "contract", "nsz", "arcp"}
loop = njit(nogil=True, cache=True, fastmath=REORDERED, error_model="numpy")


@loop
def softmax(tile, smallest, largest, total, moment):
    """Scores S become exp(S - m); m the largest of a row, its sum, and sum exp(S - m) (S - m), each `(L, t)`.

    In a row of which all is -inf, m is -inf and the sum 0; one with NaN is NaN. exp is 0 below `smallest`.
    """
    leads, rows, width = tile.shape
    zero = tile.dtype.type(0)
    for lead in range(leads):
        for i in range(rows):
            row = tile[lead, i]
            best = _largest_of(row)
            largest[lead, i] = best
            m = zero if best == -np.inf else best
            sum_e, sum_ex = 0.0, 0.0
            for start in range(0, width, PIECE):
                part = row[start : start + PIECE]
                e_here, ex_here = zero, zero
                for j in range(part.shape[0]):
                    x = part[j] - m
                    y = smallest if x < smallest else x
                    e = exponential(y)
                    e = zero if x < smallest else e
                    part[j] = e
                    e_here += e
                    ex_here += e * y
                sum_e += e_here
                sum_ex += ex_here
            total[lead, i] = sum_e
            moment[lead, i] = sum_ex


@loop
def _largest_of(row):
    """The largest number of a row; NaN where there is one."""
    top, spoiled = order(row[0]), False
    for j in range(row.shape[0]):
        top = max(top, order(row[j]))
        spoiled |= row[j] != row[j]
    return row.dtype.type(np.nan) if spoiled else number(top)


@loop
def gradient(tile, cotangent, given, left, right, rows, own, smallest, factor, mean):
    """Scores S become exp(S - m), and what is known of the gradient of weights that of scores.

    With p the weights and x = S - m, g_ij = cotangent_ij (if it is given) + sum_r left_ri right_rj + rows[1] x_ij
    + rows[2] |own_i - j|; the gradient is p (g - sum_j p g + rows[0]). At the largest, g has rows[3] more, the gradient
    rows[4], in equal parts where several are. Shapes: `left (r, L, t)`, `right (r, L, s)`, `rows (5, L, t)`. 1 over
    the sum of exp(S - m) goes to `factor`, sum_j p g to `mean`, both `(L, t)`, and 0 in a row of which all is -inf.
    """
    leads, height, width = tile.shape
    zero = tile.dtype.type(0)
    for lead in range(leads):
        for i in range(height):
            row, g = tile[lead, i], cotangent[lead, i]
            if not given:
                g[:] = 0
            for r in range(left.shape[0]):
                _add_product(g, left[r, lead, i], right[r, lead])
            if rows[2, lead, i] != 0:
                _add_distance(g, rows[2, lead, i], np.int32(own[i]))
            best = _largest_of(row)
            total, found = _with_exponentials(row, g, zero if best == -np.inf else best, rows[1, lead, i], smallest)
            if total == 0:
                g[:] = 0
                factor[lead, i], mean[lead, i] = zero, zero
                continue
            factor[lead, i], mean[lead, i] = 1 / total, (found + rows[3, lead, i]) / total
            scale, less = factor[lead, i], mean[lead, i] - rows[0, lead, i]
            for j in range(width):
                g[j] = scale * row[j] * (g[j] - less)
            most = scale * rows[3, lead, i] + rows[4, lead, i]
            if most != 0:
                _add_to_largest(row, g, most)


@loop
def _add_product(g, a, b):
    for j in range(g.shape[0]):
        g[j] += a * b[j]


@loop
def _add_distance(g, a, place):
    for j in range(g.shape[0]):
        g[j] += a * abs(np.int32(place - np.int32(j)))


@loop
def _with_exponentials(row, g, m, factor, smallest):
    """A row S becomes e = exp(S - m), and g has factor (S - m) more; the sums of e and of e g."""
    zero = row.dtype.type(0)
    total, found = 0.0, 0.0
    for start in range(0, row.shape[0], PIECE):
        part, beside = row[start : start + PIECE], g[start : start + PIECE]
        e_here, eg_here = zero, zero
        for j in range(part.shape[0]):
            x = part[j] - m
            y = smallest if x < smallest else x
            e = exponential(y)
            e = zero if x < smallest else e
            full = beside[j] + factor * y
            part[j], beside[j] = e, full
            e_here += e
            eg_here += e * full
        total += e_here
        found += eg_here
    return total, found


@loop
def _add_to_largest(row, g, most):
    """Adds a number to g in equal parts, where exp(S - m) is 1."""
    count = 0
    for j in range(row.shape[0]):
        count += row[j] >= 1
    for j in range(row.shape[0]):
        if row[j] >= 1:
            g[j] += most / count


@loop
def column_sums(tile, factor, sums):
    """sum_i factor_i tile_ij, `(L, s)`."""
    leads, rows, width = tile.shape
    for lead in range(leads):
        into = sums[lead]
        into[:] = 0
        whole = rows - rows % 4
        for i in range(0, whole, 4):
            a, b, c, d = factor[lead, i], factor[lead, i + 1], factor[lead, i + 2], factor[lead, i + 3]
            first, second, third, fourth = tile[lead, i], tile[lead, i + 1], tile[lead, i + 2], tile[lead, i + 3]
            for j in range(width):
                into[j] += (a * first[j] + b * second[j]) + (c * third[j] + d * fourth[j])
        for i in range(whole, rows):
            a, first = factor[lead, i], tile[lead, i]
            for j in range(width):
                into[j] += a * first[j]


@loop
def first_largest(tile, places):
    """The first key of each row with exp(S - m) of 1; 0 where none has it."""
    leads, rows, width = tile.shape
    for lead in range(leads):
        for i in range(rows):
            row = tile[lead, i]
            places[lead, i] = 0
            for j in range(width):
                if row[j] >= 1:
                    places[lead, i] = j
                    break


@loop
def distances(tile, factor, own, sums):
    """sum_j factor_i tile_ij |own_i - j|; own is the place of a query among the keys of the tile."""
    leads, rows, width = tile.shape
    for lead in range(leads):
        for i in range(rows):
            row, place, found = tile[lead, i], own[i], 0.0
            for start in range(0, width, PIECE):
                here, part, before = tile.dtype.type(0), row[start : start + PIECE], np.int32(place - start)
                for j in range(part.shape[0]):
                    here += part[j] * abs(np.int32(before - np.int32(j)))
                found += here
            sums[lead, i] = found * factor[lead, i]


@loop
def largest(tile, factor, values, places):
    """The k largest of each row, descending, the first of equals first, and where: `(L, t, k)`.

    The k-th largest of the maxima of chunks is no larger than what is sought: few chunks hold all of it. A chunk is
    every so-manieth key, so that maxima are taken along whole vectors.
    """
    leads, rows, width = tile.shape
    count = values.shape[-1]
    chunks = (width + CHUNK - 1) // CHUNK
    maxima = np.empty(chunks, tile.dtype)
    for lead in range(leads):
        for i in range(rows):
            row, best, where = tile[lead, i], values[lead, i], places[lead, i]
            _chunk_maxima(row, maxima)
            best[:], where[:] = -1, width
            least = best[count - 1]
            for c in range(chunks):
                if maxima[c] > least:
                    least = _insert(best, where, maxima[c], c)
            best[:], where[:] = -1, width
            for c in range(chunks):
                if maxima[c] >= least:
                    for j in range(c, width, chunks):
                        if row[j] >= least and (row[j] != best[count - 1] or j < where[count - 1]):
                            least = max(least, _insert(best, where, row[j], j))
            for k in range(count):
                best[k] *= factor[lead, i]
                if best[k] != best[k]:
                    where[k] = k


@loop
def _chunk_maxima(row, maxima):
    chunks = maxima.shape[0]
    maxima[:] = row[:chunks]
    for start in range(chunks, row.shape[0], chunks):
        part = row[start : start + chunks]
        for c in range(part.shape[0]):
            maxima[c] = part[c] if part[c] > maxima[c] else maxima[c]


@loop
def _insert(best, where, value, place):
    """Puts a value and its place behind all that are larger, or as large and before.

    The last goes; returns the least that is left.
    """
    k = best.shape[0] - 1
    while k > 0 and (best[k - 1] < value or (best[k - 1] == value and where[k - 1] > place)):
        best[k], where[k] = best[k - 1], where[k - 1]
        k -= 1
    best[k], where[k] = value, place
    return best[-1]


@loop
def rectangle_sums(tile, factor, of_row, edges, sums):
    """Sums of rectangles, added to `sums (L, rows, columns)`.

    Row i is in `of_row[i]`, column c from `edges[c]` to `edges[c + 1]`. Rows that share a rectangle are added first.
    """
    leads, rows, width = tile.shape
    line = np.empty(width, tile.dtype)
    for lead in range(leads):
        for i in range(rows):
            if i == 0 or of_row[i] != of_row[i - 1]:
                line[:] = 0
            row, a = tile[lead, i], factor[lead, i]
            for j in range(width):
                line[j] += a * row[j]
            if i == rows - 1 or of_row[i] != of_row[i + 1]:
                into = sums[lead, of_row[i]]
                for column in range(edges.shape[0] - 1):
                    here, part = tile.dtype.type(0), line[edges[column] : edges[column + 1]]
                    for j in range(part.shape[0]):
                        here += part[j]
                    into[column] += here


@loop
def rectangle_maxima(tile, factor, of_row, edges, maxima):
    """The largest of rectangles, where they exceed `maxima (L, rows, columns)`; NaN exceeds all."""
    leads, rows, _ = tile.shape
    for lead in range(leads):
        for i in range(rows):
            row, into, a = tile[lead, i], maxima[lead, of_row[i]], factor[lead, i]
            for column in range(edges.shape[0] - 1):
                if edges[column] == edges[column + 1]:
                    continue
                here = a * _largest_of(row[edges[column] : edges[column + 1]])
                if here > into[column] or here != here:
                    into[column] = here


PLACES = np.zeros(2, np.int32)


def warm(dtype):
    """Compiles all loops for a type, or loads them."""
    tile, rows, smallest = np.zeros((1, 2, 3), dtype), np.ones((1, 2), dtype), dtype.type(-80)
    softmax(tile, smallest, rows.copy(), rows.copy(), rows.copy())
    several = np.zeros((5, 1, 2), dtype)
    gradient(tile, tile.copy(), True, several, np.zeros((5, 1, 3), dtype), several, PLACES, smallest, rows, rows.copy())
    column_sums(tile, rows, np.zeros((1, 3), dtype))
    first_largest(tile, np.zeros((1, 2), np.int32))
    distances(tile, rows, PLACES, rows.copy())
    largest(tile, rows, np.zeros((1, 2, 2), dtype), np.zeros((1, 2, 2), np.int32))
    for rectangles in (rectangle_sums, rectangle_maxima):
        rectangles(tile, rows, PLACES, np.array([0, 2, 3], np.int32), np.zeros((1, 1, 2), dtype))
