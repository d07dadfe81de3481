"""Watching and editing Keras models: what their attention layers hand on among their methods is kept on its way.

Keras' `MultiHeadAttention` and `GroupQueryAttention` hand on to `_compute_attention`, and so do KerasHub's layers that
derive from them; `keras_layers.py` says which others are read, and where. On Keras' TensorFlow, JAX and PyTorch
backends, called eagerly: `model(inputs)`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras

from regard._backends import get_backend
from regard.errors import UnsupportedError
from regard.models.editing import Change, Edit
from regard.models.keras_layers import Call, reading, replaced
from regard.models.places import Edited, Places
from regard.models.recording import ATTENTION, CALL_IT, Layers, nothing_helps, nothing_seen
from regard.models.seen import Seen
from regard.nn.keras import AttentionLayer

KINDS = (
    keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, keras.layers.Attention, AttentionLayer,
)  # fmt: skip
WHAT = "keras.layers.MultiHeadAttention or GroupQueryAttention"

_lock = threading.Lock()
_watchers: dict[int, int] = {}  # how many watch a layer, by its id
_here = threading.local()  # who watches or edits in this thread
_ENTERED = keras.layers.Layer.__call__
_ENTERED = getattr(_ENTERED, "__wrapped__", _ENTERED).__code__


def is_model(value: Any) -> bool:
    return isinstance(value, keras.layers.Layer)


class Inside:
    """The base of what is told of each attention of one model in this thread.

    A layer's method is wrapped while anybody looks at it, and given back with the last; who is told of a call is a
    matter of the thread. Nothing else of the model is touched.
    """

    def __init__(self, who: str, model: Any) -> None:
        self._who, self._model = who, model
        self._attentions = {id(layer): layer for layer in _layers_of(model) if _looks_like_attention(layer)}
        self._compiled = 0
        self._called: set[int] = set()  # the layers that were called with values
        self._read: set[int] = set()  # and those that an attention was read from

    def _begin(self) -> None:
        with _lock:
            for identity, layer in self._attentions.items():
                _watchers[identity] = _watchers.get(identity, 0) + 1
                if _watchers[identity] == 1:
                    layer.__dict__.update({method: _wrapped(layer, method) for method in _methods(layer)})
        _here.inside = [*_inside(), self]

    def _end(self) -> None:
        _here.inside = [each for each in _inside() if each is not self]
        with _lock:
            for identity, layer in self._attentions.items():
                _watchers[identity] -= 1
                if not _watchers[identity]:
                    del _watchers[identity]
                    for method in _methods(layer):
                        del layer.__dict__[method]

    def _require_any(self) -> None:
        """Refuse a `with` in which no attention was found, or a compiled one."""
        if self._read:
            return
        if self._compiled:
            raise UnsupportedError(
                f"{self._who}: need a model that is called eagerly, model(inputs); it ran inside a compiled function, "
                "as in predict and fit, where there are no values to keep; call it."
            )
        unseen = [type(self._attentions[identity]).__name__ for identity in self._not_read()]
        kinds = (type(layer).__name__ for layer in _layers_of(self._model))
        raise nothing_seen(kinds, WHAT, nothing_helps(unseen) if unseen else CALL_IT, self._who)

    def called(self, layer: Any, args: tuple, kwargs: dict) -> None:
        """A layer that looks like attention was called."""
        arrays = [each for each in keras.tree.flatten((args, kwargs)) if hasattr(each, "shape")]
        if id(layer) in self._attentions and not any(map(_symbolic, arrays)):
            self._called.add(id(layer))

    def _not_read(self) -> list[int]:
        """The innermost layers that were called, and neither were read nor hold one that was."""
        inner = self._called | self._read
        return [
            identity
            for identity, layer in self._attentions.items()
            if identity in self._called - self._read
            and not any(id(each) in inner for each in _layers_of(layer) if each is not layer)
        ]

    def _unseen(self) -> list[str]:
        return [self._attentions[identity].path for identity in self._not_read()]

    def _is_read(self, layer: Any, call: Call) -> bool:
        """Whether a call is an attention of this model that has values."""
        if id(layer) not in self._attentions:
            return False
        if _symbolic(call.query):
            self._compiled += 1
            return False
        self._read.add(id(layer))
        return True

    def _require_one_axis(self, layer: Any, call: Call) -> None:
        if len(call.query.shape) > 4:
            raise UnsupportedError(
                f"{self._who}: need attention along one axis; got query {tuple(call.query.shape)} in {layer.path}; "
                "leave it out."
            )


class Recorder(Inside):
    """Keeps what each attention of one model is made of."""

    def __init__(self, model: Any, layers: Layers, heads: Any, values: bool) -> None:
        super().__init__("watch", model)
        self._layers, self._heads, self._values = layers, heads, values
        self._gradients: Any = None
        self.seen = Seen(self._unseen)

    def start(self) -> Seen:
        self._begin()
        return self.seen

    def stop(self) -> None:
        self._end()
        self._layers.trim(self.seen, ended=True)
        self.seen.close()

    def check(self) -> None:
        self._require_any()
        self._layers.check()

    def record(self, layer: Any, call: Call) -> None:
        """One attention of a layer."""
        if not self._is_read(layer, call) or not self._layers.runs(layer.path):
            return
        self._require_one_axis(layer, call)
        found = call.weights()
        kept = call.values() if self._values else None
        if kept is not None and getattr(kept.output, "requires_grad", False):  # on Keras' PyTorch backend
            kept = replace(kept, gradient=self._gradient_of(kept.output))
        self.seen.append(layer.path, found if self._heads is None else found.heads(self._heads), kept)
        self._layers.trim(self.seen)

    def _gradient_of(self, output: Any) -> Callable[[], Any]:
        from regard.models.torch import Gradients

        if self._gradients is None:
            self._gradients = Gradients()
        return self._gradients.of(output)


class Editor(Inside):
    """Edits what each attention of one model gives."""

    def __init__(self, model: Any, places: Places, edit: Edit) -> None:
        super().__init__("edit", model)
        self._places, self._edit = places, edit
        self._names = {id(layer) for layer in _layers_of(model)}
        self.edited = Edited()

    def start(self) -> Edited:
        self._begin()
        return self.edited

    def stop(self) -> None:
        self._end()
        self._places.close()

    def check(self) -> None:
        self._require_any()
        self._places.check(self._unseen())

    def edits(self, layer: Any, call: Call) -> list[Edit]:
        """Those of an attention of a layer that runs now."""
        if not self._is_read(layer, call) or not self._places.runs(layer.path, _ENTERED, self._names):
            return []
        self._require_one_axis(layer, call)
        self.edited.names.append(layer.path)
        return [self._edit]


def _looks_like_attention(layer: Any) -> bool:
    return isinstance(layer, KINDS) or ATTENTION.search(type(layer).__name__) is not None


def _layers_of(model: Any) -> list[Any]:
    return list(model._flatten_layers(include_self=True, recursive=True))


def _methods(layer: Any) -> list[str]:
    """What is wrapped of a layer: what it is called by, and what its attention is read from."""
    read = reading(layer)
    return list({"call", *([] if read is None else [read.method])})


def _wrapped(layer: Any, method: str) -> Any:
    original, read = getattr(type(layer), method), reading(layer)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        inside = _inside()
        if method == "call":
            for each in inside:
                each.called(layer, args, kwargs)
        found = original(layer, *args, **kwargs)
        if read is not None and method == read.method:
            call = read.read(layer, found, *args, **kwargs)
            edits = [edit for each in inside if isinstance(each, Editor) for edit in each.edits(layer, call)]
            if edits:
                change = Change(edits)
                found = replaced(call, found, change)
                call = read.read(layer, found, *args, **kwargs).under(change)
            for each in inside:
                if isinstance(each, Recorder):
                    each.record(layer, call)
        return found

    return wrapped


def _inside() -> list[Inside]:
    """Who is told of this thread's calls, the outermost first."""
    return getattr(_here, "inside", [])


def _symbolic(array: Any) -> bool:
    """Whether there are no values: while a model is built or compiled."""
    if isinstance(array, keras.KerasTensor):
        return True
    backend = get_backend("watch", query=array)
    return backend.name != "torch" and backend.concrete(array[(slice(1),) * len(array.shape)]) is None
