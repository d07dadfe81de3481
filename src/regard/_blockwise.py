"""The exact O(n) algorithm, once, in verbs: tiles of scores, the softmax, the questions, and their gradients.

A *sweep* evaluates a function on every block of the (queries x keys) plane and puts the results together: side
by side along an axis that a result has, added along one that it has not. A block is some consecutive queries and
the one span of keys that they may see, so within it every row is complete and there is nothing to merge. The
gradient of a sweep is a sweep of the gradients (`Pullback`): each tile is computed again and let go, so memory
stays linear in the length.

That gradient is a sweep with a gradient of its own, so derivatives of any order need no more.

Letters of shapes: lead `(*batch, key heads)`, R repeats, t queries and s keys of a block, T and S of all, D and E
widths; see `_layout.py`.

Source: the backward pass by computing tiles again is that of FlashAttention (Dao et al. 2022, arXiv 2205.14135,
algorithm 4), but for the log-sum-exp, which a tile of complete rows finds itself; linear memory by blocks is from Rabe
and Staats 2021, arXiv 2112.05682.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from regard._backends.protocol import Array, Backend
from regard._rules import Where


@dataclass(frozen=True)
class Block:
    """One slice for every axis of block space; `masked` says whether any of its tile may be invisible."""

    starts: tuple
    sizes: tuple
    masked: bool

    def index(self, axes: tuple[bool, ...]) -> tuple[slice, ...]:
        """As slices of an array that varies along `axes`."""
        return tuple(
            slice(start, start + size) if varies else slice(None)
            for start, size, varies in zip(self.starts, self.sizes, axes, strict=True)
        )

    def window(self, axes: tuple[bool, ...], shape: Sequence[int]) -> tuple[tuple, tuple]:
        """As starts and static sizes of an array of this shape, features and all."""
        features = len(shape) - len(axes)
        starts = [start if varies else 0 for start, varies in zip(self.starts, axes, strict=True)]
        sizes = [size if varies else 1 for size, varies in zip(self.sizes, axes, strict=True)]
        return (*starts, *(0,) * features), (*sizes, *shape[len(shape) - features :])

    def where(self, xp: Backend, like: Array, shift: Any) -> Where:
        """The positions of its tile."""
        queries = xp.arange(self.starts[-2], self.sizes[-2], like)
        keys = xp.arange(self.starts[-1], self.sizes[-1], like)
        return Where(queries[:, None], keys[None, :], shift, tuple(zip(self.starts[:-2], self.sizes[:-2], strict=True)))

    def moved(self, starts: tuple) -> Block:
        return replace(self, starts=starts)


@dataclass(frozen=True)
class Output:
    """A result of a sweep: its shape, along which block axes it varies, how blocks come together."""

    shape: tuple
    axes: tuple[bool, ...]
    dtype_name: str
    merge: str = "add"
    nothing: int | float = 0  # what it is where there are no keys
    optional: bool = False  # a graph need not compute it where nobody uses it

    @property
    def before(self) -> float:
        """What it is before any block has come: what changes nothing that it is merged with."""
        return 0.0 if self.merge == "add" else -math.inf


@dataclass(frozen=True)
class Sweep:
    """A function, the blocks to evaluate it on, and what comes out. Equal sweeps hash alike."""

    xp: Any  # a module of _backends
    function: Callable
    grid: Any
    operand_axes: tuple[tuple[bool, ...], ...]
    outputs: tuple[Output, ...]
    kernel: str = "auto"  # what the caller asked for by name
    compiled: Callable | None = None  # what may give its results instead, see `_compiled.run`

    def __call__(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        """The results; where an axis is of size 0, of nothing."""
        if not self.grid.empty:
            found = None if self.compiled is None else self.compiled(self, operands)
            return self.xp.sweep(self, operands) if found is None else found
        zeros = (self.xp.zeros(output.shape, output.dtype_name, operands[0]) for output in self.outputs)
        return tuple(array + output.nothing for array, output in zip(zeros, self.outputs, strict=True))

    def evaluate(self, operands: Sequence[Array], block: Block) -> Sequence[Array]:
        pieces = [self.xp.cut(array, block, axes) for array, axes in zip(operands, self.operand_axes, strict=True)]
        where = block.where(self.xp, operands[0], self.grid.shift)
        return self.function(self.xp, pieces, where, block.masked)


@dataclass(frozen=True)
class Scores:
    """How scores are formed: scaled products, then softcap, bias and mask. Takes query, key and the rules' leaves."""

    scale: float
    softcap: float | None = None
    bias: Any = None
    mask: Any = None

    @property
    def operands(self) -> int:
        return 2 + sum(rule.leaves for rule in (self.bias, self.mask) if rule is not None)

    def __call__(self, xp: Backend, operands: Sequence[Array], where: Where, masked: bool) -> Array:
        """S = cap(scale q k^T) + bias, -inf where unseen: `(*lead, R, t, s)`."""
        query, key, *leaves = operands[: self.operands]
        scores = product(xp, query * self.scale, key)
        if self.softcap is not None:
            scores = self.softcap * xp.tanh(scores / self.softcap)
        if self.bias is not None:
            scores = scores + self.bias.added(xp, where, leaves[: self.bias.leaves])
        visible = self.visible(xp, leaves, where) if masked else None
        return scores if visible is None else xp.where(visible, scores, -math.inf)

    def visible(self, xp: Backend, leaves: Sequence[Array], where: Where) -> Array | None:
        if self.mask is None:
            return None
        return self.mask.visible(xp, where, leaves[0 if self.bias is None else self.bias.leaves :])


