"""Which modules of a model look like attention, ran, and handed nothing over that can be seen.

A module looks like attention by the name of its class or its own. That it ran shows in the calls that its `forward`
makes itself; and whatever it is called, a kernel for attention or a softmax in a function of attention says so, too.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from types import CodeType, FrameType
from typing import Any

import torch
from torch.nn import functional

from regard.models.recording import ATTENTION, CALL_IT, nothing_helps

_DEFORMABLE = re.compile(r"deform(able)?_?att(ention|n)", re.IGNORECASE)
_CALLED_ATTENTION = re.compile(r"att(ention|n)s?\d*$", re.IGNORECASE)  # a module's own name
_SOFTMAX = {torch.softmax, torch.Tensor.softmax, functional.softmax, torch.special.softmax}
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket, torch._ops.HigherOrderOperator)


class Unseen:
    """Told of the calls that a model makes; knows its modules by the identity of each."""

    def __init__(self, model: torch.nn.Module, names: dict[int, str]) -> None:
        self._names = names
        self._like = {id(module) for name, module in model.named_modules() if _looks_like_attention(name, module)}
        self.codes: dict[CodeType, set[int]] = {}  # of their `forward`, with those that are not known to have run
        for module in model.modules():
            if id(module) in self._like and (code := _code(type(module))) is not None:
                self.codes.setdefault(code, set()).add(id(module))
        self._kernels: dict[Any, bool] = {}
        self._ran: set[str] = set()

    def called(self, frame: FrameType) -> None:
        """A call made by code of `codes`, which is looked at until all of its modules are known to have run."""
        module, waiting = _self_of(frame), self.codes[frame.f_code]
        self._note(module, self._like)
        waiting.discard(id(module))
        if not waiting:
            del self.codes[frame.f_code]

    def might_be(self, function: Any) -> bool:
        """Whether a function is a softmax or a kernel for attention."""
        found = self._kernels.get(function)
        if found is None:
            named = isinstance(function, _OPERATORS) and bool(ATTENTION.search(str(function)))
            found = self._kernels[function] = named or function in _SOFTMAX
        return found

    def attended(self, function: Any, scores: Any, frame: FrameType | None) -> None:
        """A call of such a function, from a frame: an attention, if a softmax, in a function that is named so."""
        known = function not in _SOFTMAX
        if not known and getattr(scores, "ndim", 0) < 3:
            return
        while frame is not None:
            module = _self_of(frame)
            if id(module) in self._names:
                if known or id(module) in self._like:
                    self._note(module, self._names)
                return
            known = known or bool(ATTENTION.search(frame.f_code.co_name))
            frame = frame.f_back

    def _note(self, module: Any, among: Collection[int]) -> None:
        if id(module) in among:
            self._ran.add(self._names[id(module)])

    def names(self, seen: Collection[str]) -> list[str]:
        """The innermost modules that ran and are neither among those seen nor around one, in the model's order."""
        inner = {*seen, *self._ran}
        return [
            name
            for name in self._names.values()
            if name in self._ran and name not in seen and not any(_inside(each, name) for each in inner)
        ]


def help_for(model: torch.nn.Module, unseen: Collection[str]) -> str:
    """What would let the attention be seen that these modules of a model compute."""
    if not unseen:
        return CALL_IT
    found = {_implementation(model, name) for name in unseen}
    if "sdpa" in found:
        return 'choose an attention that can be seen, model.set_attn_implementation("sdpa")'
    if "regard" in found:
        return (
            "choose an attention that can be seen, import regard.models.transformers and "
            'model.set_attn_implementation("regard")'
        )
    kinds = (type(model.get_submodule(name)).__name__ for name in unseen)
    return "; ".join([nothing_helps(kinds), *turned(model)])


def turned(model: torch.nn.Module) -> list[str]:
    """Say of a model that went over to another kind of attention than it is configured for, and stays there.

    BigBird attends to everything from its first short text on; where attentions were asked for before, it returns none.
    """
    for module in model.modules():
        wanted = getattr(getattr(module, "config", None), "attention_type", None)
        if hasattr(module, "set_attention_type") and wanted not in (None, module.attention_type):
            return [
                f"since a text came that is too short for '{wanted}', {type(module).__name__} attends to everything "
                f"('{module.attention_type}'): .set_attention_type('{wanted}') turns it back"
            ]
    return []


def _implementation(model: torch.nn.Module, name: str) -> str | None:
    """The attention implementation of transformers that a module could have and be seen, if there is one."""
    module, parts = model.get_submodule(name), name.split(".")
    for count in range(len(parts), -1, -1):
        around = model.get_submodule(".".join(parts[:count]))
        if hasattr(around, "_supports_sdpa"):
            break
    else:
        return None
    if not _asks_transformers(type(module)):
        return None
    current = getattr(around.config, "_attn_implementation", None)
    if around._supports_sdpa and current != "sdpa":
        return "sdpa"
    return "regard" if current != "regard" else None


def _asks_transformers(kind: type) -> bool:
    """Whether a class of attention asks transformers which function computes it."""
    try:
        return "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(kind)
    except (OSError, TypeError):
        return False


def _looks_like_attention(name: str, module: torch.nn.Module) -> bool:
    kind = type(module)
    if kind.__module__.startswith("torch.nn") and not isinstance(module, torch.nn.MultiheadAttention):
        return False
    if ATTENTION.search(kind.__name__):
        return True
    if _DEFORMABLE.search(kind.__name__) or not _CALLED_ATTENTION.search(name.rpartition(".")[2]):
        return False
    return any(True for _ in module.children())  # not a projection that is called so


def _code(kind: type) -> CodeType | None:
    """Of a class's `forward`, behind what decorates it."""
    return getattr(inspect.unwrap(kind.forward), "__code__", None)  # type: ignore[attr-defined]


def _self_of(frame: FrameType) -> Any:
    return frame.f_locals.get("self") if "self" in frame.f_code.co_varnames[:1] else None


def _inside(name: str, outer: str) -> bool:
    return name != outer and (not outer or name.startswith(outer + "."))
