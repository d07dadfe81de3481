"""`edit`: a model as if some of its heads attended otherwise, or were not there."""

from __future__ import annotations

import math
import numbers
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np

from regard import masks
from regard.errors import ConfigError, DtypeError
from regard.models.editing import Edit
from regard.models.places import Edited, Places
from regard.models.recording import compiled, listed

OUTPUTS = ("zero", "mean")


class edit(AbstractContextManager):  # noqa: N801 (used like a function)
    """Edits a model's attention while it runs: `with regard.edit(model, layers=[3], heads=[5], output="zero"): ...`.

    Nothing of the model is replaced: the calls of attention inside the `with`, in its thread, give what they would
    give if the chosen heads attended otherwise. Heads without an edit give what they always give, to the bit. Several
    edits may be nested: masks are combined by and, scales by product, and of two outputs the inner one counts. `watch`,
    inside or outside of it, sees the edited attention. Gradients flow, also to an output or a mask's arrays.
    The `with` gives an `Edited`, whose `names` are the attentions that were edited.

    Args:
        model: As for `watch`, a PyTorch module or a Keras model.
        layers: Which attentions, one or several: numbers in the order in which they first run (the same again for each
            call of the model, as while it generates), names of modules (as in `seen.names`) or patterns of names
            ("encoder.*"); default all.
        heads: Which heads of these, one or several; default all.
        output: What comes out of the heads instead: `"zero"` (ablation), `"mean"`, their mean over the positions that
            are real, or an array that broadcasts to the chosen heads' `(B, h, T, E)`. Real are, in self-attention,
            positions that some query may see as a key; elsewhere, all.
        mask: What the heads may see of what the model lets them see: a value of `regard.masks`, or a boolean array that
            broadcasts to `(B, H, T, S)`. Attention knockout of some pairs is `~masks.pairs(queries, keys)`.
        scale: Factor on the scores of query and key, at least 0: above 1 weights are sharper, below 1 flatter. Biases
            stay as they are.
        weights: `"uniform"`: all keys that a query may see count alike, whatever the scores and biases.

    Raises:
        ConfigError: Nothing to be done, or an output or weights of a name that there is not.
        DtypeError: Something that is no model.
        OutOfRangeError: A head that an attention does not have, a layer below 0, or, at the end, one that did not run.
        ShapeError: An output or a mask that does not fit.
        UnsupportedError: A compiled model; or, at the end, one without an attention that can be seen, or, where all
            layers are meant, with one that could not be.

    Edges:
        A query that may see no key gives zeros. In heads whose weights are edited, there is no dropout of weights.
        PyTorch's own encoder layers run without their fused path, which differs by rounding.

    Cost:
        Output: none. Weights of h of H heads: h / H of one more attention with a mask, in O(T + S) memory; of all
        heads, that instead of the model's own.

    Source:
        Ablation of heads: Michel et al. 2019, arXiv 1905.10650. Knockout: Geva et al. 2023, arXiv 2304.14767.

    Example:
        >>> import torch, regard
        >>> from regard import masks
        >>> class Block(torch.nn.Module):
        ...     def forward(self, x):
        ...         return torch.nn.functional.scaled_dot_product_attention(x, x, x)
        >>> model, x = torch.nn.Sequential(Block(), Block()), torch.randn(2, 4, 7, 16)
        >>> with regard.edit(model, layers=1, heads=[2], output="zero"):
        ...     float(model(x)[:, 2].abs().max())
        0.0
        >>> with regard.edit(model, mask=~masks.pairs(None, 3)), regard.watch(model) as seen:
        ...     _ = model(x)
        >>> float(seen[0].received()[..., 3].max())
        0.0
    """

    def __init__(
        self,
        model: Any,
        layers: Iterable[int | str] | int | str | None = None,
        heads: Iterable[int] | int | None = None,
        *,
        output: Any = None,
        mask: Any = None,
        scale: float | None = None,
        weights: str | None = None,
    ) -> None:
        places, made = Places(layers), _edit(heads, output, mask, scale, weights)
        editor = _editor(model)
        self._new = lambda: editor(model, places.anew(), made)
        self._running = _Running()

    def __enter__(self) -> Edited:
        editor = self._new()
        edited: Edited = editor.start()
        self._running.editors.append(editor)
        return edited

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        editor = self._running.editors.pop()
        editor.stop()
        if error is None:
            editor.check()
        elif type(error).__module__.startswith("torch._dynamo"):
            raise compiled("one that compiles a function of its own while it runs", "edit") from error


class _Running(threading.local):
    """The editors of each `with` that this thread is inside of, the innermost last."""

    def __init__(self) -> None:
        self.editors: list[Any] = []


def _edit(heads: Any, output: Any, mask: Any, scale: Any, weights: Any) -> Edit:
    """The arguments, checked."""
    if output is mask is scale is weights is None:
        raise ConfigError("edit: need output, mask, scale or weights, which say what is to be otherwise; got none.")
    if isinstance(output, str) and output not in OUTPUTS:
        raise ConfigError(f"edit: need an output of 'zero', 'mean' or an array; got {output!r}.")
    if weights not in (None, "uniform"):
        raise ConfigError(f"edit: need weights of 'uniform'; got {weights!r}.")
    if scale is not None and not (
        isinstance(scale, (int, float, np.number)) and not isinstance(scale, bool) and 0 <= scale < math.inf
    ):
        raise ConfigError(f"edit: need a scale that is a number of 0 or more; got {scale!r}.")
    several = None if heads is None else listed("heads", heads, (numbers.Integral, np.bool_), "edit")
    rule = mask if mask is None or isinstance(mask, masks.Mask) else masks.boolean(mask)
    return Edit(several, output, rule, None if scale is None else float(scale), weights == "uniform")


def _editor(model: Any) -> Callable[..., Any]:
    """What edits a model of this framework."""
    if "keras" in sys.modules:  # before PyTorch, whose modules Keras' layers are on its PyTorch backend
        from regard.models import keras

        if keras.is_model(model):
            return keras.Editor
    if "torch" in sys.modules:
        from regard.models import torch, torch_editing

        if torch.is_model(model):
            return torch_editing.Editor
    raise DtypeError(
        f"edit: need a PyTorch module or a Keras model; got {type(model).__name__}; pass the model itself."
    )