def product(xp: Backend, query: Array, key: Array) -> Array:
    """q k^T: `(*lead, R, t, 1, D)` and `(*lead, 1, 1, s, D)` to `(*lead, R, t, s)`, one product for all repeats."""
    *lead, repeats, rows, _, width = xp.shape(query)
    *key_lead, _, _, columns, _ = xp.shape(key)
    folded = xp.reshape(query, (*lead, repeats * rows, width))
    scores = xp.outer(folded, xp.reshape(key, (*key_lead, columns, width)))
    return xp.reshape(scores, (*xp.shape(scores)[:-2], repeats, rows, columns))


def weighted(xp: Backend, weights: Array, values: Array, careful: bool = False) -> Array:
    """P x: `(*lead, R, t, s)` and `(*lead, R or 1, 1, s, X)` to `(*lead, R, t, 1, X)`.

    With `careful`, inf and NaN among the values reach only the rows with a weight on them (0 x NaN is NaN).
    """
    if careful:
        kept = xp.where(abs_finite(xp, values), values, 0.0)
        spoiled = xp.cast(xp.sum(xp.cast(~abs_finite(xp, values), "float32"), -1) > 0, xp.dtype_name(values))
        result = weighted(xp, weights, xp.concatenate([kept, spoiled], -1))
        return xp.where(result[..., -1:] > 0, math.nan, result[..., :-1])
    *lead, repeats, rows, columns = xp.shape(weights)
    *value_lead, value_repeats, _, _, width = xp.shape(values)
    if isinstance(value_repeats, int) and value_repeats == 1:
        folded = xp.reshape(weights, (*lead, repeats * rows, columns))
        result = xp.matmul(folded, xp.reshape(values, (*value_lead, columns, width)))
        return xp.reshape(result, (*xp.shape(result)[:-2], repeats, rows, 1, width))
    result = xp.matmul(weights, xp.reshape(values, (*value_lead, value_repeats, columns, width)))
    return xp.reshape(result, (*xp.shape(result)[:-1], 1, width))


def abs_finite(xp: Backend, array: Array) -> Array:
    return xp.abs(array) < math.inf


class Softmax(NamedTuple):
    """The softmax of complete rows of scores S, its largest score and the logarithm of its sum kept apart.

    Their sum, the log-sum-exp, is one rounded number: of scores near -1e9 it does not know the logarithm at all.
    """

    largest: Array  # m, 0 in a row that sees nothing: `(*lead, R, t, 1)`
    rest: Array  # log sum_j exp(S - m), -inf in such a row
    shifted: Array  # S - m
    weights: Array  # exp(S - m) over the sum


def softmax(xp: Backend, scores: Array) -> Softmax:
    shifted, exponentials, total, largest = _exponentials(xp, scores)
    return Softmax(largest, logarithm(xp, total), shifted, exponentials / divisor(xp, total))


def _exponentials(xp: Backend, scores: Array) -> tuple[Array, Array, Array, Array]:
    """S - m, exp(S - m), their sum, and m; it passes for constant, since nothing depends on its choice."""
    largest = xp.stop_gradient(xp.max(scores, -1))
    largest = xp.where(largest == -math.inf, 0.0, largest)
    shifted = scores - largest
    exponentials = xp.exp(shifted)
    return shifted, exponentials, xp.sum(exponentials, -1), largest


def divisor(xp: Backend, total: Array) -> Array:
    """A sum of exponentials to divide by: 1 where there are none, so that nothing, no gradient either, is over 0."""
    return xp.where(total == 0, 1.0, total)


def logarithm(xp: Backend, total: Array) -> Array:
    return xp.where(total == 0, -math.inf, xp.log(divisor(xp, total)))


def in_parts(xp: Backend, largest: Array, rest: Array) -> Array:
    """A log-sum-exp as two numbers that are not added, `(..., 2)`: the largest score, and the logarithm of the sum.

    Only both together have a gradient: that of the log-sum-exp is the same for each of the two.
    """
    return xp.concatenate([largest[..., None], rest[..., None]], -1)


def weights_of(xp: Backend, scores: Array, parts: Array) -> Array:
    """P = exp((S - m) - rest) of rows that need not be complete; 0 in a row that sees nothing."""
    largest, rest = parts[..., 0], parts[..., 1]
    return xp.exp(scores - largest - xp.where(rest == -math.inf, 0.0, rest))


