"""`watch`: the attention weights of a model's layers, while it runs as it always does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from regard.errors import DtypeError, OutOfRangeError, UnsupportedError
from regard.weights import AttentionWeights


class Seen:
    """The weights that a watched model computed, in call order, by number or by the name of the module.

    A module that ran several times (a loop of generation, say) has one entry a run; its name gives the last.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._weights: list[AttentionWeights] = []

    def append(self, name: str, weights: AttentionWeights) -> None:
        self.names.append(name)
        self._weights.append(weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __iter__(self) -> Iterator[AttentionWeights]:
        return iter(self._weights)

    def __getitem__(self, which: int | str) -> AttentionWeights:
        if isinstance(which, str):
            return self._weights[self._last(which)]
        if not -len(self) <= which < len(self):
            raise OutOfRangeError(f"watch: need the number of an attention seen, below {len(self)}; got {which}.")
        return self._weights[which]

    def _last(self, name: str) -> int:
        if name not in self.names:
            raise OutOfRangeError(f"watch: need the name of a module seen, one of {self.names}; got {name!r}.")
        return len(self.names) - 1 - self.names[::-1].index(name)

    @property
    def nbytes(self) -> int:
        """Bytes of the queries and keys that are kept."""
        return sum(weights.nbytes for weights in self._weights)

    def __repr__(self) -> str:
        return (
            f"Seen({len(self)} attentions, keeping {self.nbytes / 1e6:.3g} MB: {', '.join(dict.fromkeys(self.names))})"
        )


class watch(AbstractContextManager):  # noqa: N801 (used like a function)
    """Watches a model: `with regard.watch(model) as seen: model(**inputs)`.

    The model runs its own kernels and gives its own outputs; what it hands to them, query, key and mask, is kept,
    and `seen[i]` is the `AttentionWeights` of the i-th attention, `(B, H, T, S)`. Weights are those before dropout.

    Args:
        model: Any PyTorch module that calls `torch.nn.functional.scaled_dot_product_attention`, as models of
            transformers (by default), timm, diffusers and PyTorch's own do.
        layers: Which attentions to keep: names of modules (as in `seen.names`) or numbers in call order; default all.
        heads: Which heads to keep; default all.

    Raises:
        DtypeError: Something that is no model.
        UnsupportedError: At the end, a model that ran without an attention that can be seen.

    Cost:
        Keeps query and key of the chosen layers: 2 T d numbers a layer, see `seen.nbytes`; no time to speak of.

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
        self, model: Any, layers: Iterable[int | str] | None = None, heads: Iterable[int] | None = None
    ) -> None:
        self._recorder = _recorder(
            model, None if layers is None else list(layers), None if heads is None else list(heads)
        )

    def __enter__(self) -> Seen:
        return self._recorder.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.stop()
        if error is None:
            self._recorder.check()


def _recorder(model: Any, layers: list | None, heads: list | None) -> Any:
    if "torch" in sys.modules:
        from regard.models import torch

        if torch.is_model(model):
            return torch.Recorder(model, layers, heads)
    raise DtypeError(f"watch: need a PyTorch module; got {type(model).__name__}; pass the model itself.")


def nothing_seen(modules: Iterable[str], what: str) -> UnsupportedError:
    """The error for a model without an attention that can be seen."""
    found = ", ".join(sorted(set(modules)))
    return UnsupportedError(
        f"watch: need a model that runs and calls {what}; saw no such call from its modules ({found}); call the model "
        "inside the with, and choose an attention implementation such as sdpa."
    )
