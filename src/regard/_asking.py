"""What is asked of weights, as questions and the operands that these take beside those of the scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from regard import _check
from regard._backends import backend_of
from regard._backends.protocol import Array
from regard._layout import Operand
from regard._problem import Problem
from regard._questions import ArgMax, Distance, Entropy, Largest, Mass, Max, MaxScore, Pool, Question, Received

WHO = "AttentionWeights"
STATISTICS: dict[str, Any] = {
    "entropy": Entropy, "received": Received, "max": Max, "argmax": ArgMax,
    "max_score": MaxScore, "distance": Distance,
}  # fmt: skip


PARAMETERS = ("topk", "pool")  # names of questions that have an argument


class Asked(NamedTuple):
    """A question, and what it takes beside query, key and rules."""

    question: Question
    extras: tuple[Operand, ...] = ()


def read(ask: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The `ask` of `attention`: names of questions without an argument, and pairs of a name and an argument."""
    pairs = [each for each in ask if type(each) is tuple] if isinstance(ask, (tuple, list)) else []
    _check.pairs("attention", pairs)
    names = [each for each in ask if type(each) is not tuple] if pairs else ask
    parameters: dict[str, Any] = dict(pairs)
    _check.questions("attention", names, parameters, STATISTICS, PARAMETERS)
    return tuple(names), parameters


def named(problem: Problem, who: str, names: tuple[str, ...], parameters: dict[str, Any]) -> dict[str, Asked]:
    """Several by their names: those without an argument, and those with one."""
    _check.questions(who, names, parameters, STATISTICS, PARAMETERS)
    asked = {name: Asked(STATISTICS[name]()) for name in names}
    if "topk" in parameters:
        asked["topk"] = largest(problem, f"{who}.ask", "topk", parameters["topk"])
    if "pool" in parameters:
        asked["pool"] = pool(problem, *_check.rectangles(f"{who}.ask", parameters["pool"]))
    return asked


def largest(problem: Problem, who: str, name: str, count: int) -> Asked:
    return Asked(Largest(_check.count(who, name, count, "S", problem.layout.keys)))


def received(problem: Problem, queries: Any) -> Asked:
    if queries is None:
        return Asked(Received())
    chosen = _indicator("received", "queries", queries, problem.layout.queries)
    return Asked(Received(True), (_constant(problem, chosen[:, None]),))


def mass(problem: Problem, keys: Any) -> Asked:
    xp, place = problem.xp, problem.layout
    keys = np.asarray(keys) if isinstance(keys, (list, tuple)) and np.ndim(keys) > 1 else keys
    if not _one_for_each_example(keys):
        return Asked(Mass(), (_constant(problem, _indicator("mass", "keys", keys, place.keys)[None, :]),))
    _check.sets_of_keys(f"{WHO}.mass", xp, place, keys)
    numbers = xp.cast(xp.asarray(keys, problem.query.array), problem.dtype)
    return Asked(Mass(), (place.per_example(xp, numbers, (False, True)),))


def _one_for_each_example(keys: Array) -> bool:
    """Whether these are sets of keys."""
    found = backend_of(keys)
    return found is not None and found.obstacle(keys) is None and len(found.shape(keys)) > 1


def pool(problem: Problem, rows: int, columns: int, reduce: str = "mean") -> Asked:
    place = problem.layout
    _check.pool(WHO, rows, columns, reduce, place.queries, place.keys)
    of_rows, of_columns = _bins(place.queries, rows), _bins(place.keys, columns)
    extras = [_constant(problem, of_rows[:, None]), _constant(problem, of_columns[None, :])]
    if reduce == "mean":
        sizes = (np.bincount(bins, minlength=bins[-1] + 1) for bins in (of_rows, of_columns))
        extras += [_constant(problem, size.astype(np.float64)[None, None, :], 1) for size in sizes]
    return Asked(Pool(rows, columns, reduce, place.queries), tuple(extras))


def _bins(size: int, bins: int) -> np.ndarray:
    """The bin of each of `size` positions: bin b begins at floor(b size / bins)."""
    return ((np.arange(size) + 1) * bins - 1) // size


def _constant(problem: Problem, array: np.ndarray, features: int = 0) -> Operand:
    """A NumPy array `(T or 1, S or 1, features)` as an operand that is the same for all heads."""
    place = problem.layout
    dtype = problem.dtype if array.dtype.kind == "f" else "int32"
    array = array.reshape((1,) * (len(place.lead) + 1) + array.shape).astype(dtype)
    return place.operand(problem.xp, problem.xp.asarray(array, problem.query.array), features)


def _indicator(method: str, name: str, chosen: Any, size: int) -> np.ndarray:
    """Which of `size` positions are chosen, as floating point."""
    indices = _check.positions(f"{WHO}.{method}", name, chosen, size)
    return np.bincount(indices, minlength=size).clip(max=1).astype(np.float64)
