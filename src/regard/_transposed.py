"""The transpose of lazy weights, as lazy as they are."""

from __future__ import annotations

from typing import Any

from regard import _check
from regard._asking import Asked
from regard._backends.protocol import Array
from regard._indexing import for_heads
from regard._questions import TransposedProduct
from regard._tensors import Tensorlike, _densely


class TransposedWeights(Tensorlike):
    """`weights.T`, lazy: multiply it, or index the weights themselves; else it is as a tensor."""

    def __init__(self, weights: Any) -> None:
        self._weights = weights

    @property
    def shape(self) -> tuple:
        """`(..., H, S, T)`."""
        *outer, queries, keys = self._weights.shape
        return (*outer, keys, queries)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self._weights.dtype

    @property
    def T(self) -> Any:  # noqa: N802 (NumPy's name)
        return self._weights

    @property
    def _xp(self) -> Any:
        return self._weights._xp

    @property
    def _like(self) -> Array:
        return self._weights._like

    @property
    def _given(self) -> str:
        return self._weights._given

    def dense(self, max_bytes: int = 2**30) -> Array:
        """All of it, `(..., H, S, T)`, as of the weights."""
        return self._xp.swapaxes(self._weights.dense(max_bytes), -1, -2)

    def __getitem__(self, index: Any) -> Array:
        return self.dense()[index]

    def __matmul__(self, values: Array) -> Array:
        """`weights.T @ y`: what each key gets of y `(..., T, Y)`, `(..., H, S, Y)`."""
        weights, values = self._weights, _densely(values)
        xp, place = weights._xp, weights._layout
        values = _check.multiplied("AttentionWeights.T", xp, values, weights._problem.query.array, place.queries, "T")
        operand = for_heads(xp, place, values, keys=False)
        answer = weights._answer(Asked(TransposedProduct(xp.shape(values)[-1]), (operand,)))
        return xp.cast(answer, xp.dtype_name(values))

    def __repr__(self) -> str:
        return f"TransposedWeights(shape={_check.spelled(self.shape)})"