@dataclass(frozen=True)
class Attend:
    """Output and log-sum-exp, in parts, of a block: softmax, then the weighted sum of the values.

    The last operands are the seed, where weights are dropped, and the values. `in_verbs` is for what is differentiated:
    then the softmax is not the framework's, whose gradient takes more passes over a tile.
    """

    scores: Scores
    drop: Any = None
    careful: bool = False
    in_verbs: bool = False

    @property
    def operands(self) -> int:
        return self.scores.operands + (1 if self.drop is None else 2)

    def differentiated(self) -> Attend:
        return replace(self, in_verbs=True)

    def __call__(self, xp: Backend, operands: Sequence[Array], where: Where, masked: bool) -> tuple[Array, Array]:
        scores = self.scores(xp, operands, where, masked)
        rest = None
        if self.in_verbs:
            _, weights, total, largest = _exponentials(xp, scores)
        else:
            weights, total, largest, rest = xp.softmax(scores, masked or self.scores.bias is not None)
        output = self.output(xp, weights, operands, where, masked)
        if total is not None:
            output = output / divisor(xp, total)[..., None]
        rest = logarithm(xp, total) if rest is None else rest
        return xp.where(rest[..., None] == -math.inf, 0.0, output), in_parts(xp, largest, rest)

    def output(self, xp: Backend, weights: Array, operands: Sequence[Array], where: Where, masked: bool) -> Array:
        if self.drop is not None:
            weights = self.drop(xp, weights, where, operands[-2])
        return weighted(xp, weights, operands[-1], self.careful and masked)


@dataclass(frozen=True)
class Drop:
    """Dropout of weights by a hash of (seed, head, i, j): the same for every block size and in every framework.

    The seed is an operand, so that one compiled function has another at every step.
    """

    probability: float

    def __call__(self, xp: Backend, weights: Array, where: Where, seed: Array) -> Array:
        bits = seed
        for place, (start, size) in enumerate(where.heads):
            index = xp.arange(start, size, weights)
            bits = xp.mix(bits, xp.reshape(index, (size, *(1,) * (len(where.heads) + 1 - place))))
        bits = xp.mix(xp.mix(bits, where.queries), where.keys)
        kept = xp.where(xp.fraction(bits) >= self.probability, weights, 0.0)
        return kept / (1 - self.probability)


@dataclass(frozen=True)
class Pullback:
    """The gradients of a block function for some of its operands; the cotangents are operands behind the others.

    Behind them are those results of all blocks together that are the largest of theirs, `largest` of the results: only
    the block that has it has a gradient.
    """

    function: Callable
    wanted: tuple[int, ...]
    given: tuple[int, ...]
    largest: tuple[int, ...] = ()

    def __call__(self, xp: Backend, operands: Sequence[Array], where: Where, masked: bool) -> Sequence[Array]:
        inputs = list(operands[: len(operands) - len(self.given) - len(self.largest)])
        cotangents = operands[len(inputs) : len(inputs) + len(self.given)]
        together = dict(zip(self.largest, operands[len(operands) - len(self.largest) :], strict=True))

        def function(*chosen: Array) -> tuple:
            for place, array in zip(self.wanted, chosen, strict=True):
                inputs[place] = array
            results = list(self.function(xp, inputs, where, masked))
            for number, largest in together.items():
                results[number] = xp.where(results[number] == largest, results[number], 0.0)
            return tuple(results[number] for number in self.given)

        return xp.vjp(function, [inputs[place] for place in self.wanted], cotangents)


def gradients(sweep: Sweep, operands: Sequence[Array], wanted: Sequence[bool], cotangents: Sequence[Any]) -> tuple:
    """What a sweep's results' cotangents (None for no gradient) give for its operands, None where not wanted."""
    xp = sweep.xp
    given = tuple(
        number
        for number, (output, cotangent) in enumerate(zip(sweep.outputs, cotangents, strict=True))
        if cotangent is not None and "float" in output.dtype_name
    )
    places = tuple(place for place, want in enumerate(wanted) if want)
    if not given or not places:
        return (None,) * len(operands)
    largest = tuple(number for number in given if sweep.outputs[number].merge == "max")
    together = [xp.stop_gradient(array) for array in (sweep(operands) if largest else ())]
    back = Sweep(
        xp,
        Pullback(sweep.function, places, given, largest),
        sweep.grid,
        (*sweep.operand_axes, *(sweep.outputs[number].axes for number in (*given, *largest))),
        tuple(
            Output(xp.shape(operands[place]), sweep.operand_axes[place], xp.dtype_name(operands[place]))
            for place in places
        ),
        sweep.kernel,
        sweep.compiled,
    )
    beside = (*(cotangents[number] for number in given), *(together[number] for number in largest))
    pulled = differentiable(back, (*operands, *beside))
    found = dict(zip(places, pulled, strict=True))
    return tuple(found.get(place) for place in range(len(operands)))


def differentiable(sweep: Sweep, operands: Sequence[Array]) -> tuple[Array, ...]:
    """The results of a sweep, with gradients wherever the framework has them, and theirs in turn."""
    return sweep.xp.differentiable(sweep, partial(pulled_back, sweep), operands)


def pulled_back(sweep: Sweep, operands: Sequence[Array], cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
    return gradients(sweep, operands, wanted, cotangents)
