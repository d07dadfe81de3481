"""What edits make of one attention: which keys its heads see, how sharply, and what comes out of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from regard import _check, masks
from regard._backends.protocol import Array, Backend
from regard._layout import Layout, Operand
from regard._problem import Problem
from regard._rules import Where
from regard.attention import attended, placed
from regard.biases import BiasForm
from regard.errors import ShapeError
from regard.masks import Mask
from regard.masks.forms import Both
from regard.weights import AttentionWeights


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit, of the heads with these numbers, or all: see `regard.edit`."""

    heads: list[int] | None = None
    output: Any = None
    mask: Mask | None = None
    scale: float | None = None
    uniform: bool = False

    def of(self, heads: int) -> np.ndarray:
        """Which heads of so many it is about."""
        chosen = np.full(heads, self.heads is None)
        if self.heads is not None:
            chosen[_check.positions("edit", "heads", self.heads, heads)] = True
        return chosen

    @property
    def of_weights(self) -> bool:
        return self.mask is not None or self.scale is not None or self.uniform


@dataclass(frozen=True)
class Gated:
    """An output that is the heads' own plus `gate` times what another would change of it.

    The gradient of a gate that is 0 is the first-order estimate of what the other does. (Compare Michel et al. 2019,
    arXiv 1905.10650, equation 2.)
    """

    other: Any
    gate: Callable[[Array], Array]


