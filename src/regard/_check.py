"""The only place that looks at arguments and words messages: `who: need X; got Y; do Z.`

Shapes and types are shown, data never.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from regard._backends import backend_of, not_its_values
from regard._backends.protocol import Array, Backend
from regard._layout import Layout
from regard.errors import DtypeError, OutOfRangeError, ShapeError, UnsupportedError

WHO = "attention"
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float64", "float32", "float16", "bfloat16")


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of words, or nothing."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(*named: tuple[str, Sequence]) -> str:
    return ", ".join(f"{name} {_sizes(shape)}" for name, shape in named)


def _sizes(shape: Sequence) -> str:
    shown_sizes = ", ".join(str(size) if isinstance(size, int) else "?" for size in shape)
    return f"({shown_sizes},)" if len(shape) == 1 else f"({shown_sizes})"


def _differ(one: Any, two: Any) -> bool:
    """Whether two sizes are known, and not equal."""
    return isinstance(one, int) and isinstance(two, int) and one != two


def types(xp: Backend, **arrays: Array) -> None:
    """All floating point, of one type, on one device."""
    dtypes = {name: xp.dtype_name(array) for name, array in arrays.items()}
    listed = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
    if any(dtype not in FLOATS for dtype in dtypes.values()):
        raise DtypeError(
            f"{WHO}: need {_and(dtypes)} of one of the types {', '.join(FLOATS)}; got {listed}; cast them."
        )
    if len(set(dtypes.values())) > 1:
        raise DtypeError(f"{WHO}: need {_and(dtypes)} of one type; got {listed}; cast them to one of these.")
    devices = {name: xp.device_name(array) for name, array in arrays.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise DtypeError(f"{WHO}: need {_and(devices)} on one device; got {listed}; move them to one of these.")


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def layout(query: tuple, key: tuple, value: tuple) -> Layout:
    """The layout of these three shapes, if they fit together."""
    got = shown(("query", query), ("key", key), ("value", value))
    if min(len(query), len(key), len(value)) < 2:
        raise ShapeError(f"{WHO}: need query (..., T, D), key (..., S, D) and value (..., S, E); got {got}; add axes.")
    if _differ(query[-1], key[-1]):
        raise ShapeError(f"{WHO}: need query and key of one width D; got {got}; project them to the same width.")
    if _differ(key[-2], value[-2]):
        raise ShapeError(f"{WHO}: need one value for each key; got {got}; give key and value the same length S.")
    rank = max(len(query), len(key), len(value), 3)
    full = [(1,) * (rank - len(shape)) + tuple(shape) for shape in (query, key, value)]
    heads, groups = full[0][-3], full[1][-3]
    if _differ(groups, full[2][-3]):
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
        _differ(a, b) and a != 1 for a, b in zip(got[::-1], full[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{WHO}: need {name} to broadcast to (..., H, T, S) = {_sizes(full)}; got {name} {_sizes(got)}; "
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
    if _differ(place.queries, sizes[0]) or _differ(place.keys, sizes[1]):
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
    if len(got) != axis + 1 or _differ(got[axis], heads):
        raise ShapeError(
            f"{WHO}: need {name} {need} with H = {heads if isinstance(heads, int) else '?'}, the heads of query; "
            f"got {name} {_sizes(got)}; give one a head."
        )
    if xp.dtype_name(array) not in FLOATS:
        raise DtypeError(f"{WHO}: need {name} in floating point; got {xp.dtype_name(array)}; cast it.")


def _per_example(name: str, xp: Backend, place: Layout, array: Array, own: tuple) -> None:
    got, full = xp.shape(array), _of_examples(place, own)
    if xp.dtype_name(array) not in INTEGERS:
        raise DtypeError(f"{WHO}: need {name} as integers; got {xp.dtype_name(array)}; cast them.")
    if not _fits_examples(got, full, len(own)):
        raise ShapeError(
            f"{WHO}: need {name} of shape {_sizes(full)}, leading axes before the heads; got {_sizes(got)}; "
            "reshape it, or leave leading axes out."
        )


def _of_examples(place: Layout, own: tuple) -> tuple:
    """The shape of what all the heads of an example share."""
    return (*(place.outer[:-1] if len(place.outer) > 1 else place.outer), *own)


def _fits_examples(got: Sequence, full: Sequence, own: int) -> bool:
    """Leading axes broadcast or are left out; the last `own` are as they are."""
    return own <= len(got) <= len(full) and not any(
        _differ(a, b) and (a != 1 or place_from_end < own)
        for place_from_end, (a, b) in enumerate(zip(got[::-1], full[::-1], strict=False))
    )


def lengths(xp: Backend, place: Layout, leaves: Sequence[Array]) -> None:
    for name, limit, leaf in zip(("key_lengths", "query_lengths"), (place.keys, place.queries), leaves, strict=False):
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
        raise DtypeError(f"{WHO}: need {name} as an array of {_ours(xp)}, like query; got {found.name}; convert it.")
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


def _ours(xp: Backend) -> str:
    return "numpy" if xp.name == "numpy" else f"{xp.name} or numpy"


def no_name(who: str, name: str, framework: str) -> str:
    return f"{who}: need a name of lazy weights or of {framework}; got {name!r}; weights.dense() is the array itself."


def no_values(who: str) -> DtypeError:
    return DtypeError(
        f"{who}: need weights with values to become an array of NumPy; got those of a function that is traced or on a "
        "device without numbers; ask your questions there, or return them."
    )


def no_truth_of_several(who: str, shape: tuple) -> DtypeError:
    return DtypeError(
        f"{who}: need a single weight to be true or false; got {_sizes(shape)}; use .any() or .all() of "
        "weights.dense()."
    )


def not_written(who: str) -> UnsupportedError:
    return UnsupportedError(
        f"{who}: need weights as they are, since they are computed; got an assignment; use .dense()."
    )


def not_a_mask(value: Any) -> DtypeError:
    return DtypeError(
        f"masks: need a mask on both sides of & and |; got {type(value).__name__}; wrap an array in masks.boolean."
    )


def no_truth() -> DtypeError:
    return DtypeError("masks: need &, | and ~ between masks; got and, or, not or if; a mask is neither true nor false.")


def not_a_bias(value: Any) -> DtypeError:
    return DtypeError(f"biases: need a bias on both sides of +; got {type(value).__name__}; wrap it in biases.array.")


FARTHEST = 2**30  # positions: what lies farther is no limit, and would not fit into 32 bits beside a position


def window_side(name: str, size: int | None) -> int | None:
    if size is None:
        return None
    if not isinstance(size, numbers.Integral) or isinstance(size, bool):
        raise DtypeError(
            f"masks.window: need {name} as a whole number of positions or None; got {type(size).__name__}."
        )
    if size < 0:
        raise ShapeError(f"masks.window: need {name} >= 0; got {size}; use None for no limit.")
    return None if size >= FARTHEST else int(size)


def prefix_length(length: int) -> int:
    if not isinstance(length, numbers.Integral) or isinstance(length, bool):
        raise DtypeError(f"masks.prefix: need length as a whole number of keys; got {type(length).__name__}.")
    if length < 0:
        raise ShapeError(f"masks.prefix: need length >= 0; got {length}.")
    return min(int(length), FARTHEST)


def max_distance(distance: int) -> int:
    if not isinstance(distance, numbers.Integral) or isinstance(distance, bool):
        raise DtypeError(
            f"biases.relative: need max_distance as a whole number of positions; got {type(distance).__name__}."
        )
    if distance < 2:
        raise ShapeError(f"biases.relative: need max_distance >= 2; got {distance}.")
    return min(int(distance), FARTHEST)


def buckets(count: Any, bidirectional: bool, distance: int) -> None:
    """T5's formula has at least one bucket of a single position, and some to grow, on each side."""
    least = 4 if bidirectional else 2
    if isinstance(count, int) and count < least:
        sides = "with a side each for keys before and after" if bidirectional else "for keys before"
        raise ShapeError(f"biases.relative: need a table of at least {least} buckets, {sides}; got {count}.")
    single = count // least
    if isinstance(count, int) and distance <= single:
        raise ShapeError(
            f"biases.relative: need max_distance above {single}, the positions that {count} buckets count singly; got "
            f"{distance}; raise it, or use a smaller table."
        )


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
            f"{WHO}: need seed as a whole number, or an array of some of {_ours(xp)}; got {type(seed).__name__}."
        )
    plain(WHO, "seed", found, seed)
    _has_numbers("seed", xp, found, seed, like)
    dtype, got = found.dtype_name(seed), found.shape(seed)
    if dtype not in INTEGERS or len(got) > 1 or not all(isinstance(size, int) and size for size in got):
        raise DtypeError(f"{WHO}: need seed as a whole number, or an array (n,) of some; got {dtype} {_sizes(got)}.")


