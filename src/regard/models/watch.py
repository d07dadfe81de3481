"""`watch`: the attention weights of a model's layers, while it runs as it always does."""

from __future__ import annotations

import fnmatch
import numbers
import re
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np

from regard.errors import DtypeError, OutOfRangeError, UnsupportedError
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
        self.recorders: list[Any] = []


def _recorder(model: Any) -> Callable[..., Any]:
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


# A class or a function of attention: not a part of one, by what comes behind the word, and not deformable attention,
# which has no weights on keys.
ATTENTION = re.compile(
    r"^(?!.*deform(able)?_?att).*att(ention|n)"
    r"(?!.*(norm|drop|mask|bias|proj|loss|output|mlp|adapter|embed|cache|residual|rope|rotary|map|act|weight|conv))",
    re.IGNORECASE,
)
CALL_IT = "call the model inside the with"


def nothing_helps(kinds: Iterable[str]) -> str:
    """The end of a refusal for classes of attention that compute it in their own way."""
    found = ", ".join(sorted(set(kinds)))
    return f"nothing makes the attention of {found} visible, which is computed in a way of its own"


def nothing_seen(modules: Iterable[str], what: str, help: str = CALL_IT) -> UnsupportedError:
    """The error for a model without an attention that can be seen, and what would help."""
    found = ", ".join(sorted(set(modules)))
    return UnsupportedError(
        f"watch: need a model that runs and calls {what}; saw no such call from its modules ({found}); {help}."
    )


def compiled(what: str) -> UnsupportedError:
    """The error for compiled code, whose calls nobody can see."""
    return UnsupportedError(
        f"watch: need the model as it was before torch.compile, torch.jit or the like; got {what}; watch the model "
        "that was compiled, and call that."
    )


class Layers:
    """Which attentions are kept of those that run one after the other: by number, from the end too, name or pattern."""

    def __init__(self, layers: Any) -> None:
        self._wanted = None if layers is None else _listed("layers", layers, (numbers.Integral, str))
        self._deepest = -min([0, *(each for each in self._wanted or [] if not isinstance(each, str))])
        self._kept: list[int] = []  # their numbers
        self.ran: list[str] = []  # the names of all so far

    def anew(self) -> Layers:
        """The same before anything ran."""
        return Layers(self._wanted)

    def runs(self, name: str) -> bool:
        """Counts an attention that runs; whether it is one to keep, for all that is known."""
        self.ran.append(name)
        keep = self._deepest > 0 or self._is_wanted(len(self.ran) - 1, from_end=False)
        if keep:
            self._kept.append(len(self.ran) - 1)
        return keep

    def trim(self, seen: Seen, ended: bool = False) -> None:
        """Drops what turns out to be none of the last that are wanted."""
        if not self._deepest:
            return
        last = len(self.ran) - self._deepest  # numbers below it are none of them, whatever comes
        stays = [self._is_wanted(number, from_end=ended) or (number >= last and not ended) for number in self._kept]
        seen.keep(stays)
        self._kept = [number for number, stay in zip(self._kept, stays, strict=False) if stay]

    def check(self) -> None:
        """Refuse layers that are not among the attentions that ran."""
        missing = [each for each in self._wanted or [] if not any(self._are(each, n) for n in range(len(self.ran)))]
        if missing:
            raise OutOfRangeError(
                f"watch: need layers that ran, by a number below {len(self.ran)} or a name, one of "
                f"{list(dict.fromkeys(self.ran))}; got {missing}."
            )

    def _is_wanted(self, number: int, from_end: bool) -> bool:
        wanted = self._wanted
        return wanted is None or any(
            self._are(each, number) for each in wanted if from_end or isinstance(each, str) or each >= 0
        )

    def _are(self, each: int | str, number: int) -> bool:
        if isinstance(each, str):
            return each == self.ran[number] or fnmatch.fnmatchcase(self.ran[number], each)
        return each % len(self.ran) == number if -len(self.ran) <= each < len(self.ran) else False


def _heads(heads: Any) -> Any:
    """Heads as what `AttentionWeights.heads` takes."""
    return heads if heads is None or isinstance(heads, slice) else _listed("heads", heads, (numbers.Integral, np.bool_))


def _listed(name: str, given: Any, kinds: tuple) -> list:
    """One or several of some kinds."""
    if isinstance(given, (numbers.Integral, str)):
        given = [given]
    try:
        several = [each.item() if getattr(each, "ndim", None) == 0 else each for each in given]
    except TypeError:
        several = [given]
    alone = len(several) == 1 and isinstance(several[0], bool)
    wrong = [type(each).__name__ for each in several if not isinstance(each, kinds)] or (["bool"] if alone else [])
    if wrong or (name == "layers" and any(isinstance(each, bool) for each in several)):
        need = "numbers, names or patterns" if name == "layers" else "numbers"
        raise DtypeError(f"watch: need {name} as {need}; got {wrong[0] if wrong else 'bool'}.")
    return several
