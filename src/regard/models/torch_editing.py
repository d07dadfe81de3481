"""Editing PyTorch modules: what `scaled_dot_product_attention` gives to them is replaced on its way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from regard.attention import Attention
from regard.models.editing import Change, Edit
from regard.models.places import Edited, Places
from regard.models.torch_calls import weights_of
from regard.models.torch_mode import Inside, modes
from regard.weights import AttentionWeights

_ENTERED = torch.nn.Module._wrapped_call_impl.__code__
_WHOLE = inspect.signature(functional.multi_head_attention_forward)


class Editor(Inside):
    """Edits each call of PyTorch's attention inside one model.

    Of several, one inside the other, the innermost does it all, since it comes first.
    """

    unnoticed = False  # PyTorch's own fused layers do not run: they would hide what is to be edited

    def __init__(self, model: torch.nn.Module, places: Places, edit: Edit) -> None:
        super().__init__("edit", model)
        self._places, self._edit = places, edit
        self._latest: tuple[Any, Change] | None = None
        self.edited = Edited()

    def start(self) -> Edited:
        self.__enter__()
        return self.edited

    def stop(self) -> None:
        self._latest = None
        self._places.close()
        self.__exit__(None, None, None)

    def check(self) -> None:
        unseen = self._unseen.names(self._places.ran)
        self._require_any(bool(self._places.ran), unseen)
        self._places.check(unseen)

    def look(self, caller: Any) -> None:
        """Nothing is hidden from those who ask whether somebody looks on."""

    def edits(self, module: torch.nn.Module) -> list[Edit]:
        """Those of the attention of a module that runs now."""
        name = self._names.get(id(module))
        if name is None or not self._places.runs(name, _ENTERED, self._names):
            return []
        self.edited.names.append(name)
        return [self._edit]

    def _attention(self, read: Any, function: Any, args: tuple, kwargs: dict) -> Any:
        calling = self._calling()
        if calling is None:
            return function(*args, **kwargs)
        _, module = calling
        others = modes(Inside)
        change = change_of([*others, self], module)
        if change is None:
            with _aside(mode for mode in others if isinstance(mode, Editor)):
                return function(*args, **kwargs)
        query, key, value, mask, causal, scale, _ = read(module, *args, **kwargs)
        weights = weights_of(query, key, mask, causal, scale)
        whole = _arguments(args, kwargs) if function is functional.multi_head_attention_forward else None

        def plain() -> torch.Tensor:
            if whole is None:
                return function(*args, **kwargs).reshape(*query.shape[:-1], value.shape[-1])
            dropout = whole["dropout_p"] if whole["training"] else 0.0
            return functional.scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale=scale)

        with _aside(others):
            output = change.apply(weights, value, plain)
        for mode in others:
            mode.told(module, value, Attention(output, change.weights(weights)))
        if whole is not None:
            result: Any = _joined(output, lambda: change.weights(weights), whole)
        else:
            given = args[0] if args else kwargs["query"]
            result = output.reshape(*given.shape[:-1], value.shape[-1])
        self._latest = result, change
        return result

    def told(self, module: torch.nn.Module, value: torch.Tensor, found: Attention) -> None:
        """Of an attention that is edited already."""


def change_of(found: Iterable[Inside], module: torch.nn.Module) -> Change | None:
    """What the editors among some modes, the outer ones first, make of the attention of a module that runs now."""
    edits = [edit for mode in found if isinstance(mode, Editor) for edit in mode.edits(module)]
    return Change(edits) if edits else None


def change_behind(result: Any) -> Change | None:
    """What an editor further out has made of a call's result."""
    for editor in modes(Editor):
        if editor._latest is not None and editor._latest[0] is result:
            return editor._latest[1]
    return None


@contextmanager
def _aside(found: Iterable[Inside]) -> Iterator[None]:
    """Some modes are not told of calls."""
    several = [mode for mode in found if not mode.aside]
    for mode in several:
        mode.aside = True
    try:
        yield
    finally:
        for mode in several:
            mode.aside = False


def _arguments(args: tuple, kwargs: dict) -> dict[str, Any]:
    """Those of a call of `multi_head_attention_forward`, by name."""
    given = _WHOLE.bind(*args, **kwargs)
    given.apply_defaults()
    return given.arguments


def _joined(output: torch.Tensor, weights: Callable[[], AttentionWeights], given: dict[str, Any]) -> tuple:
    """What `multi_head_attention_forward` makes of its heads' outputs `(B, H, T, E)`: `(T, B, d)`, and weights."""
    joined = functional.linear(output.transpose(1, 2).flatten(-2), given["out_proj_weight"], given["out_proj_bias"])
    joined = joined.transpose(0, 1)
    dense = weights().dense() if given["need_weights"] else None
    if dense is not None and given["average_attn_weights"]:
        dense = dense.mean(1)
    if given["query"].ndim == 2:
        return joined.squeeze(1), None if dense is None else dense.squeeze(0)
    return joined, dense
