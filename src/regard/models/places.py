"""Which attentions of a model edits are about, by number or name, each time that the model runs."""

from __future__ import annotations

import fnmatch
import numbers
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from regard.errors import OutOfRangeError, UnsupportedError
from regard.models.recording import listed


@dataclass
class Edited:
    """What a `with` of edits did.

    Attributes:
        names: the attentions that were edited, in call order, once for each run.
    """

    names: list[str] = field(default_factory=list)


class Places:
    """Attentions by number in the order in which they run for the first time, by name or by pattern.

    A model that runs several times, as while it generates, has the same numbers each time: where a module runs more
    than once in one call of the model, each of its runs has a number of its own.
    """

    def __init__(self, layers: Any) -> None:
        self.wanted = None if layers is None else listed("layers", layers, (numbers.Integral, str), "edit")
        below = [each for each in self.wanted or [] if not isinstance(each, str) and each < 0]
        if below:
            raise OutOfRangeError(
                f"edit: need layers by number from 0, by name or by pattern; got {below[0]}, and how many there are "
                "is known when all have run; count from the first, or name it."
            )
        self._numbers: dict[tuple[str, int], int] = {}
        self._found: set[int | str] = set()
        self._call: FrameType | None = None
        self._runs: Counter[str] = Counter()
        self.ran: list[str] = []

    def anew(self) -> Places:
        """The same before anything ran."""
        return Places(self.wanted)

    def runs(self, name: str, entered: CodeType, inside: Collection[int]) -> bool:
        """Counts an attention that runs; whether it is among those to edit.

        The model's call is the outermost frame of the code `entered` whose `self` is `inside`, by identity.
        """
        call = _outermost(entered, inside)
        if call is not self._call:
            self._call = call
            self._runs.clear()
        key = name, self._runs[name]
        self._runs[name] += 1
        number = self._numbers.setdefault(key, len(self._numbers))
        if name not in self.ran:
            self.ran.append(name)
        found = {each for each in self.wanted or [] if is_at(each, number, name)}
        self._found |= found
        return self.wanted is None or bool(found)

    def close(self) -> None:
        """Lets the model's last call go, and what it was given."""
        self._call = None

    def check(self, unseen: list[str]) -> None:
        """Refuse layers that did not run; and, where all are meant, attention that nobody could edit."""
        missing = [each for each in self.wanted or [] if each not in self._found]
        if missing:
            raise OutOfRangeError(
                f"edit: need layers that ran, by a number below {len(self._numbers)} or a name, one of {self.ran}; "
                f"got {missing}."
            )
        if self.wanted is None and unseen:
            raise UnsupportedError(
                f"edit: need attention that can be seen; {', '.join(unseen)} ran without being edited; choose others "
                "by layers."
            )


def is_at(each: int | str, number: int, name: str) -> bool:
    """Whether a number, a name or a pattern means the attention of this number and name."""
    if isinstance(each, str):
        return each == name or fnmatch.fnmatchcase(name, each)
    return int(each) == number


def _outermost(entered: CodeType, inside: Collection[int]) -> FrameType | None:
    frame: FrameType | None = sys._getframe(2)
    found = None
    while frame is not None:
        if frame.f_code is entered and id(frame.f_locals.get("self")) in inside:
            found = frame
        frame = frame.f_back
    return found
