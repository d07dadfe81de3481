"""What attention takes: query, key and value, and the arrays and numbers beside them."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from regard._backends import backend_of, not_its_values
from regard._backends.protocol import Array, Backend
from regard._check.words import FLOATS, INTEGERS, WHO, and_, differ, nearest, ours, shown, spelled
from regard._layout import Layout
from regard.errors import DtypeError, ShapeError, UnsupportedError


def types(xp: Backend, **arrays: Array) -> None:
    """All floating point, of one type, on one device."""
    dtypes = {name: xp.dtype_name(array) for name, array in arrays.items()}
    listed = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
    if any(dtype not in FLOATS for dtype in dtypes.values()):
        raise DtypeError(
            f"{WHO}: need {and_(dtypes)} of one of the types {', '.join(FLOATS)}; got {listed}; cast them."
        )
    if len(set(dtypes.values())) > 1:
        raise DtypeError(f"{WHO}: need {and_(dtypes)} of one type; got {listed}; cast them to one of these.")
    devices = {name: xp.device_name(array) for name, array in arrays.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise DtypeError(f"{WHO}: need {and_(devices)} on one device; got {listed}; move them to one of these.")


def layout(query: tuple, key: tuple, value: tuple) -> Layout:
    """The layout of these three shapes, if they fit together."""
    got = shown(("query", query), ("key", key), ("value", value))
    if min(len(query), len(key), len(value)) < 2:
        raise ShapeError(f"{WHO}: need query (..., T, D), key (..., S, D) and value (..., S, E); got {got}; add axes.")
    if differ(query[-1], key[-1]):
        raise ShapeError(f"{WHO}: need query and key of one width D; got {got}; project them to the same width.")
    if differ(key[-2], value[-2]):
        raise ShapeError(f"{WHO}: need one value for each key; got {got}; give key and value the same length S.")
    rank = max(len(query), len(key), len(value), 3)
    full = [(1,) * (rank - len(shape)) + tuple(shape) for shape in (query, key, value)]
    heads, groups = full[0][-3], full[1][-3]
    if differ(groups, full[2][-3]):
        raise ShapeError(f"{WHO}: need as many heads in key as in value; got {got}; repeat the heads of one of them.")
    if isinstance(heads, int) and isinstance(groups, int) and (groups == 0 or heads % groups):
        raise ShapeError(
            f"{WHO}: need H, the heads of query, to be a multiple of G, those of key and value; "
            f"got {got}; repeat or drop heads."
        )
    batch = _broadcast([shape[:-3] for shape in full], got)
    outer = (*batch, heads) if max(len(query), len(key), len(value)) > 2 else ()
    repeats = heads // groups if isinstance(heads, int) and isinstance(groups, int) else 1
    return Layout((*batch, groups), repeats, query[-2], key[-2], outer)


def _broadcast(batches: list[tuple], got: str) -> tuple:
    result = []
    for sizes in zip(*batches, strict=True):
        known = {size for size in sizes if isinstance(size, int) and size != 1}
        unknown = [size for size in sizes if not isinstance(size, int)]
        if len(known) > 1:
            raise ShapeError(f"{WHO}: need leading axes that broadcast; got {got}; make them equal or of size 1.")
        result.append(known.pop() if known else unknown[0] if unknown else 1)
    return tuple(result)


def broadcasts(name: str, xp: Backend, place: Layout, array: Array) -> None:
    """An array that broadcasts to the attention's `(..., H, T, S)`."""
    got, full = xp.shape(array), place.shape
    fits = len(got) <= len(full) and not any(
        differ(a, b) and a != 1 for a, b in zip(got[::-1], full[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{WHO}: need {name} to broadcast to (..., H, T, S) = {spelled(full)}; got {name} {spelled(got)}; "
            "reshape it, with 1 for axes that it is the same along."
        )


def boolean_mask(xp: Backend, place: Layout, array: Array) -> None:
    dtype = xp.dtype_name(array)
    if dtype != "bool":
        raise DtypeError(
            f"{WHO}: need a boolean mask, True = may see; got {dtype}; compare it first (mask == 0 for an additive "
            "mask, mask != 0 for one of zeros and ones), or pass numbers to add as bias."
        )
    broadcasts("mask", xp, place, array)


def corner(place: Layout, sizes: tuple) -> None:
    """A causal mask that was made for so many queries and keys."""
    if differ(place.queries, sizes[0]) or differ(place.keys, sizes[1]):
        raise ShapeError(
            f"{WHO}: need a causal mask for T = {place.queries} queries and S = {place.keys} keys; got one of "
            f"torch.nn.attention.bias for {sizes[0]} and {sizes[1]}; make it for these, or use masks.causal()."
        )


def bias(xp: Backend, place: Layout, array: Array) -> None:
    dtype = xp.dtype_name(array)
    if dtype not in FLOATS:
        raise DtypeError(
            f"{WHO}: need bias in floating point; got {dtype}; pass a boolean mask as mask, or cast numbers to add."
        )
    broadcasts("bias", xp, place, array)


def per_head(name: str, xp: Backend, place: Layout, array: Array, axis: int) -> None:
    got = xp.shape(array)
    heads = place.outer[-1] if place.outer else 1
    need = "(H,)" if axis == 0 else "(buckets, H)"
    if len(got) != axis + 1 or differ(got[axis], heads):
        raise ShapeError(
            f"{WHO}: need {name} {need} with H = {heads if isinstance(heads, int) else '?'}, the heads of query; "
            f"got {name} {spelled(got)}; give one a head."
        )
    if xp.dtype_name(array) not in FLOATS:
        raise DtypeError(f"{WHO}: need {name} in floating point; got {xp.dtype_name(array)}; cast it.")


def _per_example(name: str, xp: Backend, place: Layout, array: Array, own: tuple) -> None:
    got, full = xp.shape(array), of_examples(place, own)
    if xp.dtype_name(array) not in INTEGERS:
        raise DtypeError(f"{WHO}: need {name} as integers; got {xp.dtype_name(array)}; cast them.")
    if not fits_examples(got, full, len(own)):
        raise ShapeError(
            f"{WHO}: need {name} of shape {spelled(full)}, leading axes before the heads; got {spelled(got)}; "
            "reshape it, or leave leading axes out."
        )


def of_examples(place: Layout, own: tuple) -> tuple:
    """The shape of what all the heads of an example share."""
    return (*(place.outer[:-1] if len(place.outer) > 1 else place.outer), *own)


def fits_examples(got: Sequence, full: Sequence, own: int) -> bool:
    """Leading axes broadcast or are left out; the last `own` are as they are."""
    return own <= len(got) <= len(full) and not any(
        differ(a, b) and (a != 1 or place_from_end < own)
        for place_from_end, (a, b) in enumerate(zip(got[::-1], full[::-1], strict=False))
    )


def lengths(xp: Backend, place: Layout, sides: Sequence[tuple[str, Any]], leaves: Sequence[Array]) -> None:
    """Numbers of keys or of queries, `sides` being their name and how many there are."""
    for (name, limit), leaf in zip(sides, leaves, strict=True):
        _per_example(name, xp, place, leaf, ())
        known = xp.concrete(leaf)
        if known is not None and isinstance(limit, int) and known.size and (known.max() > limit or known.min() < 0):
            raise ShapeError(
                f"{WHO}: need {name} between 0 and {limit}; got values from {known.min()} to {known.max()}; "
                "count the elements of each example that are no padding."
            )


def segments(xp: Backend, place: Layout, leaves: Sequence[Array]) -> str:
    """The type in which ids can be compared: of 32 bits, where they fit, else of 64."""
    _per_example("query_ids", xp, place, leaves[0], (place.queries,))
    _per_example("key_ids", xp, place, leaves[1], (place.keys,))
    dtypes = [xp.dtype_name(leaf) for leaf in leaves]
    wide = {"int64", "uint32", "uint64"} & set(dtypes)
    if not wide or all(_fits_32_bits(xp.concrete(leaf)) for leaf in leaves):
        return "int32"
    if wide & {"uint32", "uint64"} and len(set(dtypes)) > 1:  # which wrap differently
        raise DtypeError(
            f"{WHO}: need query_ids and key_ids of one type; got {dtypes[0]} and {dtypes[1]}; cast one of them."
        )
    return "int32" if wide == {"uint32"} else "int64"  # unsigned ones wrap, one by one


def _fits_32_bits(known: np.ndarray | None) -> bool:
    if known is None:
        return False
    limits = np.iinfo(np.int32)
    return not known.size or bool(known.min() >= limits.min and known.max() <= limits.max)


def leaf(name: str, xp: Backend, found: Backend | None, array: Array, like: Array) -> None:
    """An array inside a mask or bias: of the framework of query, or of NumPy; or lists of numbers."""
    if found is not None:
        plain(WHO, name, found, array)
    if (found is None or found.name == "numpy") and not _numeric(array):
        raise DtypeError(
            f"{WHO}: need {name} as an array or numbers; got {type(array).__name__}; "
            "regard.masks and regard.biases have rules by name."
        )
    if found is not None and found.name not in (xp.name, "numpy"):
        raise DtypeError(f"{WHO}: need {name} as an array of {ours(xp)}, like query; got {found.name}; convert it.")
    if found is not None:
        _has_numbers(name, xp, found, array, like)


def _has_numbers(name: str, xp: Backend, found: Backend, array: Array, like: Array) -> None:
    """PyTorch has a device without numbers, of which nothing can be moved."""
    if "meta" == found.device_name(array) != xp.device_name(like):
        raise DtypeError(f"{WHO}: need {name} with numbers, like query; got one on the device meta; make it anew.")


def plain(who: str, name: str, found: Backend, array: Array) -> None:
    """An array whose values are those in its memory."""
    obstacle = found.obstacle(array)
    if obstacle is not None:
        raise not_its_values(who, name, obstacle)


def _numeric(array: Any) -> bool:
    """Whether NumPy makes numbers of it that every framework has."""
    try:
        dtype = np.asarray(array).dtype
    except Exception:  # whatever a stranger's own conversion raises
        return False
    return dtype.kind in "biu" or dtype.name in FLOATS


def flag(who: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise DtypeError(f"{who}: need {name} as True or False; got {type(value).__name__}.")
    return bool(value)


def similarity(name: Any) -> None:
    if not isinstance(name, str) or name not in ("dot", "cosine"):
        raise UnsupportedError(f"{WHO}: need similarity 'dot' or 'cosine'; got {name!r}.")


def number(name: str, value: Any, positive: bool = False) -> float | None:
    if value is None:
        return None
    found = _real(name, value)
    if not abs(found) <= _LARGEST:
        raise ShapeError(f"{WHO}: need {name} as a finite number of float32; got {found}; leave it out for none.")
    if positive and found < _SMALLEST:
        raise ShapeError(f"{WHO}: need {name} > 0; got {found}; leave it out for none.")
    return found


_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_subnormal)


def _real(name: str, value: Any) -> float:
    """One real number, whatever it is kept in; a gradient would be lost without a word."""
    if type(value) in (int, float):
        return float(value)
    if getattr(value, "requires_grad", False) or getattr(value, "trainable", False):
        raise DtypeError(
            f"{WHO}: need {name} as a number, which has no gradient; got {type(value).__name__}; multiply query by "
            "what is learned."
        )
    plain_number = hasattr(value, "__float__") and not isinstance(value, (bool, np.bool_)) and np.ndim(value) == 0
    try:
        if not plain_number or str(getattr(value, "dtype", "")).endswith("bool"):
            raise TypeError
        return float(value)
    except Exception:  # a traced number has its own
        raise DtypeError(f"{WHO}: need {name} as a number; got {type(value).__name__}.") from None


def dropout(xp: Backend, probability: float, seed: Any, like: Array) -> None:
    if not 0 <= _real("dropout", probability) < 1:
        raise ShapeError(f"{WHO}: need dropout in [0, 1), the probability of dropping a weight; got {probability}.")
    if probability and seed is None:
        raise DtypeError(f"{WHO}: need a seed with dropout={probability}, so that a run can be repeated; got None.")
    if seed is not None and (not isinstance(seed, numbers.Integral) or isinstance(seed, bool)):
        _seed(xp, backend_of(seed), seed, like)


def _seed(xp: Backend, found: Backend | None, seed: Any, like: Array) -> None:
    if found is None or found.name not in (xp.name, "numpy"):
        raise DtypeError(
            f"{WHO}: need seed as a whole number, or an array of some of {ours(xp)}; got {type(seed).__name__}."
        )
    plain(WHO, "seed", found, seed)
    _has_numbers("seed", xp, found, seed, like)
    dtype, got = found.dtype_name(seed), found.shape(seed)
    if dtype not in INTEGERS or len(got) > 1 or not all(isinstance(size, int) and size for size in got):
        raise DtypeError(f"{WHO}: need seed as a whole number, or an array (n,) of some; got {dtype} {spelled(got)}.")


def kernel(name: Any, known: Sequence[str]) -> None:
    if not isinstance(name, str) or name not in known:
        raise UnsupportedError(
            f"{WHO}: need kernel to be one of {', '.join(map(repr, known))}; got {name!r}"
            f"{nearest(str(name), known) or '.'}"
        )
