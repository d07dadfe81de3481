"""What a model attended to while it wrote, step by step with a cache, as one attention over the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from regard import biases, masks
from regard._backends import to_numpy
from regard._problem import Problem
from regard.attention import make_problem
from regard.errors import UnsupportedError
from regard.models.editing import LOWEST, level
from regard.weights import AttentionWeights

ROWS = 64  # whose visibility is looked at together


def joined(name: str, runs: Sequence[AttentionWeights]) -> AttentionWeights:
    """The runs of one attention as one of `(B, H, T, S)`: the queries of all runs, and their keys, still lazy.

    Raises:
        UnsupportedError: Runs that are not steps of one text, or whose masks are no rule over the whole of it.
    """
    xp, scores = runs[-1]._xp, runs[-1]._problem.scores
    across = _reads_another(name, runs)
    query = xp.concatenate([_queries(weights) for weights in runs], -2)
    key = _keys(runs[-1]) if across else xp.concatenate([_newest(weights) for weights in runs], -2)
    _require_the_same(name, runs[-1], key)
    rule = _rule(name, runs, int(key.shape[-2]), across)
    with xp.recording():
        problem, _ = make_problem(xp, query, key, key, mask=rule, scale=scores.scale, softcap=scores.softcap)
    return AttentionWeights(problem, kernel="the model's own", reason="watched, joined")


def _queries(weights: AttentionWeights) -> Any:
    """`(..., H, T, D)`."""
    array = weights._problem.query.array
    return weights._xp.reshape(array, (*weights.shape[:-1], array.shape[-1]))


def _keys(weights: AttentionWeights) -> Any:
    """`(..., H, S, D)`: one for each query head, since the runs of a model may repeat them or not."""
    xp, place, array = weights._xp, weights._layout, weights._problem.key.array
    *lead, _, _, length, width = array.shape
    grouped = xp.reshape(array, (*lead, 1, length, width))
    whole = xp.broadcast_to(grouped, (*lead, place.repeats, length, width))
    return xp.reshape(whole, (*lead[:-1], lead[-1] * place.repeats, length, width))


def _newest(weights: AttentionWeights) -> Any:
    """The keys of a run's own queries, which stand last."""
    return _keys(weights)[..., int(weights.shape[-1] - weights.shape[-2]) :, :]


def _reads_another(name: str, runs: Sequence[AttentionWeights]) -> bool:
    """Whether it is the same keys that all runs read, as of an encoder; refuses what is neither that nor one text."""
    first, *rest = runs
    if any(weights._problem.share is not None for weights in runs):
        raise _refused(name, "sinks", "ask each step for its weights")
    alike = all(weights.shape[:-2] == first.shape[:-2] for weights in rest)
    own = first.shape[-2] == first.shape[-1]
    if alike and own and all(weights.shape[-2] < weights.shape[-1] for weights in rest):
        return False
    if alike and all(weights.shape[-1] == first.shape[-1] for weights in rest) and not own:
        return True
    shapes = " then ".join(str(tuple(weights.shape)) for weights in runs[:3])
    raise _refused(name, f"runs of {shapes}", "watch one text at a time, with a cache")


def _require_the_same(name: str, last: AttentionWeights, key: Any) -> None:
    """Refuse keys that the last run knows otherwise than those before it, of which a search has taken other beams."""
    own = _keys(last)
    if not bool((to_numpy(own) == to_numpy(key[..., int(key.shape[-2] - own.shape[-2]) :, :])).all()):
        raise _refused(name, "keys that changed from step to step, as in a search with beams", "generate with one beam")


def _rule(name: str, runs: Sequence[AttentionWeights], keys: int, across: bool) -> masks.Mask | None:
    """The mask of all runs together: what every query may see of the keys that are no padding."""
    ends = np.cumsum([weights.shape[-2] for weights in runs]) if not across else [keys] * len(runs)
    several = [_visible(name, weights, keys, int(end)) for weights, end in zip(runs, ends, strict=True)]
    rows = np.concatenate(_alike(several), -2)  # (B or 1, T, S)
    real = np.asarray(rows.any(-2, keepdims=True))
    if across:
        expected, rule = np.array(np.broadcast_to(real, rows.shape)), None
    else:
        distance = np.arange(keys)[:, None] - np.arange(keys)
        farthest = int(np.where(rows, distance, 0).max())
        limited = farthest < keys - 1
        window = (distance >= 0) & (distance <= farthest)
        expected = np.array(real & window)
        rule = masks.window(farthest, 0) if limited else masks.causal()
    counted = np.ones(rows.shape[:-1], bool) if across else np.swapaxes(real, -1, -2)[..., 0]
    if (rows != expected)[counted].any():
        raise _refused(name, "masks that are no window over the whole text", "ask each step for its weights")
    if real.all():
        return rule
    padding = masks.boolean(real[:, None])
    return padding if rule is None else rule & padding


def _alike(several: list[np.ndarray]) -> list[np.ndarray]:
    """Of as many examples."""
    examples = max(len(each) for each in several)
    return [np.broadcast_to(each, (examples, *each.shape[1:])) for each in several]


def _visible(name: str, weights: AttentionWeights, keys: int, end: int) -> np.ndarray:
    """Which keys each query of one run may see, `(B or 1, T, keys)`, a few rows at a time; its last stands at `end`."""
    problem = weights._problem
    if any(leaf.axes[-4] or leaf.axes[-3] for leaf in problem.leaves):
        raise _refused(name, "a mask or a bias that differs from head to head", "ask each step for its weights")
    if problem.scores.bias is not None and not _only_hides(problem):
        raise _refused(name, "a bias that prefers some keys", "ask each step for its weights")
    even = AttentionWeights(level(problem)).heads([0])
    if not any(leaf.axes[0] for leaf in problem.leaves):
        even = even[:1]
    *_, queries, own = weights.shape
    found = np.zeros((even.shape[0], queries, keys), bool)
    for start in range(0, queries, ROWS):
        tile = to_numpy(even[..., start : start + ROWS, :])
        found[:, start : start + ROWS, end - own : end] = tile[:, 0] > 0
    return found


def _only_hides(problem: Problem) -> bool:
    """Whether a bias is a mask in numbers: of each key nothing, or what stands for minus infinity."""
    bias = problem.scores.bias
    if not isinstance(bias, biases.Values):
        return False
    added = to_numpy(problem.leaves[0].array)
    return bool(((added == 0) | (added <= LOWEST)).all())


def _refused(name: str, what: str, instead: str) -> UnsupportedError:
    return UnsupportedError(
        f"joined: need steps of one text, each behind the one before; {name} has {what}; {instead}."
    )
