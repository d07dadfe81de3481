"""AttentionWeights: an exact matrix of n x n weights, of which tiles are made to answer questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from regard import _asking, _check
from regard._asking import WHO, Asked
from regard._backends import backend_named
from regard._backends.protocol import SMALL, Array
from regard._indexing import Index, Selection, arranged, for_heads, read, select
from regard._layout import Layout, Operand, itemsize, nbytes
from regard._problem import Problem
from regard._questions import (
    ArgMax,
    Distance,
    Entropy,
    GradientWeighted,
    LogSumExp,
    Max,
    MaxScore,
    Product,
    Question,
)
from regard._tensors import Tensorlike, _densely, lazily
from regard._tiles import Tiles
from regard._transposed import TransposedWeights
from regard.errors import OutOfRangeError, TooLargeError


class AttentionWeights(Tensorlike):
    """The weights P = exp(S - L) of one attention: exact, lazy, `(..., H, T, S)`.

    What is kept is the query, the key, the rules (mask, bias, ...) and the log-sum-exp L of each row: O(T + S)
    numbers. Each question computes the tiles it needs again and lets them go, in one pass over the scores; ask
    several at once with `ask`. Statistics come in float32 or, for float64, in float64; tiles and `dense` in the
    type of the query.

    Gradients: log-sum-exp, entropy, received, mass, distance, products, largest weights, pooled maps and tiles carry
    gradients of any order to query, key, bias and sinks in PyTorch, TensorFlow and JAX, by computing each tile once
    more; forward mode works in PyTorch and JAX.

    Under `jax.jit` it can be returned and passed (it is a pytree; `jax.vmap` would change its shape unseen, so let it
    map over the answers); under `tf.function` and `torch.compile` ask your
    questions inside. `dense`, tiles with NumPy indices and all questions work in all three.

    Where a tensor is expected: the names of a tensor of its framework, operators and functions work on `dense()`;
    PyTorch's `.to`, `.cpu`, `.detach`, `.squeeze`, `.size`, `.device` and the like leave it lazy. Copies and pickles
    are without gradients, `copy.copy` with.

    Source: design and prior art are told in the documentation under "Lazy weights".
    """

    __slots__ = ("__weakref__", "_answers", "_logsumexp", "_made_of", "kernel", "reason")

    def __init__(
        self,
        problem: Problem | Callable[[], tuple[Problem, Array | None]],
        logsumexp: Array | None = None,
        kernel: str = "blockwise",
        reason: str = "",
        answers: dict[Question, Any] | None = None,
    ) -> None:
        """Of a problem and, if it is known, its log-sum-exp; or of what makes both when they are needed.

        `answers` are known already.
        """
        self._made_of = problem
        self._logsumexp = logsumexp
        self.kernel = kernel
        self.reason = reason
        self._answers = answers or {}
        if isinstance(problem, Problem):
            problem.xp.register(AttentionWeights)

    def _flatten(self) -> tuple[tuple, tuple]:
        """Its arrays, and all else, which can be compared and hashed: what JAX takes it apart into."""
        problem = self._problem
        share = () if problem.share is None else (problem.share,)
        operands = (problem.query, problem.key, *share, *problem.leaves)
        arrays = (*(operand.array for operand in operands), self._logsumexp)
        axes = tuple(operand.axes for operand in operands)
        rest = (bool(share), problem.given, problem.kernel, self.kernel, self.reason)
        return arrays, (problem.xp, problem.layout, problem.scores, axes, *rest)

    @classmethod
    def _unflatten(cls, rest: tuple, arrays: tuple) -> AttentionWeights:
        """The reverse of `_flatten`."""
        xp, layout, scores, axes, shared, given, asked, kernel, reason = rest
        *placed, logsumexp = arrays
        query, key, *leaves = (Operand(array, along) for array, along in zip(placed, axes, strict=True))
        share = leaves.pop(0) if shared else None
        problem = Problem(xp, layout, scores, query, key, tuple(leaves), given, share, asked)
        return cls(problem, logsumexp, kernel, reason)

    @property
    def _arrays(self) -> list[Array]:
        return [array for array in self._flatten()[0] if array is not None]

    def _mapped(self, function: Callable[[Array], Array], given: str | None = None) -> AttentionWeights:
        """The same of other arrays, such as those on another device; `given` is the type that tiles come in."""
        arrays, (*most, before, asked, kernel, reason) = self._flatten()
        arrays = tuple(None if array is None else function(array) for array in arrays)
        return self._unflatten((*most, given or before, asked, kernel, reason), arrays)

    def __copy__(self) -> AttentionWeights:
        return self._mapped(lambda array: array)

    def __reduce__(self) -> tuple:
        """Copies and pickles are without gradients, and without what makes weights later."""
        arrays, (xp, *rest) = self._mapped(self._xp.stop_gradient)._flatten()
        return _restored, (xp.name, tuple(rest), arrays)

    # What it is.

    @property
    def shape(self) -> tuple:
        """`(..., H, T, S)`."""
        return self._problem.layout.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """The type of the query, in which tiles come."""
        return self._xp.zeros((0,), self._problem.given, self._problem.query.array).dtype

    @property
    def logsumexp(self) -> Array:
        """log sum_j exp S_ij of each row, `(..., H, T)`; -inf for a query that may see no key."""
        return self._layout.to_caller(self._xp, self._xp.sum(self._along(), -1), (self._layout.queries,))

    @property
    def _problem(self) -> Problem:
        if not isinstance(self._made_of, Problem):
            self._made_of, self._logsumexp = self._made_of()
        return self._made_of

    @property
    def _xp(self) -> Any:
        return self._problem.xp

    @property
    def _layout(self) -> Layout:
        return self._problem.layout

    @property
    def _like(self) -> Array:
        return self._problem.query.array

    @property
    def _given(self) -> str:
        return self._problem.given

    def _without_numbers(self, name: str) -> Any:
        found = super()._without_numbers(name)
        return lazily(self, name) if found is None and self._xp.name == "torch" else found

    def _along(self) -> Array:
        """The log-sum-exp in block space, in one number or in parts; computed where nobody knew it."""
        problem = self._problem
        if self._logsumexp is None:
            [self._logsumexp] = problem.ask([LogSumExp()])
        return problem.connected(self._logsumexp)

    def _parts(self) -> Array:
        """The log-sum-exp as largest score and logarithm of the sum, see `_blockwise.in_parts`.

        In one number, as a fused kernel gives it, it is good enough for weights only while it is small.
        """
        xp, known = self._xp, self._logsumexp
        if known is not None and xp.shape(known)[-1] == 1:
            values = xp.concrete(known)
            if (
                values is None
                or np.abs(values, where=values > -math.inf, out=np.zeros_like(values)).max(initial=0) > SMALL
            ):
                self._logsumexp = None
        along = self._along()
        return along if xp.shape(along)[-1] == 2 else xp.concatenate([along, along * 0.0], -1)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        shape, dtype = _check.spelled(self.shape), self._problem.given
        why = f" ({self.reason})" if self.reason else ""
        what = f"shape={shape}, dtype={dtype}, {self._xp.name}, kernel={self.kernel}{why}"
        return f"AttentionWeights({what}, {self._memory()})"

    def _memory(self) -> str:
        try:
            kept, dense = _readable(self.nbytes), _readable(self._dense_bytes())
        except TypeError:  # sizes that a graph does not know yet
            return "sizes known as it runs"
        return f"keeps {kept}, dense would take {dense}"

    @property
    def nbytes(self) -> int:
        """Bytes of what it keeps: query, key, the rules' arrays and the log-sum-exp."""
        kept = sum(nbytes(self._xp, operand.array) for operand in self._problem.operands)
        return kept + math.prod((*self._layout.outer, self._layout.queries)) * itemsize(self._problem.dtype)

    def _dense_bytes(self) -> int:
        return math.prod(self.shape) * itemsize(self._problem.given)

    # Parts of it.

    def __getitem__(self, index: Any) -> Any:
        """Leading axes: lazy again. The last two: the array of that tile, and only that is computed.

        Indices mean what they mean in NumPy, in every framework: numbers (negative ones from the end), slices, `...`,
        None, and lists of numbers or booleans, of which several choose points: `weights[0, 0, [1, 2], [3, 4]]`.

        Raises:
            OutOfRangeError: An index beyond its axis.
            DtypeError: What is no index.
            UnsupportedError: Lists both of leading axes and of the last two.
        """
        found = read(index, self.shape)
        chosen = self._chosen(found.leading)
        return chosen if found.rows is None else chosen._indexed(found)

    def _indexed(self, index: Index) -> Array:
        computed = self._tiles.points if index.points else self._tiles.tile
        return arranged(self._xp, computed(index.rows, index.columns), index.axes, index.order)

    @property
    def _tiles(self) -> Tiles:
        return Tiles(self._problem, self._parts)

    def heads(self, heads: Any) -> AttentionWeights:
        """The weights of some of the heads, still lazy: `(..., len(heads), T, S)`.

        Args:
            heads: Numbers, also the same ones again; a slice, or a boolean for each.
        """
        outer = self._layout.outer
        if not outer:
            raise OutOfRangeError(f"{WHO}.heads: need weights (..., H, T, S); got {_check.spelled(self.shape)}.")
        chosen = _check.positions(f"{WHO}.heads", "heads", heads, outer[-1])
        return self._chosen(Selection((*(None,) * (len(outer) - 1), chosen), tuple(range(len(outer)))))

    def _chosen(self, selection: Selection) -> AttentionWeights:
        """The weights of some of each leading axis, still lazy."""
        if selection.everything:
            return self
        xp, place = self._xp, self._layout
        operands = [self._problem.query, self._problem.key, *self._problem.leaves]
        query, key, *leaves = (select(xp, place, operand, selection) for operand in operands)
        share, along = self._problem.share, self._logsumexp
        outer = selection.sizes(place.outer)
        layout = Layout(outer or (1,), 1, place.queries, place.keys, outer)
        if share is not None:
            share = layout.whole(xp, select(xp, place, share, selection))
        if along is not None:
            along = layout.whole(xp, select(xp, place, place.operand(xp, along, 1), selection)).array
        rules = (self._problem.scores, layout.whole(xp, query), key, tuple(leaves))
        problem = Problem(xp, layout, *rules, given=self._problem.given, share=share, kernel=self._problem.kernel)
        return AttentionWeights(problem, along, kernel=self.kernel, reason=self.reason)

    def dense(self, max_bytes: int = 2**30) -> Array:
        """All of it, `(..., H, T, S)`.

        Raises:
            TooLargeError: It would take more than `max_bytes`.
        """
        _check.most_bytes(f"{WHO}.dense", max_bytes)
        size = self._dense_bytes()
        if isinstance(size, int) and size > max_bytes:  # a graph may know it only as it runs
            raise TooLargeError(
                f"{WHO}.dense: need at most max_bytes = {_readable(float(max_bytes))}; got {_readable(size)} for shape "
                f"{self.shape}; ask for a tile weights[..., rows, columns], a map .pool(64, 64), a statistic, "
                "or raise max_bytes."
            )
        return self._tiles.everything()

    # Products.

    @property
    def T(self) -> TransposedWeights:  # noqa: N802 (NumPy's name)
        """The transpose of the last two axes, for `weights.T @ y`."""
        return TransposedWeights(self)

    def __matmul__(self, values: Array) -> Array:
        """`weights @ x`: exact sums of x `(..., S, X)` by the weights, `(..., H, T, X)`."""
        xp, values = self._xp, _densely(values)
        values = _check.multiplied(WHO, xp, values, self._problem.query.array, self._layout.keys, "S")
        operand = for_heads(xp, self._layout, values, keys=True)
        careful = self._problem.scores.mask is not None and self._problem.spoiled(operand)
        answer = self._answer(Asked(Product(xp.shape(values)[-1], careful), (operand,)))
        return xp.cast(answer, xp.dtype_name(values))

    def relevance(self, value: Array, gradient: Array, above: Array) -> Array:
        """Sums by the weights that mattered, sum_i max(P_ij (g_i . v_j), 0) y_i, for each key: `(..., H, S, Y)`.

        The gradient of a score with respect to the weight P_ij is g_i . v_j, where g is its gradient with respect to
        this attention's output. Nothing of size T x S is made.

        Args:
            value: The values of the attention, `(..., G, S, E)`.
            gradient: The gradient of the output, `(..., H, T, E)`.
            above: What is summed, y `(..., T, Y)`.

        Raises:
            ShapeError: Arrays of other shapes.

        Source: Chefer, Gur and Wolf 2021, arXiv 2103.15679, equation 5, before the mean over heads.
        """
        xp, place = self._xp, self._layout
        above = _check.multiplied(f"{WHO}.relevance", xp, above, self._problem.query.array, place.queries, "T")
        _check.pulled_back(f"{WHO}.relevance", xp, place, value, gradient)
        extras = (
            place.query(xp, xp.cast(gradient, self._problem.dtype)),
            place.key(xp, xp.cast(value, self._problem.dtype)),
            for_heads(xp, place, above, keys=False),
        )
        return self._answer(Asked(GradientWeighted(xp.shape(above)[-1]), extras))

    # Questions.

    def _ask(self, *asked: Asked) -> list[Any]:
        unknown = [each for each in asked if each.question not in self._answers]
        answers = self._answers
        if unknown:
            questions = [each.question for each in unknown]
            found = self._problem.ask(questions, [extra for each in unknown for extra in each.extras])
            answers = {**answers, **dict(zip(questions, found, strict=True))}
        return [answers[each.question] for each in asked]

    def _answer(self, asked: Asked) -> Any:
        return self._ask(asked)[0]

    def entropy(self) -> Array:
        """-sum_j P_ij log P_ij of each query, in nats, `(..., H, T)`; 0 for one that may see no key."""
        return self._answer(Asked(Entropy()))

    def received(self, queries: Any = None) -> Array:
        """How much attention each key receives, sum_i P_ij, `(..., H, S)`, from all queries or from some.

        Args:
            queries: Indices, a slice or a boolean array of T.
        """
        return self._answer(_asking.received(self._problem, queries))

    def mass(self, keys: Any) -> Array:
        """The weight that each query has on a set of keys, `(..., H, T)`.

        Args:
            keys: Indices, a slice, or a boolean array of `(S,)`; also `(B, S)`, a set for each example.

        Raises:
            ShapeError: Sets for other examples or of other keys.
        """
        return self._answer(_asking.mass(self._problem, keys))

    def max(self, *args: Any, **kwargs: Any) -> Any:
        """The largest weight of each query, `(..., H, T)`.

        With arguments, such as `dim=1`, that of the dense tensor.
        """
        if args or kwargs:
            return self._of_dense("max", *args, **kwargs)
        return self._answer(Asked(Max()))

    def argmax(self, *args: Any, **kwargs: Any) -> Any:
        """The key with the largest weight of each query, the first of equals, `(..., H, T)`, int32.

        With arguments, that of the dense tensor.
        """
        if args or kwargs:
            return self._of_dense("argmax", *args, **kwargs)
        return self._answer(Asked(ArgMax()))

    def topk(self, count: int, *args: Any, **kwargs: Any) -> Any:
        """The `count` largest weights of each query, descending, and the keys that have them: `(..., H, T, count)`.

        With more arguments, those of the dense tensor.
        """
        if args or kwargs:
            return self._of_dense("topk", count, *args, **kwargs)
        return self._answer(_asking.largest(self._problem, f"{WHO}.topk", "count", count))

    def max_score(self) -> Array:
        """The largest score of each query before the softmax, `(..., H, T)`: what QK-clip needs.

        Source: Kimi K2, arXiv 2507.20534, section 2.1.
        """
        return self._answer(Asked(MaxScore()))

    def distance(self) -> Array:
        """The mean distance attended over, sum_j P_ij |i + S - T - j|, in positions, `(..., H, T)`."""
        return self._answer(Asked(Distance()))

    def pool(self, rows: int, columns: int, reduce: str = "mean") -> Array:
        """A small map: means or maxima of rectangles, `(..., H, rows, columns)`.

        Row r begins at query floor(r T / rows), so that sizes differ by one at most; columns likewise.
        """
        return self._answer(_asking.pool(self._problem, rows, columns, reduce))

    def ask(self, *questions: str, **parameters: Any) -> dict[str, Any]:
        """Several questions in one pass over the scores.

        Args:
            questions: Names of questions that need no argument: "entropy", "received", "max", "argmax", "max_score",
                "distance".
            parameters: Questions with their arguments: `topk=8`, `pool=(64, 64)`.

        Returns:
            The answers by name.
        """
        asked = _asking.named(self._problem, WHO, questions, parameters)
        return dict(zip(asked, self._ask(*asked.values()), strict=True))

    def reduce(self, tile: Callable[[Array, Array, Array], Any], merge: Callable[[Any, Any], Any], initial: Any) -> Any:
        """Any other reduction: `merge(initial, tile(weights, queries, keys))` over all tiles, in no promised order.

        Args:
            tile: Takes a tile `(..., H, t, s)` and the positions `(t,)` and `(s,)` of its queries and keys. Leading
                axes are whole; weights outside all tiles are zero.
            merge: Puts the result so far and the result of a tile together.
            initial: What to start from.
        """
        for block in self._problem.grid(together=True).blocks if not self._problem.empty else ():
            queries = np.arange(block.starts[-2], block.starts[-2] + block.sizes[-2])
            keys = np.arange(block.starts[-1], block.starts[-1] + block.sizes[-1])
            initial = merge(initial, tile(self._tiles.tile(queries, keys), queries, keys))
        return initial


def _restored(framework: str, rest: tuple, arrays: tuple) -> AttentionWeights:
    """Weights from a pickle."""
    return AttentionWeights._unflatten((backend_named(framework), *rest), arrays)


def _readable(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError
