"""Watching Keras models: what their attention layers hand to `_compute_attention` is kept on its way.

Keras' `MultiHeadAttention` and `GroupQueryAttention` say that users may override that method; so do the layers of
KerasHub that derive from them. On Keras' TensorFlow, JAX and PyTorch backends, called eagerly: `model(inputs)`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
from keras import ops

from regard import masks
from regard._backends import get_backend
from regard.attention import Attention, make_problem
from regard.errors import UnsupportedError
from regard.models.seen import Seen, Values
from regard.models.watch import Layers, nothing_seen
from regard.nn.keras import AttentionLayer, MultiHeadAttention
from regard.nn.keras._conversion import both, heads_first, pairs
from regard.weights import AttentionWeights

WHAT = "keras.layers.MultiHeadAttention or GroupQueryAttention"
OURS = (AttentionLayer, MultiHeadAttention)
KINDS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, AttentionLayer)

_lock = threading.Lock()
_watchers: dict[int, int] = {}  # how many watch a layer, by its id
_here = threading.local()  # who watches in this thread


def is_model(value: Any) -> bool:
    return isinstance(value, keras.layers.Layer)


class Recorder:
    """Sees each attention of one model in this thread.

    A layer's method is wrapped while anybody watches it, and given back with the last; who is told of a call is a
    matter of the thread. Nothing else of the model is touched.
    """

    def __init__(self, model: Any, layers: Layers, heads: Any, values: bool) -> None:
        self._model, self._layers, self._heads, self._values = model, layers, heads, values
        self._attentions = {id(layer): layer for layer in _layers_of(model) if isinstance(layer, KINDS)}
        self._compiled = 0
        self._gradients: Any = None
        self.seen = Seen()

    def start(self) -> Seen:
        with _lock:
            for identity, layer in self._attentions.items():
                _watchers[identity] = _watchers.get(identity, 0) + 1
                if _watchers[identity] == 1:
                    layer.__dict__[_method(layer)] = _wrapped(layer)
        _here.recorders = [*getattr(_here, "recorders", []), self]
        return self.seen

    def stop(self) -> None:
        _here.recorders = [each for each in _here.recorders if each is not self]
        with _lock:
            for identity, layer in self._attentions.items():
                _watchers[identity] -= 1
                if not _watchers[identity]:
                    del _watchers[identity], layer.__dict__[_method(layer)]
        self._layers.trim(self.seen, ended=True)

    def check(self) -> None:
        if self._layers.ran:
            return self._layers.check()
        if self._compiled:
            raise UnsupportedError(
                "watch: need a model that is called eagerly, model(inputs); it ran inside a compiled function, as in "
                "predict and fit, where there are no values to keep; call it."
            )
        raise nothing_seen((type(layer).__name__ for layer in _layers_of(self._model)), WHAT)

    def record(
        self, layer: Any, query: Any, weights: Callable[[], AttentionWeights], values: Callable[[], Values]
    ) -> None:
        """One attention of a layer: its query `(B, T, N, D)` or `(B, N, T, D)`, weights and values."""
        if id(layer) not in self._attentions:
            return
        if _symbolic(query):
            self._compiled += 1
            return
        name = layer.path
        if not self._layers.runs(name):
            return
        if len(query.shape) > 4:
            raise UnsupportedError(
                f"watch: need attention along one axis; got query {tuple(query.shape)} in {name}; leave it out."
            )
        found = weights()
        kept = values() if self._values else None
        if kept is not None and getattr(kept.output, "requires_grad", False):  # on Keras' PyTorch backend
            kept = replace(kept, gradient=self._gradient_of(kept.output))
        self.seen.append(name, found if self._heads is None else found.heads(self._heads), kept)
        self._layers.trim(self.seen)

    def _gradient_of(self, output: Any) -> Callable[[], Any]:
        from regard.models.torch import Gradients

        if self._gradients is None:
            self._gradients = Gradients()
        return self._gradients.of(output)


def _layers_of(model: Any) -> list[Any]:
    return list(model._flatten_layers(include_self=True, recursive=True))


def _method(layer: Any) -> str:
    """Of our own layers, what gives the weights themselves; of others, what they let users override."""
    return "_attention" if isinstance(layer, OURS) else "_compute_attention"


def _wrapped(layer: Any) -> Any:
    return _wrapped_ours(layer) if isinstance(layer, OURS) else _wrapped_other(layer)


def _wrapped_ours(layer: Any) -> Any:
    original = type(layer)._attention

    def attention(query: Any, key: Any, value: Any, *others: Any) -> Attention:
        output, weights = original(layer, query, key, value, *others)
        values = functools.partial(_values, layer, value, output, _four)
        for recorder in getattr(_here, "recorders", []):
            recorder.record(layer, query, functools.partial(_by_head, weights), values)
        return Attention(output, weights)

    return attention


def _wrapped_other(layer: Any) -> Any:
    original = type(layer)._compute_attention

    def compute_attention(
        query: Any, key: Any, value: Any, attention_mask: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        weights = functools.partial(_weights, layer, query, key, attention_mask, kwargs.get("use_causal_mask", False))
        found = original(layer, query, key, value, attention_mask, *args, **kwargs)
        values = functools.partial(_values, layer, value, found[0], heads_first)
        for recorder in getattr(_here, "recorders", []):
            recorder.record(layer, query, weights, values)
        return found

    return compute_attention


def _values(layer: Any, value: Any, output: Any, by_head: Callable[[Any], Any]) -> Values:
    return Values(by_head(value), output, by_head, functools.partial(_projection, layer))


def _four(array: Any) -> Any:
    """`(B, T, E)` of one head as `(B, 1, T, E)`."""
    return array if len(array.shape) > 3 else ops.expand_dims(array, 1)


def _symbolic(array: Any) -> bool:
    """Whether there are no values: while a model is built or compiled."""
    if isinstance(array, keras.KerasTensor):
        return True
    backend = get_backend("watch", query=array)
    return backend.name != "torch" and backend.concrete(array[:1, :1, :1]) is None


def _scale(layer: Any) -> float:
    found = getattr(layer, "_inverse_sqrt_key_dim", None)
    return float(layer._inverse_sqrt_head_dim if found is None else found)


def _projection(layer: Any) -> Any:
    if isinstance(layer, AttentionLayer):
        return ops.eye(layer.units)  # its output is the heads, side by side
    kernel = layer._output_dense.kernel
    kernel = ops.convert_to_tensor(kernel)
    return ops.reshape(kernel, (-1, kernel.shape[-1]))


def _weights(layer: Any, query: Any, key: Any, mask: Any, causal: bool) -> AttentionWeights:
    """Of Keras' `(B, T, N, D)` and its masks."""
    if mask is not None:
        mask = pairs("watch", mask, query.shape[:2], key.shape[:2], query.shape[2])
    rule = both(mask, masks.causal_top_left() if causal else None)
    query, key = heads_first(query), heads_first(key)
    problem, _ = make_problem(get_backend("watch", query=query), query, key, key, mask=rule, scale=_scale(layer))
    return AttentionWeights(problem, kernel="the model's own", reason="watched")


def _by_head(weights: AttentionWeights) -> AttentionWeights:
    """Weights `(B, T, S)` of one head as `(B, 1, T, S)`: one more axis of size one behind the first."""
    if weights.ndim > 3:
        return weights
    arrays, (xp, place, scores, axes, *rest) = weights._flatten()
    arrays = tuple(None if array is None else xp.reshape(array, _with_axis(xp.shape(array), 1)) for array in arrays)
    place = replace(place, lead=(*place.lead, 1), outer=(*place.outer, 1))
    return AttentionWeights._unflatten((xp, place, scores, [_with_axis(along, False) for along in axes], *rest), arrays)


def _with_axis(along: tuple, entry: Any) -> tuple:
    return (along[0], entry, *along[1:])