def kernel(name: Any, known: Sequence[str]) -> None:
    if not isinstance(name, str) or name not in known:
        raise UnsupportedError(
            f"{WHO}: need kernel to be one of {', '.join(map(repr, known))}; got {name!r}"
            f"{nearest(str(name), known) or '.'}"
        )


def index(who: str, name: str, at: Any, size: Any) -> Any:
    """An index of one axis: a slice of whole numbers, or an array of numbers from 0 for numbers or booleans."""
    if isinstance(at, slice):
        return _slice(who, name, at, size)
    found = _whole_numbers(who, name, at)
    size = known_size(who, size)
    if found.dtype.kind == "b":
        if found.shape != (size,):
            raise OutOfRangeError(f"{who}: need one boolean for each of {size} positions ({name}); got {found.shape}.")
        return np.flatnonzero(found)
    if found.size and (found.max() >= size or found.min() < -size):
        worst = found.max() if found.max() >= size else found.min()
        raise OutOfRangeError(f"{who}: need {name} below {size}; got {worst}.")
    return np.asarray(np.where(found < 0, found + size, found), np.int64)


def _whole_numbers(who: str, name: str, at: Any) -> np.ndarray:
    """A number or several, or several booleans, of any framework."""
    if type(at) is int:
        return np.asarray(at)
    found, known = backend_of(at), None
    if found is not None:
        plain(who, name, found, at)
    if isinstance(at, (list, tuple)) and not len(at):
        return np.zeros(0, np.int64)
    if found is None:
        with contextlib.suppress(Exception):  # whatever a stranger's own conversion raises
            known = np.asarray(at)
    elif found.dtype_name(at) in (*INTEGERS, "bool"):
        known = found.fetched(at)
        if known is None:
            raise DtypeError(f"{who}: need {name} as NumPy values while a function is traced; got a traced array.")
    if known is None or known.dtype.kind not in "iub" or (known.dtype.kind == "b" and known.ndim != 1):
        got = "" if known is None else f" {known.dtype} {known.shape}"
        raise DtypeError(
            f"{who}: need {name} as a number, a slice, or a list of numbers or booleans; got {type(at).__name__}{got}."
        )
    return known


