"""A mode that is told of each call of PyTorch's attention inside one model, in its own thread, and of the module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack

from regard.attention import Attention
from regard.errors import UnsupportedError
from regard.models.recording import compiled, nothing_seen
from regard.models.torch_calls import CALLS
from regard.models.torch_onlooker import Onlooker
from regard.models.torch_unseen import Unseen, help_for

WHAT = "torch.nn.functional.scaled_dot_product_attention"


class Inside(Onlooker):
    """The base of modes that watch or edit the attention of one model.

    A mode belongs to a thread and to a `with`: nothing of the model or of PyTorch is replaced or hooked, so nesting,
    threads and exceptions leave everything as it was. Which module calls is read off the stack.
    """

    def __init__(self, who: str, model: torch.nn.Module) -> None:
        super().__init__()
        _require_uncompiled(who, model)
        self._who, self._model = who, model
        self._names = {id(module): name for name, module in model.named_modules()}
        self._unseen = Unseen(model, self._names)
        self.aside = False  # while it is not to be told of calls
        self.compiled = False  # whether a compiled function that holds an attention ran

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():
            if function in CALLS:
                self.compiled = True  # compiled too: set in each run
            return function(*args, **kwargs)
        if self.aside:
            return function(*args, **kwargs)
        caller = _caller()
        self.look(caller)
        if caller.f_code in self._unseen.codes:
            self._unseen.called(caller)
        read = CALLS.get(function)
        if read is not None:
            return self._attention(read, function, args, kwargs)
        return self._another(function, args, kwargs, caller)

    def _attention(self, read: Callable[..., tuple], function: Any, args: tuple, kwargs: dict) -> Any:
        """The result of a call of attention, which `read` reads."""
        raise NotImplementedError

    def told(self, module: torch.nn.Module, value: torch.Tensor, found: Attention) -> None:
        """An attention of Regard's own, inside a module, instead of the calls that it makes."""
        raise NotImplementedError

    def _another(self, function: Any, args: tuple, kwargs: dict, caller: FrameType) -> Any:
        """The result of any other call."""
        if self._unseen.might_be(function):
            self._unseen.attended(function, args[0] if args else kwargs.get("input"), caller)
        return function(*args, **kwargs)

    def _calling(self) -> tuple[str, Any] | None:
        """The innermost module of the model that is running, with its name, or None."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if "self" in frame.f_code.co_varnames[:1]:
                module = frame.f_locals.get("self")
                name = self._names.get(id(module))
                if name is not None:
                    return name, module
            frame = frame.f_back
        return None

    def _require_any(self, ran: bool, unseen: list[str]) -> None:
        """Refuse a `with` in which no attention was found, or a compiled one."""
        if self.compiled:
            raise compiled("one that calls a compiled function", self._who)
        if not ran:
            kinds = (type(module).__name__ for module in self._model.modules())
            raise nothing_seen(kinds, WHAT, help_for(self._model, unseen), self._who)


def modes(kind: type) -> list[Any]:
    """Those of this kind that are told of this thread's calls, the outermost first."""
    return [mode for mode in _get_current_function_mode_stack() if isinstance(mode, kind)]


def _caller() -> FrameType:
    """What makes the call that a mode is told of, behind other modes of ours."""
    frame = sys._getframe(2)
    while "self" in frame.f_code.co_varnames[:1] and frame.f_back is not None:
        if not isinstance(frame.f_locals.get("self"), Inside):
            break
        frame = frame.f_back
    return frame


def _require_uncompiled(who: str, model: torch.nn.Module) -> None:
    """Refuse what runs as compiled code, in which no call can be seen, and in other threads."""
    own = len(torch.nn.Module.__mro__)
    of_kinds = {
        kind: _compiled_method(*map(vars, kind.__mro__[:-own])) for kind in {type(each) for each in model.modules()}
    }
    for name, module in model.named_modules():
        where = f" in {name}" if name else ""
        if isinstance(module, torch.jit.ScriptModule):
            raise compiled(f"a module of torch.jit{where}", who)
        if type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            raise compiled(f"a module compiled by torch.compile{where}", who)
        if len(getattr(module, "device_ids", None) or []) > 1 and isinstance(module, torch.nn.DataParallel):
            raise UnsupportedError(
                f"{who}: need a model that runs in this thread; got DataParallel over {len(module.device_ids)} devices"
                f"{where}; {who} the module inside, and call that."
            )
        method = _compiled_method(vars(module)) or of_kinds[type(module)]
        if method is not None:
            raise compiled(f"a method compiled by torch.compile, {method}{where}", who)


def _compiled_method(*spaces: Any) -> str | None:
    """The name of a compiled function among the attributes of an object or of classes."""
    for name, value in (item for space in spaces for item in space.items()):
        if callable(value) and hasattr(value, "get_compiler_config"):
            return name
    return None
