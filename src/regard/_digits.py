"""Numbers for people to read: with so many digits that none reads as 0 which is not."""

from __future__ import annotations


def digits(value: float, decimals: int = 3) -> str:
    """Return a number with some decimals, and one that these would leave less than two digits with its first two."""
    return f"{value:.{decimals}f}" if value == 0 or abs(value) >= 10 ** (1 - decimals) else f"{value:.2g}"


def per_cent(value: float) -> str:
    """Return a share in per cent."""
    return f"{digits(100 * value, 1)}%"
