"""Weights where a tensor is expected: what needs no numbers is answered without, what needs all of them makes them.

Lazy weights have the names that a tensor of their framework has. `.to`, `.detach`, `.size`, `.squeeze` and the like
leave PyTorch's lazy; every other name, the operators and the functions of NumPy, PyTorch, JAX and TensorFlow work on
`dense()`, within its limit.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
from typing import Any

import numpy as np

from regard import _check
from regard._backends import backend_named, backend_of
from regard._layout import itemsize

# What a tensor of PyTorch says of itself without its numbers.
_OF_SHAPE = {
    "device", "dim", "element_size", "get_device", "is_complex", "is_cpu", "is_cuda", "is_floating_point", "is_meta",
    "is_mps", "is_quantized", "is_sparse", "itemsize", "layout", "ndimension", "nelement", "numel", "size",
}  # fmt: skip
_PRECISIONS = {"float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16"}
_ELSEWHERE = {"cpu", "cuda", "xpu", "mps"}


class Tensorlike:
    """What weights and their transposes have in common with a tensor: they have `shape`, `dense()` and `_like`."""

    __slots__ = ()
    __array_priority__ = 1000  # so that ndarray @ weights is not computed element by element
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        """A name that only a tensor of the framework has."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        like = self._like
        lazily = self._without_numbers(name)
        if lazily is not None:
            return lazily
        own = getattr(type(like), name, None)
        if own is None and not hasattr(like, name):
            raise AttributeError(_check.no_name(type(self).__name__, name, type(like).__name__))
        if callable(own) or (own is None and callable(getattr(like, name))):
            return functools.partial(self._of_dense, name)
        return getattr(self.dense(), name)

    def _of_dense(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """A method of the dense tensor."""
        method = getattr(self.dense(), name, None)
        if method is None:
            raise AttributeError(_check.no_name(type(self).__name__, name, type(self._like).__name__))
        return method(*_densely(args), **_densely(kwargs))

    def _without_numbers(self, name: str) -> Any:
        """What a tensor has by this name and knows by its shape and type alone, or None."""
        kind = self._xp.name
        if kind == "torch" and name in _OF_SHAPE:
            return getattr(self._xp.broadcast_to(self._xp.zeros((), self._given, self._like), self.shape), name)
        if kind in ("numpy", "jax") and name in ("size", "itemsize"):
            return math.prod(self.shape) if name == "size" else itemsize(self._given)
        if kind != "numpy" and name in ("device", "devices"):
            return getattr(self._like, name)
        return None

    # Other libraries' doors.

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        dense = self._xp.fetched(self._xp.stop_gradient(self.dense()))
        if dense is None:
            raise _check.no_values(type(self).__name__)
        return np.asarray(dense, dtype=dtype)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        return function(*_in_numpy(args), **_in_numpy(kwargs))

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if function is np.matmul and method == "__call__" and not kwargs:
            return _product(function, *inputs)
        return getattr(function, method)(*_in_numpy(inputs), **_in_numpy(kwargs))

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if getattr(function, "__name__", "") in ("matmul", "__matmul__") and not kwargs and len(args) == 2:
            return _product(function, *args)
        return function(*_densely(args), **_densely(kwargs or {}))

    def __jax_array__(self) -> Any:
        return self._for("jax")

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        found = self._for("tensorflow")
        return found if dtype is None else backend_named("tensorflow").cast(found, dtype)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._xp.stop_gradient(self.dense()).__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._xp.stop_gradient(self._like).__dlpack_device__()

    def _for(self, framework: str) -> Any:
        """The dense array of a framework."""
        dense = self.dense()
        return dense if self._xp.name == framework else backend_named(framework).asarray(np.asarray(self), None)

    # Operators.

    def __bool__(self) -> bool:
        if not all(isinstance(size, int) for size in self.shape) or math.prod(self.shape) != 1:
            raise _check.no_truth_of_several(type(self).__name__, self.shape)
        return bool(self.dense())

    def __setitem__(self, index: Any, value: Any) -> None:
        raise _check.not_written(type(self).__name__)

    def __rmatmul__(self, values: Any) -> Any:
        """`x @ weights`, x `(..., X, T)`: lazy, as the transpose of `weights.T @ x.T`."""
        values = _check.before(type(self).__name__, self._xp, values, self._like)
        swap = self._xp.swapaxes
        return swap(self.T @ swap(values, -1, -2), -1, -2)


def _product(function: Any, one: Any, other: Any) -> Any:
    """A matrix product of weights without making them; that of a vector with them."""
    if min(getattr(array, "ndim", 0) for array in (one, other)) < 2:
        return function(_densely(one), _densely(other))
    return one @ other if isinstance(one, Tensorlike) else other.__rmatmul__(one)


def _two_sided(name: str, reflected: bool = False) -> Any:
    apply = getattr(operator, name)

    def method(self: Tensorlike, other: Any) -> Any:
        if not _has_numbers(other):
            return NotImplemented
        one, two = self.dense(), _densely(other)
        found = None if isinstance(two, numbers.Number) else backend_of(two)
        if found is not None and found.name == "numpy" != self._xp.name:
            two = self._xp.asarray(two, one)
        return apply(two, one) if reflected else apply(one, two)

    return method


def _one_sided(name: str) -> Any:
    apply = getattr(operator, name)
    return lambda self: apply(self.dense())


def _has_numbers(value: Any) -> bool:
    return isinstance(value, (numbers.Number, Tensorlike)) or backend_of(value) is not None


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Tensorlike, f"__{_name}__", _two_sided(_name))
    setattr(Tensorlike, f"__r{_name}__", _two_sided(_name, reflected=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensorlike, f"__{_name}__", _two_sided(_name))
for _name in ("neg", "pos", "abs"):
    setattr(Tensorlike, f"__{_name}__", _one_sided(_name))


def _densely(value: Any) -> Any:
    """What holds weights, with dense tensors in their place."""
    return _replaced(value, lambda weights: weights.dense())


def _in_numpy(value: Any) -> Any:
    return _replaced(value, np.asarray)


def _replaced(value: Any, by: Any) -> Any:
    if isinstance(value, Tensorlike):
        return by(value)
    if isinstance(value, dict):
        return {name: _replaced(each, by) for name, each in value.items()}
    return type(value)(_replaced(each, by) for each in value) if type(value) in (list, tuple) else value


# What leaves the weights of PyTorch lazy.


def lazily(weights: Any, name: str) -> Any:
    """What weights of PyTorch have by this name and stay lazy with, or None."""
    if name == "requires_grad":
        return any(array.requires_grad for array in weights._arrays)
    if name in _PRECISIONS:
        return functools.partial(_to, weights, getattr(weights._like.new_zeros(()), name)().dtype)
    if name in _ELSEWHERE:
        return functools.partial(weights._mapped, operator.methodcaller(name))
    found: Any = {
        "to": _to,
        "detach": _detach,
        "contiguous": _itself,
        "squeeze": _squeeze,
        "unsqueeze": _unsqueeze,
    }.get(name)
    return None if found is None else functools.partial(found, weights)


def _to(weights: Any, *args: Any, **kwargs: Any) -> Any:
    """Elsewhere, or in another type: what a tensor without numbers becomes says which."""
    probe = weights._xp.zeros((0,), weights._given, weights._like).to(*_densely(args), **_densely(kwargs))
    if not probe.is_floating_point():
        return weights.dense().to(*args, **kwargs)
    return weights._mapped(lambda array: array.to(probe.device), weights._xp.dtype_name(probe))


def _detach(weights: Any) -> Any:
    return weights._mapped(weights._xp.stop_gradient)


def _itself(weights: Any, **_: Any) -> Any:
    return weights


def _squeeze(weights: Any, *dim: Any, **kwargs: Any) -> Any:
    given = kwargs.get("dim", dim[0] if len(dim) == 1 else dim or None)
    count = weights.ndim
    axes = range(count) if given is None else given if isinstance(given, (tuple, list)) else (given,)
    ones = {axis % count for axis in axes if weights.shape[axis] == 1}
    if any(axis >= count - 2 for axis in ones):
        return weights.dense().squeeze(*dim, **kwargs)
    return weights[tuple(0 if axis in ones else slice(None) for axis in range(count - 2))]


def _unsqueeze(weights: Any, dim: int) -> Any:
    place = dim + weights.ndim + 1 if dim < 0 else dim
    if not 0 <= place <= weights.ndim - 2:
        return weights.dense().unsqueeze(dim)
    return weights[(*(slice(None),) * place, None)]