def _slice(who: str, name: str, at: slice, size: Any) -> slice:
    parts = (at.start, at.stop, at.step)
    try:
        whole = slice(*(None if part is None else _whole_number(part) for part in parts))
    except Exception:  # a traced number has its own
        got = ", ".join(type(part).__name__ for part in parts)
        raise DtypeError(f"{who}: need {name} as a slice of whole numbers; got one of {got}.") from None
    if whole.step == 0:
        raise OutOfRangeError(f"{who}: need {name} as a slice whose step is not 0; got 0.")
    if whole != slice(None):
        known_size(who, size)
    return whole


def _whole_number(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    return operator.index(value)


def known_size(who: str, size: Any) -> int:
    if not isinstance(size, int):
        raise ShapeError(f"{who}: need an axis of known size to take a part of; got one that a graph knows as it runs.")
    return size


def extent(who: str, given: int, dots: int, most: int) -> None:
    """How many indices, and how often `...` is among them."""
    if dots > 1:
        raise OutOfRangeError(f"{who}: need ... at most once in an index; got it {dots} times.")
    if given > most:
        raise OutOfRangeError(f"{who}: need at most {most} indices; got {given}; leave some out.")


def lists(who: str, leading: Sequence[np.ndarray], last: Sequence[np.ndarray]) -> None:
    """Lists among the indices of the leading axes and of the last two: what they may be together."""
    if leading and last:
        raise UnsupportedError(
            f"{who}: need lists either of leading axes or of the last two; got both; index twice, leading axes first, "
            "or index weights.dense()."
        )
    shapes = [each.shape for each in (*leading, *last)]
    if len(last) == 2 and last[0].ndim == 2 and last[0].shape[1] == 1 and last[1].shape[:-1] in ((), (1,)):
        return  # a mesh, as np.ix_ makes it
    if any(len(shape) > 1 for shape in shapes):
        raise UnsupportedError(f"{who}: need lists of one dimension; got {_and(map(str, shapes))}.")
    if len({shape for shape in shapes if shape != (1,)}) > 1:
        raise OutOfRangeError(
            f"{who}: need lists of one length, which choose points together; got {_and(map(str, shapes))}; for every "
            "pair of them use numpy.ix_."
        )


def positions(who: str, name: str, chosen: Any, size: Any) -> np.ndarray:
    """Numbers from 0, several, of a number, a slice, or a list of numbers or booleans."""
    found = index(who, name, chosen, size)
    if isinstance(found, slice):
        return np.arange(known_size(who, size))[found]
    if found.ndim > 1:
        raise DtypeError(f"{who}: need {name} as a list of numbers, a slice or booleans; got {found.shape}.")
    return np.atleast_1d(found)


def sets_of_keys(who: str, xp: Backend, place: Layout, keys: Array) -> None:
    """Booleans `(..., S)`, a set of keys for each example."""
    found = backend_of(keys)
    if found is None or found.name not in (xp.name, "numpy"):
        got = type(keys).__name__ if found is None else found.name
        raise DtypeError(f"{who}: need keys as an array of {_ours(xp)}; got {got}; convert it.")
    plain(who, "keys", found, keys)
    dtype, shape = found.dtype_name(keys), found.shape(keys)
    if dtype != "bool":
        raise DtypeError(f"{who}: need a set of keys for each example as booleans; got {dtype} {_sizes(shape)}.")
    full = _of_examples(place, (place.keys,))
    if not _fits_examples(shape, full, 1):
        raise ShapeError(
            f"{who}: need a set of keys for each example, {_sizes(full)}; got {_sizes(shape)}; reshape it, or leave "
            "leading axes out."
        )


def heads_of_values(who: str, place: Layout, got: Sequence) -> None:
    """Leading axes of what weights are multiplied with: they broadcast, with heads for queries, for keys, or one."""
    heads = place.outer[-1] if place.outer else 1
    own = [1, heads, place.lead[-1]]
    lead = (*((1,) * (len(place.outer) - len(got) + 2)), *got[:-2])
    fits = len(got) - 2 <= max(len(place.outer), 0) and all(
        not _differ(size, full) or size == 1 for size, full in zip(lead[:-1], place.outer[:-1], strict=False)
    )
    if not fits or (lead and isinstance(lead[-1], int) and isinstance(heads, int) and lead[-1] not in own):
        raise ShapeError(
            f"{who} @ values: need leading axes that broadcast to {_sizes(place.outer)}; got values {_sizes(got)}."
        )


def multiplied(who: str, xp: Backend, values: Array, like: Array, size: Any, letter: str) -> Array:
    """What weights are multiplied with, as an array of their framework, on their device."""
    found = backend_of(values)
    if found is None or found.name not in (xp.name, "numpy"):
        raise DtypeError(
            f"{who} @ values: need an array of {xp.name}; got {type(values).__name__ if found is None else found.name}."
        )
    plain(f"{who} @ values", "values", found, values)
    _multiplies(f"{who} @ values", found, values)
    got = tuple(found.shape(values))
    if len(got) < 2 or _differ(got[-2], size):
        raise ShapeError(
            f"{who} @ values: need values (..., {letter}, X) with {letter} = {size if isinstance(size, int) else '?'}; "
            f"got {_sizes(got)}."
        )
    here, there = xp.device_name(like), found.device_name(values)
    if found.name == xp.name and here != there:
        raise DtypeError(f"{who} @ values: need values on {here}, where the weights are; got {there}; move them.")
    return _in_floats(xp, xp.asarray(values, like), like)


def _in_floats(xp: Backend, values: Array, like: Array) -> Array:
    """Whole numbers and booleans in floating point, in which sums by weights are."""
    if xp.dtype_name(values) in FLOATS:
        return values
    return xp.cast(values, "float64" if xp.dtype_name(like) == "float64" else "float32")


def _multiplies(who: str, found: Backend, values: Array) -> None:
    dtype = found.dtype_name(values)
    if dtype not in (*FLOATS, *INTEGERS, "bool"):
        raise DtypeError(f"{who}: need values of one of the types {', '.join(FLOATS)}; got {dtype}; cast them.")


def before(who: str, xp: Backend, values: Array, like: Array) -> Array:
    """What is multiplied with weights from the left, as an array of their framework."""
    found = backend_of(values)
    if found is None or found.name not in (xp.name, "numpy") or len(found.shape(values)) < 2:
        got = type(values).__name__ if found is None else f"{found.name} {_sizes(found.shape(values))}"
        raise DtypeError(f"values @ {who}: need values (..., X, T) of {xp.name}; got {got}.")
    plain(f"values @ {who}", "values", found, values)
    _multiplies(f"values @ {who}", found, values)
    return _in_floats(xp, xp.asarray(values, like), like)


def pulled_back(who: str, xp: Backend, place: Layout, value: Array, gradient: Array) -> None:
    """A value for each key, and the gradient of an output for each query, of one width."""
    for name, array in (("value", value), ("gradient", gradient)):
        found = backend_of(array)
        if found is None or found.name != xp.name:
            got = type(array).__name__ if found is None else found.name
            raise DtypeError(f"{who}: need {name} as an array of {xp.name}; got {got}.")
        plain(who, name, found, array)
    values, gradients = xp.shape(value), xp.shape(gradient)
    if (
        min(len(values), len(gradients)) < 2
        or _differ(values[-2], place.keys)
        or _differ(gradients[-2], place.queries)
        or _differ(values[-1], gradients[-1])
    ):
        raise ShapeError(
            f"{who}: need value (..., S, E) and gradient (..., T, E) with S = {place.keys}, T = {place.queries}; got "
            f"{_sizes(values)} and {_sizes(gradients)}."
        )


def count(who: str, name: str, number: Any, axis: str, size: Any) -> int:
    if not isinstance(number, numbers.Integral) or isinstance(number, bool):
        raise DtypeError(f"{who}: need {name} as a whole number; got {type(number).__name__}.")
    if int(number) < 1 or (isinstance(size, int) and int(number) > size):
        raise ShapeError(f"{who}: need {name} from 1 to {axis} = {size}; got {number}.")
    return int(number)


def pool(who: str, rows: Any, columns: Any, reduce: str, queries: Any, keys: Any) -> None:
    count(f"{who}.pool", "rows", rows, "T", queries)
    count(f"{who}.pool", "columns", columns, "S", keys)
    if not isinstance(reduce, str) or reduce not in ("mean", "max"):
        raise UnsupportedError(f"{who}.pool: need reduce 'mean' or 'max'; got {reduce!r}.")


def rectangles(who: str, sizes: Any) -> tuple:
    """What `pool` is asked with among other questions."""
    if not isinstance(sizes, (tuple, list)) or len(sizes) not in (2, 3):
        got = f"{len(sizes)} of them" if isinstance(sizes, (tuple, list)) else type(sizes).__name__
        raise DtypeError(f"{who}: need pool as (rows, columns) or (rows, columns, reduce); got {got}.")
    return tuple(sizes)


def most_bytes(who: str, limit: Any) -> None:
    if not isinstance(limit, numbers.Real) or isinstance(limit, bool) or math.isnan(limit):
        got = limit if isinstance(limit, float) else type(limit).__name__
        raise DtypeError(f"{who}: need max_bytes as a number of bytes; got {got}; use math.inf for no limit.")


def questions(who: str, names: Sequence[str], parameters: Any, simple: Iterable[str], others: Sequence[str]) -> None:
    known = [*simple, *others]
    if isinstance(names, str) or not isinstance(names, Iterable):
        got = f"the name {names!r} alone" if isinstance(names, str) else type(names).__name__
        raise DtypeError(f"{who}: need ask as several names, such as ('entropy', 'received'); got {got}.")
    for name in (*names, *parameters):
        if name not in known:
            raise UnsupportedError(
                f"{who}.ask: need questions among {', '.join(known)}; got {name!r}{nearest(str(name), known) or '.'}"
            )
    for name in names:
        if name in others:
            raise UnsupportedError(f"{who}.ask: need {name} with its argument; got its name alone; write {name}=....")
    for name in parameters:
        if name not in others:
            raise UnsupportedError(f"{who}.ask: need {name} by its name alone; got an argument; write {name!r}.")
