"""`watch`: the attention weights of a model's layers, while it runs as it always does."""

from __future__ import annotations

import numbers
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np

from regard.errors import DtypeError
from regard.models.recording import Layers, Recorder, compiled, listed
from regard.models.seen import Seen


class watch(AbstractContextManager):  # noqa: N801 (used like a function)
    """Watches a model: `with regard.watch(model) as seen: model(**inputs)`.

    The model runs its own kernels and gives its own outputs, to the bit; what it hands to them, query, key and mask,
    is kept, and `seen[i]` is the `AttentionWeights` of the i-th attention, `(B, H, T, S)`. Weights are those before
    dropout. Attention that ran and cannot be seen is named in `seen.unseen`. Each `with` has a `Seen` of its own.

    Args:
        model: A PyTorch module, not compiled, that calls `torch.nn.functional.scaled_dot_product_attention`, as most
            models of transformers (by default), timm, diffusers and PyTorch's own do, or Regard's own attention in
            transformers; or a Keras model with Keras' attention layers (`MultiHeadAttention`, `GroupQueryAttention`,
            `Attention`) or those of KerasHub's Llama, Gemma and relatives, on its TensorFlow, JAX or PyTorch backend,
            called eagerly.
        layers: Which attentions to keep: names of modules (as in `seen.names`), patterns of names ("encoder.*"), or
            numbers in call order, negative ones from the end; one or several; default all.
        heads: Which heads to keep, one or several; default all.
        values: Keep values and, with gradients on, the outputs' gradients too: for `seen.relevance()` and for what
            weighs by value.

    Raises:
        DtypeError: Something that is no model, or inputs on another device.
        OutOfRangeError: A head that an attention does not have, or, at the end, a layer that did not run.
        UnsupportedError: A compiled model; or, at the end, one that ran without an attention that can be seen.

    Cost:
        Keeps query and key of the chosen layers and heads, 2 T d numbers a layer, and the model's masks; `seen.nbytes`
        and `repr(seen)` say how many bytes that is. In time, 2 to 3 % of BERT-base's forward pass on one core at 512
        and 128 tokens; `nn.MultiheadAttention` projects query and key once more.

    Example:
        >>> import torch, regard
        >>> class Block(torch.nn.Module):
        ...     def forward(self, x):
        ...         return torch.nn.functional.scaled_dot_product_attention(x, x, x)
        >>> model = torch.nn.Sequential(Block(), Block())
        >>> with regard.watch(model) as seen:
        ...     _ = model(torch.randn(2, 4, 7, 16))
        >>> seen.names, seen[0].shape
        (['0', '1'], (2, 4, 7, 7))
    """

    def __init__(
        self,
        model: Any,
        layers: Iterable[int | str] | int | str | None = None,
        heads: Iterable[int] | int | None = None,
        values: bool = False,
    ) -> None:
        chosen = Layers(layers)
        recorder, several = _recorder(model), _heads(heads)
        self._new = lambda: recorder(model, chosen.anew(), several, values)
        self._running = _Running()

    def __enter__(self) -> Seen:
        recorder = self._new()
        seen = recorder.start()
        self._running.recorders.append(recorder)
        return seen

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recorder = self._running.recorders.pop()
        recorder.stop()
        if error is None:
            recorder.check()
        elif type(error).__module__.startswith("torch._dynamo"):
            raise compiled("one that compiles a function of its own while it runs") from error
        elif isinstance(error, RuntimeError) and " device" in str(error):
            # PyTorch's own sentence does not say whose device is meant.
            raise DtypeError(
                f"watch: need inputs on the device of the model; got others ({str(error).splitlines()[0][:120]}); "
                "move them with .to(model.device)."
            ) from error


class _Running(threading.local):
    """The recorders of each `with` that this thread is inside of, the innermost last."""

    def __init__(self) -> None:
        self.recorders: list[Recorder] = []


def _recorder(model: Any) -> Callable[..., Recorder]:
    """What records a model of this framework."""
    if "keras" in sys.modules:  # before PyTorch, whose modules Keras' layers are on its PyTorch backend
        from regard.models import keras

        if keras.is_model(model):
            return keras.Recorder
    if "torch" in sys.modules:
        from regard.models import torch

        if torch.is_model(model):
            return torch.Recorder
    raise DtypeError(
        f"watch: need a PyTorch module or a Keras model; got {type(model).__name__}; pass the model itself."
    )


def _heads(heads: Any) -> Any:
    """Heads as what `AttentionWeights.heads` takes."""
    return heads if heads is None or isinstance(heads, slice) else listed("heads", heads, (numbers.Integral, np.bool_))
