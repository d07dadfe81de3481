"""AttentionWeights: an exact matrix of n x n weights, of which tiles are made to answer questions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from regard import _check
from regard._backends import backend_named, backend_of
from regard._backends.protocol import SMALL, Array
from regard._blockwise import Block, weights_of
from regard._indexing import Index, Selection, arranged, for_heads, read, select, taken
from regard._layout import Layout, Operand, itemsize, nbytes
from regard._problem import Problem
from regard._questions import (
    ArgMax,
    Distance,
    Entropy,
    GradientWeighted,
    Largest,
    LogSumExp,
    Mass,
    Max,
    MaxScore,
    Pool,
    Product,
    Question,
    Received,
    Tile,
    TransposedProduct,
)
from regard._rules import Where
from regard._tensors import Tensorlike, _densely, lazily
from regard.errors import OutOfRangeError, TooLargeError

WHO = "AttentionWeights"
STATISTICS: dict[str, Any] = {
    "entropy": Entropy, "received": Received, "max": Max, "argmax": ArgMax,
    "max_score": MaxScore, "distance": Distance,
}  # fmt: skip


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
        rest = (bool(share), problem.given, self.kernel, self.reason)
        return arrays, (problem.xp, problem.layout, problem.scores, axes, *rest)

    @classmethod
    def _unflatten(cls, rest: tuple, arrays: tuple) -> AttentionWeights:
        """The reverse of `_flatten`."""
        xp, layout, scores, axes, shared, given, kernel, reason = rest
        *placed, logsumexp = arrays
        query, key, *leaves = (Operand(array, along) for array, along in zip(placed, axes, strict=True))
        share = leaves.pop(0) if shared else None
        return cls(Problem(xp, layout, scores, query, key, tuple(leaves), given, share), logsumexp, kernel, reason)

    @property
    def _arrays(self) -> list[Array]:
        return [array for array in self._flatten()[0] if array is not None]

    def _mapped(self, function: Callable[[Array], Array], given: str | None = None) -> AttentionWeights:
        """The same of other arrays, such as those on another device; `given` is the type that tiles come in."""
        arrays, (*most, before, kernel, reason) = self._flatten()
        arrays = tuple(None if array is None else function(array) for array in arrays)
        return self._unflatten((*most, given or before, kernel, reason), arrays)

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
        shape, dtype = _check._sizes(self.shape), self._problem.given
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
        computed = self._points if index.points else self._tile
        return arranged(self._xp, computed(index.rows, index.columns), index.axes, index.order)

    def _points(self, rows: Any, columns: Any) -> Array:
        """One weight for each row and column, `(..., n)`: of small tiles around some of them at a time."""
        xp, at_once = self._xp, 64
        pieces = []
        for start in range(0, max(len(rows), 1), at_once):
            some = slice(start, start + at_once)
            tile = self._tile(rows[some], columns[some])
            count = len(rows[some])
            flat = xp.reshape(tile, (*xp.shape(tile)[:-2], count * count))
            diagonal = (np.arange(count) * (count + 1)).astype(np.int32)
            pieces.append(xp.take(flat, xp.asarray(diagonal, flat), len(xp.shape(flat)) - 1))
        return pieces[0] if len(pieces) == 1 else xp.concatenate(pieces, -1)

    def _tile(self, queries: Any, keys: Any) -> Array:
        """The weights of some queries and keys, numbers from 0; an axis of which a number is taken goes away."""
        xp, place = self._xp, self._layout
        rows, columns = (each if isinstance(each, range) else np.atleast_1d(each) for each in (queries, keys))
        operands = [taken(xp, operand, rows, columns) for operand in self._problem.operands]
        where = Where(
            self._places(rows)[:, None],
            self._places(columns)[None, :],
            place.shift,
            tuple((0, size) for size in (*place.lead, place.repeats)),
        )
        full = (*place.lead, place.repeats, len(rows), len(columns))
        complete = columns == range(place.keys) if isinstance(columns, range) else _is_all(columns, place.keys)
        along = self._beside(complete)
        along = None if along is None else taken(xp, along, rows, columns)
        found = self._evaluated(operands, along, where, full, complete)
        ends = ((len(each),) if isinstance(each, range) else np.shape(each) for each in (queries, keys))
        return place.to_caller(xp, found, tuple(itertools.chain(*ends)))

    def _places(self, chosen: np.ndarray | range) -> Array:
        """Positions as an array of the framework, int32."""
        xp, like = self._xp, self._problem.query.array
        if isinstance(chosen, range) and chosen.step == 1:
            return xp.arange(chosen.start, len(chosen), like)
        return xp.asarray(np.asarray(chosen, np.int32), like)

    def _all(self) -> Array:
        """The tile that is everything, also where a graph knows sizes only as it runs."""
        xp, place = self._xp, self._layout
        operands = [operand.array for operand in self._problem.operands]
        where = Block((0,) * len(place.space), place.space, True).where(xp, operands[0], place.shift)
        along = self._beside(complete=True)
        found = self._evaluated(operands, None if along is None else along.array, where, place.space, complete=True)
        return place.to_caller(xp, found, (place.queries, place.keys))

    def _beside(self, complete: bool) -> Operand | None:
        """What a tile needs beside scores: of complete rows what sinks leave, of others their log-sum-exp in parts."""
        if complete and not self._problem.empty:
            return self._problem.share
        return self._layout.operand(self._xp, self._parts(), 1)

    def _evaluated(
        self, operands: Sequence[Array], along: Array | None, where: Where, sizes: tuple, complete: bool
    ) -> Array:
        xp = self._xp
        with xp.quiet():
            scores = self._problem.scores(xp, operands, where, True)
            if complete and not self._problem.empty:
                weights = Tile.of(xp, scores, where, along).weights
            else:
                weights = weights_of(xp, scores, along)
        return xp.in_order(xp.broadcast_to(xp.cast(weights, self._problem.given), sizes))

    def heads(self, heads: Any) -> AttentionWeights:
        """The weights of some of the heads, still lazy: `(..., len(heads), T, S)`.

        Args:
            heads: Numbers, also the same ones again; a slice, or a boolean for each.
        """
        outer = self._layout.outer
        if not outer:
            raise OutOfRangeError(f"{WHO}.heads: need weights (..., H, T, S); got {_check._sizes(self.shape)}.")
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
        problem = Problem(xp, layout, *rules, given=self._problem.given, share=share)
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
        return self._all()

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
        [answer] = self._ask([Product(xp.shape(values)[-1], careful)], [operand])
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
        extras = [
            place.query(xp, xp.cast(gradient, self._problem.dtype)),
            place.key(xp, xp.cast(value, self._problem.dtype)),
            for_heads(xp, place, above, keys=False),
        ]
        return self._ask([GradientWeighted(xp.shape(above)[-1])], extras)[0]

    # Questions.

    def _ask(self, questions: list[Question], extras: list[Operand] | None = None) -> list[Any]:
        unknown = [question for question in questions if question not in self._answers]
        if not unknown:
            return [self._answers[question] for question in questions]
        asked = self._problem.ask(unknown, extras or [])
        answers = {**self._answers, **dict(zip(unknown, asked, strict=True))}
        return [answers[question] for question in questions]

    def entropy(self) -> Array:
        """-sum_j P_ij log P_ij of each query, in nats, `(..., H, T)`; 0 for one that may see no key."""
        return self._ask([Entropy()])[0]

    def received(self, queries: Any = None) -> Array:
        """How much attention each key receives, sum_i P_ij, `(..., H, S)`, from all queries or from some.

        Args:
            queries: Indices, a slice or a boolean array of T.
        """
        return self._ask(*self._received(queries))[0]

    def _received(self, queries: Any) -> tuple[list[Question], list[Operand]]:
        if queries is None:
            return [Received()], []
        chosen = self._indicator("received", "queries", queries, self._layout.queries)
        return [Received(True)], [self._constant(chosen[:, None])]

    def mass(self, keys: Any) -> Array:
        """The weight that each query has on a set of keys, `(..., H, T)`.

        Args:
            keys: Indices, a slice, or a boolean array of `(S,)`; also `(B, S)`, a set for each example.

        Raises:
            ShapeError: Sets for other examples or of other keys.
        """
        xp, place = self._xp, self._layout
        keys = np.asarray(keys) if isinstance(keys, (list, tuple)) and np.ndim(keys) > 1 else keys
        if self._several(keys):
            _check.sets_of_keys(f"{WHO}.mass", xp, place, keys)
            operand = place.per_example(
                xp, xp.cast(xp.asarray(keys, self._problem.query.array), self._problem.dtype), (False, True)
            )
        else:
            operand = self._constant(self._indicator("mass", "keys", keys, place.keys)[None, :])
        return self._ask([Mass()], [operand])[0]

    def _several(self, keys: Any) -> bool:
        """Whether a set of keys is one for each example."""
        found = backend_of(keys)
        return found is not None and found.obstacle(keys) is None and len(found.shape(keys)) > 1

    def max(self, *args: Any, **kwargs: Any) -> Any:
        """The largest weight of each query, `(..., H, T)`.

        With arguments, such as `dim=1`, that of the dense tensor.
        """
        if args or kwargs:
            return self._of_dense("max", *args, **kwargs)
        return self._ask([Max()])[0]

    def argmax(self, *args: Any, **kwargs: Any) -> Any:
        """The key with the largest weight of each query, the first of equals, `(..., H, T)`, int32.

        With arguments, that of the dense tensor.
        """
        if args or kwargs:
            return self._of_dense("argmax", *args, **kwargs)
        return self._ask([ArgMax()])[0]

    def topk(self, count: int, *args: Any, **kwargs: Any) -> Any:
        """The `count` largest weights of each query, descending, and the keys that have them: `(..., H, T, count)`.

        With more arguments, those of the dense tensor.
        """
        if args or kwargs:
            return self._of_dense("topk", count, *args, **kwargs)
        return self._ask([Largest(_check.count(f"{WHO}.topk", "count", count, "S", self._layout.keys))])[0]

    def max_score(self) -> Array:
        """The largest score of each query before the softmax, `(..., H, T)`: what QK-clip needs.

        Source: Kimi K2, arXiv 2507.20534, section 2.1.
        """
        return self._ask([MaxScore()])[0]

    def distance(self) -> Array:
        """The mean distance attended over, sum_j P_ij |i + S - T - j|, in positions, `(..., H, T)`."""
        return self._ask([Distance()])[0]

    def pool(self, rows: int, columns: int, reduce: str = "mean") -> Array:
        """A small map: means or maxima of rectangles, `(..., H, rows, columns)`.

        Row r begins at query floor(r T / rows), so that sizes differ by one at most; columns likewise.
        """
        return self._ask(*self._pool(rows, columns, reduce))[0]

    def _pool(self, rows: int, columns: int, reduce: str = "mean") -> tuple[list[Question], list[Operand]]:
        place = self._layout
        _check.pool(WHO, rows, columns, reduce, place.queries, place.keys)
        of_rows, of_columns = _bins(place.queries, rows), _bins(place.keys, columns)
        extras = [self._constant(of_rows[:, None]), self._constant(of_columns[None, :])]
        if reduce == "mean":
            sizes = (np.bincount(bins, minlength=bins[-1] + 1) for bins in (of_rows, of_columns))
            extras += [self._constant(size.astype(np.float64)[None, None, :], 1) for size in sizes]
        return [Pool(rows, columns, reduce, place.queries)], extras

    def ask(self, *questions: str, **parameters: Any) -> dict[str, Any]:
        """Several questions in one pass over the scores.

        Args:
            questions: Names of questions that need no argument: "entropy", "received", "max", "argmax", "max_score",
                "distance".
            parameters: Questions with their arguments: `topk=8`, `pool=(64, 64)`.

        Returns:
            The answers by name.
        """
        _check.questions(WHO, questions, parameters, STATISTICS, ("topk", "pool"))
        asked: dict[str, tuple[list[Question], list[Operand]]] = {
            name: ([STATISTICS[name]()], []) for name in questions
        }
        if "topk" in parameters:
            asked["topk"] = (
                [Largest(_check.count(f"{WHO}.ask", "topk", parameters["topk"], "S", self._layout.keys))],
                [],
            )
        if "pool" in parameters:
            asked["pool"] = self._pool(*_check.rectangles(f"{WHO}.ask", parameters["pool"]))
        answers = self._ask(
            [question for several, _ in asked.values() for question in several],
            [extra for _, extras in asked.values() for extra in extras],
        )
        return dict(zip(asked, answers, strict=True))

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
            initial = merge(initial, tile(self._tile(queries, keys), queries, keys))
        return initial

    # Operands of questions.

    def _constant(self, array: np.ndarray, features: int = 0) -> Operand:
        """A NumPy array `(T or 1, S or 1, features)` as an operand that is the same for all heads."""
        place = self._layout
        dtype = self._problem.dtype if array.dtype.kind == "f" else "int32"
        array = array.reshape((1,) * (len(place.lead) + 1) + array.shape).astype(dtype)
        return place.operand(self._xp, self._xp.asarray(array, self._problem.query.array), features)

    def _indicator(self, method: str, name: str, chosen: Any, size: int) -> np.ndarray:
        """Which of `size` positions are chosen, as floating point."""
        indices = _check.positions(f"{WHO}.{method}", name, chosen, size)
        return np.bincount(indices, minlength=size).clip(max=1).astype(np.float64)


class TransposedWeights(Tensorlike):
    """`weights.T`, lazy: multiply it, or index the weights themselves; else it is as a tensor."""

    def __init__(self, weights: AttentionWeights) -> None:
        self._weights = weights

    @property
    def shape(self) -> tuple:
        """`(..., H, S, T)`."""
        *outer, queries, keys = self._weights.shape
        return (*outer, keys, queries)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self._weights.dtype

    @property
    def T(self) -> AttentionWeights:  # noqa: N802 (NumPy's name)
        return self._weights

    @property
    def _xp(self) -> Any:
        return self._weights._xp

    @property
    def _like(self) -> Array:
        return self._weights._like

    @property
    def _given(self) -> str:
        return self._weights._given

    def dense(self, max_bytes: int = 2**30) -> Array:
        """All of it, `(..., H, S, T)`, as of the weights."""
        return self._xp.swapaxes(self._weights.dense(max_bytes), -1, -2)

    def __getitem__(self, index: Any) -> Array:
        return self.dense()[index]

    def __matmul__(self, values: Array) -> Array:
        """`weights.T @ y`: what each key gets of y `(..., T, Y)`, `(..., H, S, Y)`."""
        weights, values = self._weights, _densely(values)
        xp, place = weights._xp, weights._layout
        values = _check.multiplied(f"{WHO}.T", xp, values, weights._problem.query.array, place.queries, "T")
        operand = for_heads(xp, place, values, keys=False)
        [answer] = weights._ask([TransposedProduct(xp.shape(values)[-1])], [operand])
        return xp.cast(answer, xp.dtype_name(values))

    def __repr__(self) -> str:
        return f"TransposedWeights(shape={_check._sizes(self.shape)})"


def _restored(framework: str, rest: tuple, arrays: tuple) -> AttentionWeights:
    """Weights from a pickle."""
    return AttentionWeights._unflatten((backend_named(framework), *rest), arrays)


def _bins(size: int, bins: int) -> np.ndarray:
    """The bin of each of `size` positions: bin b begins at floor(b size / bins)."""
    return ((np.arange(size) + 1) * bins - 1) // size


def _is_all(chosen: np.ndarray, size: Any) -> bool:
    return len(chosen) == size and bool((chosen == np.arange(len(chosen))).all())


def _readable(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError
