"""Loops over rows of numbers that become whole numbers of eight bits, and back: one scale a row.

The scale of a row is its largest magnitude over 127, so that no row has a say in another's. Half precision comes as
the bits of bfloat16. No operation is contracted: plain ones, in float32, give the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from regard._compiled.arithmetic import FLOAT, INT

MOST = FLOAT(127)
_ROUND = FLOAT(1.5 * 2**23)  # adding it rounds to a whole number, whose low bits it then holds
_MAGNITUDE, _MAGNITUDE_HALF = INT(0x7FFFFFFF), np.int16(0x7FFF)
_HALF, _ODD, _LOW = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)
_QUIET = np.uint32(0x40)  # of a NaN's bits that are kept

loop = njit(nogil=True, cache=True, error_model="numpy")


@loop
def to_integers(rows, bits, integers, scales):
    """Whole numbers `(M, K)` and the scale of each row; `bits` are the rows', int32. NaN and inf make a scale so."""
    count, width = rows.shape
    for i in range(count):
        row, seen, into, top = rows[i], bits[i], integers[i], INT(0)
        for j in range(width):
            top = max(top, INT(seen[j] & _MAGNITUDE))
        largest = INT(top).view(FLOAT)
        scales[i] = largest / MOST
        factor = MOST / largest if largest > 0 else FLOAT(0)
        for j in range(width):
            into[j] = np.int8(FLOAT(row[j] * factor + _ROUND).view(INT))


@loop
def half_to_integers(bits, integers, scales):
    """Likewise of bfloat16's bits, int16."""
    count, width = bits.shape
    for i in range(count):
        seen, into, top = bits[i], integers[i], np.int16(0)
        for j in range(width):
            top = max(top, np.int16(seen[j] & _MAGNITUDE_HALF))
        largest = INT(INT(top) << INT(16)).view(FLOAT)
        scales[i] = largest / MOST
        factor = MOST / largest if largest > 0 else FLOAT(0)
        for j in range(width):
            value = INT(INT(seen[j]) << INT(16)).view(FLOAT)
            into[j] = np.int8(FLOAT(value * factor + _ROUND).view(INT))


@loop
def from_integers(products, scales, bias):
    """Products `(M, N)` times the scale of their row, and the bias, in place."""
    count, width = products.shape
    for i in range(count):
        row, scale = products[i], scales[i]
        for j in range(width):
            row[j] = row[j] * scale + bias[j]


@loop
def half_from_integers(products, scales, bias, bits):
    """Likewise, rounded to bfloat16's bits, uint16."""
    count, width = products.shape
    for i in range(count):
        row, scale, into = products[i], scales[i], bits[i]
        for j in range(width):
            value = FLOAT(row[j] * scale + bias[j])
            seen = value.view(np.uint32)
            rounded = np.uint32(np.uint32(seen + _HALF + np.uint32(np.uint32(seen >> _LOW) & _ODD)) >> _LOW)
            into[j] = np.uint16(rounded) if value == value else np.uint16(np.uint32(seen >> _LOW) | _QUIET)


def warm():
    """Compiles all of them, or loads them."""
    rows, products, one = np.ones((1, 2), FLOAT), np.ones((1, 2), FLOAT), np.ones(1, FLOAT)
    integers, bits = np.zeros((1, 2), np.int8), np.zeros((1, 2), np.int16)
    to_integers(rows, rows.view(np.int32), integers, one)
    half_to_integers(bits, integers, one)
    from_integers(products, one, rows[0])
    half_from_integers(products, one, rows[0], bits.view(np.uint16))
