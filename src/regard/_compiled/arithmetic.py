"""Exponentials and comparisons that compilers vectorise, for float32 and float64: no library of theirs is needed.

2^n is written into the exponent's bits, and exp(r) of what remains, |r| < 0.35, is a polynomial. Whole numbers are cast
after each operation, since Numba would widen them to 64 bits, and vectors would be half as long.

Source: the reduction by ln 2 in two parts, and the polynomial of float32, are those of Cephes (Moshier), `expf.c`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

INT, FLOAT, LONG, DOUBLE = np.int32, np.float32, np.int64, np.float64

_LOG2_E, _ROUND = FLOAT(1 / math.log(2)), FLOAT(1.5 * 2**23)  # adding 1.5 * 2^23 rounds to a whole number
_HIGH, _LOW = FLOAT(0.693359375), FLOAT(-2.12194440e-4)
_P0, _P1, _P2 = FLOAT(1.9875691500e-4), FLOAT(1.3981999507e-3), FLOAT(8.3334519073e-3)
_P3, _P4, _P5, _ONE = FLOAT(4.1665795894e-2), FLOAT(1.6666665459e-1), FLOAT(5.0000001201e-1), FLOAT(1)

_LOG2_E_64, _ROUND_64 = 1 / math.log(2), 1.5 * 2.0**52
_HIGH_64, _LOW_64 = 6.93145751953125e-1, 1.42860682030941723212e-6
_SIGNLESS, _SIGNLESS_64 = INT(0x7FFFFFFF), LONG(0x7FFFFFFFFFFFFFFF)

SMALLEST, SMALLEST_64 = FLOAT(-87.0), -708.0  # below it exp is taken for 0


def smallest(dtype):
    """The logarithm of the smallest number that `exponential` gives."""
    return SMALLEST if dtype == np.float32 else SMALLEST_64


@njit(fastmath={"contract"})
def _exp_32(x):
    """exp(x) for x from SMALLEST to 0; NaN of NaN."""
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = x - n * _HIGH
    r = r - n * _LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    p = p * (r * r) + r + _ONE
    exponent = INT(FLOAT(shifted).view(INT) << INT(23))
    return INT(FLOAT(p).view(INT) + exponent).view(FLOAT)


@njit(fastmath={"contract"})
def _exp_64(x):
    """exp(x) for x from SMALLEST_64 to 0: Taylor's polynomial, whose 14th term is below 2e-17 of the first."""
    shifted = x * _LOG2_E_64 + _ROUND_64
    n = shifted - _ROUND_64
    r = x - n * _HIGH_64
    r = r - n * _LOW_64
    p = 1 / 6227020800.0
    p = p * r + 1 / 479001600.0
    p = p * r + 1 / 39916800.0
    p = p * r + 1 / 3628800.0
    p = p * r + 1 / 362880.0
    p = p * r + 1 / 40320.0
    p = p * r + 1 / 5040.0
    p = p * r + 1 / 720.0
    p = p * r + 1 / 120.0
    p = p * r + 1 / 24.0
    p = p * r + 1 / 6.0
    p = p * r + 0.5
    p = p * (r * r) + r + 1.0
    exponent = LONG(DOUBLE(shifted).view(LONG) << LONG(52))
    return LONG(DOUBLE(p).view(LONG) + exponent).view(DOUBLE)


@njit
def _order_32(x):
    i = FLOAT(x).view(INT)
    return INT(i ^ INT(INT(i >> INT(31)) & _SIGNLESS))


@njit
def _order_64(x):
    i = DOUBLE(x).view(LONG)
    return LONG(i ^ LONG(LONG(i >> LONG(63)) & _SIGNLESS_64))


@njit
def _number_32(i):
    i = INT(i)
    return INT(i ^ INT(INT(i >> INT(31)) & _SIGNLESS)).view(FLOAT)


@njit
def _number_64(i):
    i = LONG(i)
    return LONG(i ^ LONG(LONG(i >> LONG(63)) & _SIGNLESS_64)).view(DOUBLE)


def _by_type(narrow, wide):
    """A function that is `narrow` on float32 and what has 32 bits, and `wide` on 64; compiled and not."""

    def choose(x):
        return narrow(x) if isinstance(x, (FLOAT, INT)) else wide(x)

    def chosen(x):
        return (lambda x: narrow(x)) if x in (types.float32, types.int32) else (lambda x: wide(x))

    overload(choose, inline="never")(chosen)
    return choose


exponential = _by_type(_exp_32, _exp_64)
order = _by_type(_order_32, _order_64)  # a whole number for each float, in the same order
number = _by_type(_number_32, _number_64)  # the reverse of `order`
