"""What recorders share: which attentions are kept, and the words for what cannot be seen."""

from __future__ import annotations

import fnmatch
import numbers
import re
from collections.abc import Iterable
from typing import Any, Protocol

from regard.errors import DtypeError, OutOfRangeError, UnsupportedError
from regard.models.seen import Seen

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


def nothing_seen(modules: Iterable[str], what: str, help: str = CALL_IT, who: str = "watch") -> UnsupportedError:
    """The error for a model without an attention that can be seen, and what would help."""
    found = ", ".join(sorted(set(modules)))
    return UnsupportedError(
        f"{who}: need a model that runs and calls {what}; saw no such call from its modules ({found}); {help}."
    )


def compiled(what: str, who: str = "watch") -> UnsupportedError:
    """The error for compiled code, whose calls nobody can see."""
    return UnsupportedError(
        f"{who}: need the model as it was before torch.compile, torch.jit or the like; got {what}; {who} the model "
        "that was compiled, and call that."
    )


class Recorder(Protocol):
    """What a library's module owes to `watch`: a class of this kind, and `is_model(value)`, which knows its models.

    `recorder(model, layers, heads, values)` records one `with`. It finds the place where the library hands on query
    and key, asks `layers.runs(name)` for each, and appends to its `seen` what `regard.attention.make_problem` makes of
    query, key, mask, bias and scale. Of it this is promised, for each of which `tests/models/contract.py` has a test
    that all adapters pass:

    - The model answers the same to the bit, watched or not.
    - `seen` has an entry for each attention, in call order, by the name of the module that it belongs to.
    - Weights are `(B, H, T, S)`: the model's own, with its masks, biases and scale, before dropout.
    - What is kept is query, key and masks: of twice the length it is twice as much, and the weights are not in
      it.
    - `layers` and `heads` choose, by number, from the end too, by name and by pattern; what did not run is
      refused.
    - A `with` in which no attention was seen ends with an UnsupportedError.
    - What ran as attention and could not be seen is named in `seen.unseen`.
    - After a `with`, whatever happened inside, nothing of the model is replaced, hooked or added.
    - Each `with` has a `Seen` of its own, also one inside the other.
    - A `with` sees what its own thread runs, and no other.
    - With `values=True`, `relevance` answers by the gradients of a backward pass; without one, it says so.
    """

    seen: Seen

    def start(self) -> Seen:
        """Begin, and return what is filled."""

    def stop(self) -> None:
        """End, whatever happened inside."""

    def check(self) -> None:
        """Behind a `with` without an error: raise if nothing was seen, or a layer that was asked for did not run."""


class Layers:
    """Which attentions are kept of those that run one after the other: by number, from the end too, name or pattern."""

    def __init__(self, layers: Any) -> None:
        self._wanted = None if layers is None else listed("layers", layers, (numbers.Integral, str))
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


def listed(name: str, given: Any, kinds: tuple, who: str = "watch") -> list:
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
        raise DtypeError(f"{who}: need {name} as {need}; got {wrong[0] if wrong else 'bool'}.")
    return several