class Change:
    """All edits of one attention, the outer ones first.

    Masks are combined by and, scales by product; of two outputs for a head the inner one counts.
    """

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._patterns = [edit for edit in edits if edit.of_weights]
        self._outputs = [edit for edit in edits if edit.output is not None]

    def weights(self, weights: AttentionWeights) -> AttentionWeights:
        """Those that the edits make of a model's, still lazy."""
        return reduce(_edited, self._patterns, weights)

    def apply(self, weights: AttentionWeights, value: Array, plain: Callable[[], Array]) -> Array:
        """The output `(..., H, T, E)`, where `plain` gives that of the model."""
        return self.replaced(weights, self.attended(weights, value, plain))

    def attended(self, weights: AttentionWeights, value: Array, plain: Callable[[], Array]) -> Array:
        """The output with the edited weights: heads without an edit are the model's own, to the bit."""
        heads = _heads(weights)
        chosen = np.flatnonzero(sum((edit.of(heads) for edit in self._patterns), np.zeros(heads)))
        if not len(chosen):
            return plain()
        xp = weights._xp
        if len(chosen) == heads:
            return attended(self.weights(weights), value)
        groups = xp.shape(value)[-3]
        their = xp.take(value, xp.asarray(chosen // (heads // groups), value), len(xp.shape(value)) - 3)
        return _put(xp, plain(), chosen, attended(self._of(chosen, heads).weights(weights.heads(chosen)), their))

    def replaced(self, weights: AttentionWeights, output: Array) -> Array:
        """An output with that of whole heads replaced; `weights` say which positions are real."""
        heads, xp = _heads(weights), weights._xp
        for edit in self._outputs:
            chosen = np.flatnonzero(edit.of(heads))
            axis = len(xp.shape(output)) - 3
            old = output if len(chosen) == heads else xp.take(output, xp.asarray(chosen, output), axis)
            output = _put(xp, output, chosen, _replacement(edit.output, weights, old))
        return output

    def _of(self, chosen: np.ndarray, heads: int) -> Change:
        """The same for some of so many heads alone, by their new numbers."""
        return Change(
            [
                edit if edit.heads is None else replace(edit, heads=np.flatnonzero(edit.of(heads)[chosen]).tolist())
                for edit in self._patterns
            ]
        )


def _heads(weights: AttentionWeights) -> int:
    return int(weights.shape[-3]) if weights.ndim > 2 else 1


def _edited(weights: AttentionWeights, edit: Edit) -> AttentionWeights:
    """Weights with one edit of some of their heads."""
    problem, chosen = weights._problem, edit.of(_heads(weights))
    if edit.mask is not None:
        problem = _masked(problem, edit.mask, chosen)
    if edit.uniform:
        problem = _scaled(_levelled(problem, chosen), 0.0, chosen)
    if edit.scale is not None:
        problem = _scaled(problem, edit.scale, chosen)
    return AttentionWeights(problem, kernel="blockwise", reason="edited")


def _masked(problem: Problem, rule: Mask, chosen: np.ndarray) -> Problem:
    """With fewer keys for the chosen heads to see."""
    if not chosen.all():
        rule = rule | masks.boolean(~chosen[:, None, None])
    leaves = placed("mask", problem.xp, problem.layout, rule, problem.query.array)
    scores = problem.scores
    form = rule.form if scores.mask is None else Both(scores.mask, rule.form)
    return replace(problem, scores=replace(scores, mask=form), leaves=(*problem.leaves, *leaves))


def _scaled(problem: Problem, factor: float, chosen: np.ndarray) -> Problem:
    """With scores of query and key that many times as large."""
    if chosen.all():
        return replace(problem, scores=replace(problem.scores, scale=problem.scores.scale * factor))
    xp, query = problem.xp, problem.query
    factors = np.where(chosen, factor, 1.0)[:, None, None, None].astype(problem.dtype)
    several = problem.layout.from_heads(xp, xp.asarray(factors, query.array), 3)
    array = query.array * xp.cast(several, xp.dtype_name(query.array))
    return replace(problem, query=problem.layout.operand(xp, array, 1))


def _levelled(problem: Problem, chosen: np.ndarray) -> Problem:
    """With a bias of the chosen heads that hides keys, if it is so low, and else prefers none."""
    bias = problem.scores.bias
    if bias is None:
        return problem
    xp, place = problem.xp, problem.layout
    which = place.rule(xp, xp.asarray(chosen[:, None, None], problem.query.array))
    own, rest = problem.leaves[: bias.leaves], problem.leaves[bias.leaves :]
    return replace(problem, scores=replace(problem.scores, bias=Levelled(bias)), leaves=(which, *own, *rest))


def level(problem: Problem) -> Problem:
    """With all keys that a query may see alike: no weight of theirs is 0, every other is."""
    everything = np.ones(problem.layout.outer[-1] if problem.layout.outer else 1, bool)
    return _scaled(_levelled(problem, everything), 0.0, everything)


@dataclass(frozen=True)
class Levelled:
    """A bias without preferences in some heads: 0 but where it is as low as what stands for minus infinity."""

    form: BiasForm

    @property
    def leaves(self) -> int:
        return 1 + self.form.leaves

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        raise NotImplementedError  # made of what is placed

    def added(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array:
        before = self.form.added(xp, where, leaves[1:])
        return xp.where(leaves[0] & (before > LOWEST), before * 0, before)

    def gradients(self, where: Where, leaves: Sequence[Any], of_tile: np.ndarray) -> list[np.ndarray]:
        rest = np.where(leaves[0], 0, of_tile)
        return [np.zeros_like(of_tile), *self.form.gradients(where, leaves[1:], rest)]

    def __str__(self) -> str:
        return f"levelled({self.form})"


LOWEST = -1e4
"""A bias as low as this stands for minus infinity: some models hide by the least number of float16, or by this one."""


def _replacement(wanted: Any, weights: AttentionWeights, old: Array) -> Array:
    """What the output `(..., h, T, E)` of heads becomes."""
    xp = weights._xp
    if isinstance(wanted, Gated):
        return old + wanted.gate(old) * (_replacement(wanted.other, weights, old) - old)
    if isinstance(wanted, str):
        return xp.zeros(xp.shape(old), xp.dtype_name(old), old) if wanted == "zero" else _mean(weights, old)
    given = xp.cast(xp.asarray(wanted, old), xp.dtype_name(old))
    try:
        return xp.broadcast_to(given, xp.shape(old))
    except Exception as error:  # each framework has its own
        raise ShapeError(
            f"edit: need an output that broadcasts to the chosen heads' {_check.spelled(xp.shape(old))}; got "
            f"{_check.spelled(xp.shape(given))}."
        ) from error


def _mean(weights: AttentionWeights, old: Array) -> Array:
    """The mean over the positions that are real, at each position."""
    xp, sizes = weights._xp, weights._xp.shape(old)
    axis, real = len(sizes) - 2, real_queries(weights)
    if real is None:
        return xp.broadcast_to(xp.sum(old, axis) / sizes[axis], sizes)
    real = xp.cast(real, xp.dtype_name(old))
    return xp.broadcast_to(xp.sum(old * real, axis) / xp.maximum(xp.sum(real, axis), 1.0), sizes)


def real_queries(weights: AttentionWeights) -> Array | None:
    """Which queries are real, `(..., 1, T, 1)`: in self-attention those that some query may see as a key, else all."""
    *_, queries, keys = weights.shape
    problem = weights._problem
    if queries != keys or problem.scores.mask is problem.scores.bias is None:
        return None
    xp = weights._xp
    seen = xp.max(xp.stop_gradient(AttentionWeights(level(problem)).received()), len(weights.shape) - 3)[..., None]
    return seen > 0


def _put(xp: Backend, output: Array, chosen: np.ndarray, new: Array) -> Array:
    """An output with that of the chosen heads replaced."""
    axis = len(xp.shape(output)) - 3
    heads = xp.shape(output)[axis]
    if len(chosen) == heads:
        return new
    places = np.arange(heads)
    places[chosen] = heads + np.arange(len(chosen))
    return xp.take(
        xp.concatenate([output, xp.cast(new, xp.dtype_name(output))], axis), xp.asarray(places, output), axis
    )
