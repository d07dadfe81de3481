"""What `regard.models.recording.Recorder` promises, clause by clause, of any library's adapter.

`check(case)` holds an adapter to all of it. A case is a model with at least two attentions and what is known of them
by other means; nothing here knows whose model it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import regard
from regard._backends import to_numpy
from regard.errors import OutOfRangeError, UnsupportedError


@dataclass(frozen=True)
class Case:
    """A model, and what its attentions are.

    Attributes:
        model: that is watched.
        call: its answer to inputs of so many positions, an array; always the same, dropout included.
        names: of its attentions, in call order.
        plain: the weights of each, `(B, H, T, S)` in NumPy, as the library or a loop computes them.
        parts: its modules, whose attributes must stay as they are.
        lengths: two numbers of positions, the second larger; one, if there is no other.
        hidden: of the first length, the keys that nobody may see, `(B, S)`.
        unseen: names of attentions that run and cannot be seen.
        backward: differentiates an answer; None where no gradients reach the recorder.
        without: a clause that does not hold -> why.
    """

    model: Any
    call: Callable[[int], Any]
    names: list[str]
    plain: Callable[[int], list[np.ndarray]]
    parts: list[Any]
    lengths: tuple[int, ...] = (7, 14)
    hidden: np.ndarray | None = None
    unseen: list[str] = field(default_factory=list)
    backward: Callable[[Any], None] | None = None
    without: dict[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return self.lengths[0]


CLAUSES: dict[str, Callable[[Case], None]] = {}


def clause(function: Callable[[Case], None]) -> Callable[[Case], None]:
    """One promise, in the words of the contract."""
    CLAUSES[function.__name__] = function
    return function


def check(case: Case) -> None:
    """Hold an adapter to every clause but those that it says do not hold."""
    for name, holds in CLAUSES.items():
        if name not in case.without:
            holds(case)


def numbers(array: Any) -> np.ndarray:
    return np.asarray(to_numpy(array.detach() if hasattr(array, "detach") else array))


def attributes(case: Case) -> list[dict[str, Any]]:
    """What each part has: which attributes, which functions, how many hooks."""
    return [
        {name: id(it) if callable(it) else len(it) if isinstance(it, dict) else None for name, it in vars(part).items()}
        for part in case.parts
    ]


@clause
def outputs(case: Case) -> None:
    """The model answers the same to the bit, watched or not."""
    expected = numbers(case.call(case.length))
    for values in (False, True):
        with regard.watch(case.model, values=values):
            found = numbers(case.call(case.length))
        assert np.array_equal(found, expected)


@clause
def entries(case: Case) -> None:
    """`seen` has an entry for each attention, in call order, by the name of the module that it belongs to."""
    with regard.watch(case.model) as seen:
        case.call(case.length)
    assert seen.names == case.names
    assert len(seen) == len(case.names)
    assert all(seen[name].shape == seen[number].shape for number, name in enumerate(case.names))


@clause
def weights(case: Case) -> None:
    """Weights are `(B, H, T, S)`: the model's own, with its masks, biases and scale, before dropout."""
    with regard.watch(case.model) as seen:
        case.call(case.length)
    for found, plain in zip(seen, case.plain(case.length), strict=True):
        assert found.shape == plain.shape
        dense = numbers(found.dense())
        np.testing.assert_allclose(dense, plain, rtol=0, atol=3e-6)
        if case.hidden is not None:
            assert not np.moveaxis(dense, -1, 1)[case.hidden].any()
    spread = max(float(np.ptp(plain)) for plain in case.plain(case.length))
    assert spread > 0.01, "weights that are all alike would show nothing"


@clause
def memory(case: Case) -> None:
    """What is kept is query, key and masks: of twice the length it is twice as much, and the weights are not in it."""
    kept = []
    for length in case.lengths:
        with regard.watch(case.model) as seen:
            case.call(length)
        kept.append(seen.nbytes)
    assert all(later < 2.2 * before for before, later in pairwise(kept))


@clause
def chosen(case: Case) -> None:
    """`layers` and `heads` choose, by number, from the end too, by name and by pattern; what did not run is refused."""
    plain = case.plain(case.length)[-1]
    for layers in (-1, len(case.names) - 1, case.names[-1], f"{case.names[-1][:-1]}[{case.names[-1][-1]}]"):
        with regard.watch(case.model, layers=layers, heads=[1]) as seen:
            case.call(case.length)
        assert seen.names == case.names[-1:]
        np.testing.assert_allclose(numbers(seen[0].dense()), plain[:, 1:2], rtol=0, atol=3e-6)
    for layers in (99, "no such layer"):
        with pytest.raises(OutOfRangeError, match="need layers that ran"), regard.watch(case.model, layers=layers):
            case.call(case.length)


@clause
def nothing(case: Case) -> None:
    """A `with` in which no attention was seen ends with an UnsupportedError."""
    with pytest.raises(UnsupportedError, match="watch: need a model that runs and calls"), regard.watch(case.model):
        pass


@clause
def unseen(case: Case) -> None:
    """What ran as attention and could not be seen is named in `seen.unseen`."""
    with regard.watch(case.model) as seen:
        case.call(case.length)
    assert seen.unseen == case.unseen


@clause
def left_alone(case: Case) -> None:
    """After a `with`, whatever happened inside, nothing of the model is replaced, hooked or added."""
    case.call(case.length)
    before = attributes(case)
    with pytest.raises(ZeroDivisionError), regard.watch(case.model) as outer, regard.watch(case.model):  # noqa: PT012
        case.call(case.length)
        raise ZeroDivisionError
    assert attributes(case) == before
    assert len(outer) == len(case.names)  # what was seen until then stays
    case.call(case.length)
    assert len(outer) == len(case.names)  # and nothing comes afterwards


@clause
def nested(case: Case) -> None:
    """Each `with` has a `Seen` of its own, also one inside the other."""
    with regard.watch(case.model) as outer:
        case.call(case.length)
        with regard.watch(case.model, layers=0) as inner:
            case.call(case.length)
        case.call(case.length)
    assert (len(outer), len(inner)) == (3 * len(case.names), 1)


@clause
def threads(case: Case) -> None:
    """A `with` sees what its own thread runs, and no other."""
    turn, found = threading.Barrier(2, timeout=60), {}

    def run(times: int) -> None:
        with regard.watch(case.model) as seen:
            turn.wait()  # both watch
            for _ in range(times):
                case.call(case.length)
            turn.wait()  # both have run
        found[times] = len(seen)

    both = [threading.Thread(target=run, args=(times,)) for times in (1, 2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert found == {times: times * len(case.names) for times in (1, 2)}


@clause
def gradients(case: Case) -> None:
    """With `values=True`, `relevance` answers by the gradients of a backward pass; without one, it says so."""
    with regard.watch(case.model, values=True) as seen:
        answer = case.call(case.length)
    with pytest.raises(UnsupportedError, match=r"^relevance: need the (gradient|values) of "):
        seen.relevance()
    if case.backward is not None:
        case.backward(answer)
        found = numbers(seen.relevance(queries=-1))
        assert found.shape == (seen[0].shape[0], seen[0].shape[-1])
        assert np.isfinite(found).all()
        assert np.ptp(found[:, 1:-1]) > 0
