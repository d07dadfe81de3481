"""What is explored: the heads of a model that read one input, its tokens, and numbers of each head."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regard._backends import backend_of, to_numpy
from regard.errors import OutOfRangeError, ShapeError, UnsupportedError
from regard.exploring.heads import AnyHead, Dense, Head, Pieced, Worded
from regard.exploring.maps import Told
from regard.models.seen import Seen
from regard.weights import AttentionWeights

_HEADS = 8  # whose arrays are kept in NumPy, where they had to be copied


@dataclass(frozen=True)
class Axis:
    """The positions that are attended from or to.

    Attributes:
        labels: one for each: tokens, patches by row and column, or seconds.
        special: the numbers of special tokens.
        bands: other parts of the input by what they are, such as sentences: each a name, its first position and the
            one behind its last.
    """

    labels: list[str]
    special: list[int] = field(default_factory=list)
    bands: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One attention: weights `(H, T, S)`, lazy or an array, and which axes they are between."""

    name: str
    weights: Any
    queries: int = 0
    keys: int = 0


@dataclass(frozen=True)
class View:
    """One input as one model reads it.

    Attributes:
        title: what the page calls it.
        layers: in order.
        axes: those that layers name.
        kind: "text", "image" or "audio".
        media: what else the page shows: a picture, a sound, boxes, by name.
    """

    title: str
    layers: list[Layer]
    axes: list[Axis]
    kind: str = "text"
    media: dict[str, Any] = field(default_factory=dict)
    _heads: OrderedDict = field(default_factory=OrderedDict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def apart(self) -> list[int]:
        """The keys that may be set apart: the first, and special tokens."""
        return sorted({0, *self.axes[self.layers[0].keys].special})[:64]

    def shape(self, layer: int, head: int) -> tuple[int, int]:
        queries, keys = self._layer(layer, head).weights.shape[-2:]
        return int(queries), int(keys)

    def head(self, layer: int, head: int) -> AnyHead:
        weights = self._layer(layer, head).weights
        with self._lock:
            found = self._heads.get((layer, head))
            if found is None:
                found = _head_of(weights, head)
                self._heads[layer, head] = found
                while len(self._heads) > _HEADS:
                    self._heads.popitem(last=False)
            return found

    def _layer(self, layer: int, head: int) -> Layer:
        if layer >= len(self.layers):
            raise OutOfRangeError(f"explore: need a layer from 0 to {len(self.layers) - 1}; got {layer}; choose one.")
        heads = self.layers[layer].weights.shape[0]
        if head >= heads:
            raise OutOfRangeError(f"explore: need a head from 0 to {heads - 1}; got {head}; choose one.")
        return self.layers[layer]


def _head_of(weights: Any, head: int) -> AnyHead:
    if isinstance(weights, AttentionWeights):
        return Head(weights[head])
    return weights.head(head) if isinstance(weights, Worded | Pieced) else Dense(to_numpy(weights[head]))


Bands = dict[str, list[tuple[str, int, int]]]


def view_of(
    given: Any, tokens: Sequence[str] | None = None, example: int = 0, title: str = "", bands: Bands | None = None
) -> View:
    """A view of weights `(..., H, T, S)`, of a `Seen`, or of a model's `outputs.attentions`.

    Args:
        given: Weights, lazy or an array of any framework; a sequence of these, one for each layer.
        tokens: One for each key, and query, or for each key only; default their numbers.
        example: Of a batch.
        title: What the page calls it.
        bands: Parts of the tokens by what they are: each a name, its first position and the one behind its last.

    Raises:
        UnsupportedError: Something else.
        OutOfRangeError: No such example, or bands beyond the tokens.
        ShapeError: Tokens of another number than keys.
    """
    if isinstance(given, Seen):
        named = list(zip(given.names, given, strict=True))
    elif isinstance(given, list | tuple):
        named = [(f"layer {number}", weights) for number, weights in enumerate(given)]
    else:
        named = [("weights", given)]
    found = [(name, one_example(weights, example)) for name, weights in named if weights is not None]
    if not found:
        raise UnsupportedError("explore: need weights, or a model whose attention can be seen; got none; use watch.")
    view = _with_axes(found, tokens, title)
    axis = view.axes[view.layers[0].keys]
    for name, parts in (bands or {}).items():
        axis.bands[str(name)] = [_band(part, len(axis.labels)) for part in parts]
    return view


def _band(part: Any, length: int) -> tuple[str, int, int]:
    name, start, stop = part
    if not 0 <= start < stop <= length:
        raise OutOfRangeError(f"explore: need bands within {length} tokens; got {start} to {stop}; correct them.")
    return str(name), int(start), int(stop)


def one_example(weights: Any, example: int) -> Any:
    """`(H, T, S)` of one example."""
    lazy = isinstance(weights, AttentionWeights)
    if not lazy and backend_of(weights) is None:
        raise UnsupportedError(
            f"explore: need attention weights, a Seen or outputs.attentions; got {type(weights).__name__}; watch a "
            "model with regard.watch, or ask it for output_attentions=True."
        )
    shape = tuple(weights.shape)
    if len(shape) < 2:
        raise ShapeError(f"explore: need weights (..., H, T, S); got {shape}; give those of an attention.")
    if len(shape) == 2:
        return weights[None] if lazy else to_numpy(weights)[None]
    if len(shape) == 3:
        return weights
    batch = int(np.prod(shape[:-3]))
    if not 0 <= example < batch:
        raise OutOfRangeError(f"explore: need an example from 0 to {batch - 1}; got {example}; choose one.")
    return weights[tuple(int(place) for place in np.unravel_index(example, shape[:-3]))]


def _with_axes(found: list[tuple[str, Any]], tokens: Sequence[str] | None, title: str) -> View:
    """Axes by their lengths: tokens for those as long as they are many, numbers for others."""
    lengths = list(dict.fromkeys(int(size) for _, weights in found for size in weights.shape[:-3:-1]))
    labels = None if tokens is None else [str(token) for token in tokens]
    if labels is not None and len(labels) not in lengths:
        raise ShapeError(f"explore: need as many tokens as there are keys, {lengths[0]}; got {len(labels)}.")
    axes = [
        Axis(labels if labels is not None and len(labels) == size else [str(number) for number in range(size)])
        for size in lengths
    ]
    layers = [
        Layer(name, weights, lengths.index(int(weights.shape[-2])), lengths.index(int(weights.shape[-1])))
        for name, weights in found
    ]
    return View(title, layers, axes)


COLUMNS = ("entropy", "largest_weight", "largest_score", "distance", "first", "previous", "special")


def numbers(told: Told, special: Sequence[int]) -> dict[str, float]:
    """The numbers of a head, as `Summary` has them, of one input."""
    queries, keys = len(told.entropy), len(told.received)
    far = np.abs(np.arange(len(told.distances)) - (queries - 1) - (keys - queries))
    before = (queries - 1) + (keys - queries) - 1
    count = max(queries, 1)
    return {
        "entropy": float(told.entropy.mean(dtype=np.float64)) if queries else 0.0,
        "largest_weight": float(told.largest.mean(dtype=np.float64)) if queries else 0.0,
        "largest_score": float(told.parts[:, 0].max(initial=-np.inf)),
        "distance": float(told.distances @ far) / count,
        "first": float(told.received[0]) / count if keys else 0.0,
        "previous": float(told.distances[before]) / count if 0 <= before < len(told.distances) else 0.0,
        "special": float(told.received[list(special)].sum()) / count if special else 0.0,
    }
