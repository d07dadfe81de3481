"""What was seen, in a file: query, key, rules and log-sum-exp of each attention, read by any framework.

The file is of the format safetensors: arrays, and a description of them in its header, with a version and a digest of
both. Nothing in it is run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from regard import biases, errors
from regard._backends import to_numpy
from regard._backends.protocol import Array, Backend
from regard._blockwise import Scores
from regard._files import whole
from regard._layout import Layout
from regard.masks import forms
from regard.models.editing import Levelled
from regard.weights import AttentionWeights

VERSION = 1
HEADER = "regard"
RULES = {
    kind.__name__: kind
    for module in (forms, biases)
    for kind in vars(module).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and hasattr(kind, "place")
} | {"Levelled": Levelled}


def write(path: str | os.PathLike[str], described: dict[str, Any], arrays: Arrays, framework: str) -> None:
    """A file with a description of arrays and these."""
    safetensors = _safetensors("save")
    described |= {"version": VERSION, "framework": framework, "types": arrays.types}
    header = json.dumps(described, sort_keys=True)
    metadata = {HEADER: header, "digest": _digest(header, arrays.kept)}
    with whole(path) as aside:
        safetensors.save_file(arrays.kept, aside, metadata=metadata)


def maker(
    xp: Backend, described: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Callable[[str | None], Array | None]:
    """What makes an array of a framework by its name in a file, None for None."""
    return partial(_array, xp, arrays, described["types"])


def _safetensors(who: str) -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise errors.UnsupportedError(
            f"{who}: need safetensors, which the file is written by; got none; pip install safetensors."
        ) from error
    return safetensors.numpy


class Arrays:
    """Arrays by the names that they have in the file; what several attentions share is there once."""

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}
        self.types: dict[str, str] = {}
        self._names: dict[tuple, str] = {}
        self._alive: list[Array] = []  # so that no two have the same identity

    def name(self, xp: Backend, array: Array | None) -> str | None:
        if array is None:
            return None
        place = getattr(array, "data_ptr", None)
        key: tuple = (id(array) if place is None else place(), xp.shape(array), getattr(array, "stride", tuple)())
        if key not in self._names:
            name = self._names[key] = str(len(self._names))
            self._alive.append(array)
            self.types[name] = xp.dtype_name(array)
            self.kept[name] = np.ascontiguousarray(_numbers(xp, array))
        return self._names[key]


def _numbers(xp: Backend, array: Array) -> np.ndarray:
    """In NumPy, bfloat16 as the bits of each number: the first half of those of float32."""
    numbers: np.ndarray = to_numpy(xp.stop_gradient(array))
    if xp.dtype_name(array) != "bfloat16":
        return numbers
    return (np.ascontiguousarray(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def _array(xp: Backend, arrays: dict[str, np.ndarray], types: dict[str, str], name: str | None) -> Array | None:
    """The array of that name, as one of a framework."""
    if name is None:
        return None
    numbers = arrays[name]
    if types[name] != "bfloat16":
        return xp.from_memory(numbers)
    single = xp.from_memory((numbers.astype(np.uint32) << 16).view(np.float32))
    try:
        return xp.cast(single, "bfloat16")
    except ModuleNotFoundError:  # NumPy knows it by another package
        return single


def told(weights: AttentionWeights, arrays: Arrays) -> dict[str, Any]:
    """Weights as what JSON can say, with arrays by name."""
    weights._parts()
    several, (xp, layout, scores, axes, shared, given, asked, kernel, reason) = weights._flatten()
    return {
        "arrays": [arrays.name(xp, array) for array in several],
        "layout": dataclasses.astuple(layout),
        "scale": scores.scale,
        "softcap": scores.softcap,
        "bias": _rule(scores.bias),
        "mask": _rule(scores.mask),
        "axes": axes,
        "shared": shared,
        "given": given,
        "asked": asked,
        "kernel": kernel,
        "reason": reason,
    }


def weights_of(told: dict[str, Any], make: Callable[[str | None], Array | None], xp: Backend) -> AttentionWeights:
    lead, repeats, queries, keys, outer = told["layout"]
    layout = Layout(tuple(lead), repeats, queries, keys, tuple(outer))
    scores = Scores(told["scale"], told["softcap"], _form(told["bias"]), _form(told["mask"]))
    axes = tuple(map(tuple, told["axes"]))
    arrays = tuple(map(make, told["arrays"]))
    given = told["given"]
    if given == "bfloat16" and arrays[0] is not None and xp.dtype_name(arrays[0]) == "float32":
        given = "float32"
    rest = (xp, layout, scores, axes, told["shared"], given, told["asked"], told["kernel"], told["reason"])
    return AttentionWeights._unflatten(rest, arrays)


def _rule(form: Any) -> Any:
    """A rule without its arrays as what JSON can say."""
    if form is None:
        return None
    name = type(form).__name__
    if RULES.get(name) is not type(form):
        raise errors.UnsupportedError(
            f"save: need masks and biases of Regard's own; got {form}, which is a function; watch the model with "
            "a mask that is an array."
        )
    fields = {field.name: getattr(form, field.name) for field in dataclasses.fields(form)}
    return {"rule": name} | {
        name: _rule(value) if dataclasses.is_dataclass(value) else value for name, value in fields.items()
    }


def _form(told: Any) -> Any:
    if told is None:
        return None
    fields = {
        name: _form(value) if isinstance(value, dict) else _tuples(value)
        for name, value in told.items()
        if name != "rule"
    }
    return RULES[told["rule"]](**fields)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a file, whose digest is right."""
    _safetensors("load")
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):
        raise errors.DataError(f"load: need a file that save wrote; there is none at {os.fspath(path)}.")
    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise foreign(path, "one that is no safetensors, or was cut") from error
    if HEADER not in header:
        raise foreign(path, "one of another program")
    if header.get("digest") != _digest(header[HEADER], arrays):
        raise foreign(path, "one that was changed")
    described = json.loads(header[HEADER])
    if described.get("version") != VERSION:
        raise foreign(path, f"version {described.get('version')}, where this Regard reads {VERSION}")
    return described, arrays


def _digest(header: str, arrays: dict[str, np.ndarray]) -> str:
    """Of all that a file says."""
    found = hashlib.blake2b(header.encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def foreign(path: str | os.PathLike[str], what: str) -> errors.DataError:
    return errors.DataError(f"load: need a file that save wrote; got {what}: {os.fspath(path)}; save it again.")
