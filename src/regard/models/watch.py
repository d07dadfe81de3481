"""`watch`: the attention weights of a model's layers, while it runs as it always does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from regard.errors import DtypeError, OutOfRangeError, UnsupportedError
from regard.models.seen import Seen


class watch(AbstractContextManager):  # noqa: N801 (used like a function)
    """Watches a model: `with regard.watch(model) as seen: model(**inputs)`.

    The model runs its own kernels and gives its own outputs; what it hands to them, query, key and mask, is kept,
    and `seen[i]` is the `AttentionWeights` of the i-th attention, `(B, H, T, S)`. Weights are those before dropout.

    Args:
        model: Any PyTorch module that calls `torch.nn.functional.scaled_dot_product_attention`, as models of
            transformers (by default), timm, diffusers and PyTorch's own do; or a Keras model with Keras' own attention
            layers, on any of its backends, called eagerly.
        layers: Which attentions to keep: names of modules (as in `seen.names`) or numbers in call order; default all.
        heads: Which heads to keep; default all.
        values: Keep values and, with gradients on, the outputs' gradients too: for `seen.relevance()` and for what
            weighs by value.

    Raises:
        DtypeError: Something that is no model, or inputs on another device.
        OutOfRangeError: A head that an attention does not have, or, at the end, a layer that did not run.
        UnsupportedError: At the end, a model that ran without an attention that can be seen.

    Cost:
        Keeps query and key of the chosen layers and heads, 2 T d numbers a layer, and the model's masks; `seen.nbytes`
        and `repr(seen)` say how many bytes that is. No time to speak of.

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
        layers: Iterable[int | str] | None = None,
        heads: Iterable[int] | None = None,
        values: bool = False,
    ) -> None:
        self._recorder = _recorder(
            model, None if layers is None else list(layers), None if heads is None else list(heads), values
        )

    def __enter__(self) -> Seen:
        return self._recorder.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.stop()
        if error is None:
            self._recorder.check()
        elif isinstance(error, RuntimeError) and " device" in str(error):
            # PyTorch's own sentence does not say whose device is meant.
            raise DtypeError(
                f"watch: need inputs on the device of the model; got others ({str(error).splitlines()[0][:120]}); "
                "move them with .to(model.device)."
            ) from error


def _recorder(model: Any, layers: list | None, heads: list | None, values: bool) -> Any:
    if "keras" in sys.modules:  # before PyTorch, whose modules Keras' layers are on its PyTorch backend
        from regard.models import keras

        if keras.is_model(model):
            return keras.Recorder(model, layers, heads, values)
    if "torch" in sys.modules:
        from regard.models import torch

        if torch.is_model(model):
            return torch.Recorder(model, layers, heads, values)
    raise DtypeError(
        f"watch: need a PyTorch module or a Keras model; got {type(model).__name__}; pass the model itself."
    )


def nothing_seen(modules: Iterable[str], what: str) -> UnsupportedError:
    """The error for a model without an attention that can be seen."""
    found = ", ".join(sorted(set(modules)))
    return UnsupportedError(
        f"watch: need a model that runs and calls {what}; saw no such call from its modules ({found}); call the model "
        "inside the with, and choose an attention implementation such as sdpa."
    )


def require_layers(layers: list[int | str] | None, ran: list[str]) -> None:
    """Refuse layers that are not among the attentions that ran, whose names these are, in call order."""
    missing = [each for each in layers or [] if each not in ran and each not in range(len(ran))]
    if missing:
        raise OutOfRangeError(
            f"watch: need layers that ran, by a number below {len(ran)} or a name, one of {list(dict.fromkeys(ran))}; "
            f"got {missing}."
        )
