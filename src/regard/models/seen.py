"""What a watched model attended to, layer by layer and through the layers, in memory linear in the length."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from regard import _check
from regard._backends import to_numpy
from regard._backends.protocol import Array
from regard._layout import nbytes
from regard.errors import OutOfRangeError, ShapeError, UnsupportedError
from regard.models import joining, kept
from regard.models.summary import Summary, flags, in_single, summarise
from regard.weights import AttentionWeights


def itself(value: Any) -> Any:
    return value


def none() -> None:
    """What gives the gradient where there is none."""


@dataclass(frozen=True)
class Values:
    """What else of one attention is kept with `values=True`.

    Attributes:
        value: `(B, G, S, E)`.
        output: what the model went on with, or None where it has no gradient.
        by_head: makes `(B, H, T, E)` of a gradient of the output.
        projection: gives the matrix that the heads' outputs are multiplied by, `(H E, d)`, or None if there was none.
        gradient: gives the output's gradient in the last backward pass, or None if there was none.
    """

    value: Array
    output: Array | None
    by_head: Callable[[Array], Array]
    projection: Callable[[], Array | None]
    gradient: Callable[[], Array | None] = none


@dataclass(frozen=True)
class _Attended:
    name: str
    given: AttentionWeights | Callable[[], AttentionWeights]
    values: Values | None

    @cached_property
    def weights(self) -> AttentionWeights:
        return self.given() if callable(self.given) else self.given

    def told(self, arrays: kept.Arrays) -> dict[str, Any]:
        """It as what JSON can say, with arrays by name."""
        values = None
        if self.values is not None:
            several = self.values.value, self.values.projection()
            values = [arrays.name(self.weights._xp, array) for array in several]
        return {"name": self.name, "weights": kept.told(self.weights, arrays), "values": values}

    def __reduce__(self) -> tuple:
        """Copies and pickles are without gradients."""
        values = self.values
        if values is not None:
            value = self.weights._xp.stop_gradient(values.value)
            values = Values(value, None, itself, partial(itself, values.projection()))
        return _Attended, (self.name, self.weights, values)


class Seen:
    """The weights that a watched model computed, in call order, by number or by the name of the module.

    A module that ran several times (a loop of generation, say) has one entry a run; its name gives the last.

    Attributes:
        remarks: What ran otherwise than it looks, a clause each: an adapter that had no part, a model that went over to
            another kind of attention.
    """

    def __init__(self, unseen: Callable[[], list[str]] = list) -> None:
        self._attended: list[_Attended] = []
        self._unseen = unseen
        self.remarks: list[str] = []

    def append(
        self, name: str, weights: AttentionWeights | Callable[[], AttentionWeights], values: Values | None = None
    ) -> None:
        """One more attention: its weights, or what makes them once they are asked for."""
        self._attended.append(_Attended(name, weights, values))

    def keep(self, stays: Sequence[bool]) -> None:
        """Drops those that do not stay."""
        self._attended = [each for each, stay in zip(self._attended, stays, strict=False) if stay]

    def close(self) -> None:
        """Nothing more comes: what was not seen is known, and its model is let go."""
        self._unseen = partial(list, self.unseen)

    @property
    def names(self) -> list[str]:
        return [each.name for each in self._attended]

    @property
    def unseen(self) -> list[str]:
        """The modules of the model that look like attention, ran, and could not be seen, by their names."""
        return list(self._unseen())

    def __len__(self) -> int:
        return len(self._attended)

    def __iter__(self) -> Iterator[AttentionWeights]:
        return (each.weights for each in self._attended)

    def __getitem__(self, which: Any) -> Any:
        """By number, from the end too, or name: the weights; by a slice or a list of numbers: a `Seen` of those."""
        if isinstance(which, str):
            return self._attended[self._last(which)].weights
        found = _check.index("watch", "the number of an attention seen,", which, len(self))
        if isinstance(found, slice) or found.ndim:
            return self._of([self._attended[n] for n in np.arange(len(self))[found].ravel()])
        return self._attended[int(found)].weights

    def _of(self, attended: list[_Attended]) -> Seen:
        chosen = Seen(self._unseen)
        chosen._attended, chosen.remarks = attended, self.remarks
        return chosen

    def _last(self, name: str) -> int:
        if name not in self.names:
            raise OutOfRangeError(f"watch: need the name of a module seen, one of {self.names}; got {name!r}.")
        return len(self.names) - 1 - self.names[::-1].index(name)

    def only(self, pattern: str) -> Seen:
        """Those whose names fit a pattern: `seen.only("encoder.*")`, `seen.only("*.encoder_attn")`.

        Raises:
            OutOfRangeError: There is none.
        """
        chosen = self._of([each for each in self._attended if fnmatch.fnmatchcase(each.name, pattern)])
        if not chosen:
            raise OutOfRangeError(f"watch: need a pattern that fits a module seen, of {self.names}; got {pattern!r}.")
        return chosen

    def over(self, length: int) -> Seen:
        """The self-attentions over so many positions: without cross-attention, or another part's.

        Raises:
            UnsupportedError: There is none.
        """
        chosen = self._of([each for each in self._attended if each.weights.shape[-2:] == (length, length)])
        if not chosen:
            raise UnsupportedError(f"watch: need self-attentions over {length} positions; saw {self!r}.")
        return chosen

    def joined(self) -> Seen:
        """What a model attended to while it wrote, each of its attentions as one over the whole text.

        With a cache, a model that writes runs once over the prompt and then once for each token: `(B, H, T, T)`, then
        `(B, H, 1, T + 1)` and so on. Here they are one of `(B, H, T + n, T + n)`, still lazy, as if the model had read
        the whole text at once; attention to an encoder becomes `(B, H, T + n, S)`. Attentions that ran once stay.
        Rows of padding are zeros.

        Raises:
            UnsupportedError: Runs that are not steps of one text (a search with beams, a cache that forgets), or whose
                masks are no causal window over all of it.

        Cost: the queries once more, keys for every query head; who sees whom is looked at by dense arrays of NumPy, in
        passing: a byte for each of T S pairs an example, and 8 for the pairs once more.
        """
        runs: dict[str, list[AttentionWeights]] = {}
        for each in self._attended:
            runs.setdefault(each.name, []).append(each.weights)
        return self._of(
            [
                _Attended(name, several[0] if len(several) == 1 else partial(joining.joined, name, several), None)
                for name, several in runs.items()
            ]
        )

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept: queries, keys and masks, and values where they are; what layers share counts once."""
        total, known = 0, set()
        for each in self._attended:
            xp, arrays = each.weights._xp, [operand.array for operand in each.weights._problem.operands]
            total += each.weights.nbytes - sum(nbytes(xp, array) for array in arrays)  # the log-sum-exp
            arrays += [] if each.values is None else [each.values.value, each.values.output]
            for array in arrays:
                if array is not None and _place(array) not in known:
                    known.add(_place(array))
                    total += nbytes(xp, array)
        return total

    @property
    def outputs(self) -> list[Array]:
        """What the model made of each attention: what to differentiate by where there is no `backward()`.

        Raises:
            UnsupportedError: watched without `values=True`, or without gradients.
        """
        kept = [self._values("outputs", each).output for each in self._attended]
        if any(output is None for output in kept):
            raise UnsupportedError("outputs: need a model that ran with gradients on; it ran without; run it so.")
        return kept

    def __repr__(self) -> str:
        seen, missing = ", ".join(dict.fromkeys(self.names)), ", ".join(self.unseen)
        missing = f"; not seen: {missing}" if missing else ""
        remarks = "".join(f"; {remark}" for remark in self.remarks)
        return f"Seen({len(self)} attentions, keeping {self.nbytes / 1e6:.3g} MB: {seen}{missing}{remarks})"

    def dense(self, example: int = 0) -> np.ndarray:
        """Every weight of one example in NumPy, `(layers, H, T, S)`; for lengths where that fits.

        Raises:
            ShapeError: Attentions of several shapes; choose with `only`.
            TooLargeError: More than 1 GB in a layer.
        """
        self._alike("dense")
        return np.stack([to_numpy(in_single(weights[example]).dense()) for weights in self])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into a file that `regard.load` reads, on any machine and into any framework.

        Kept are query, key, rules and log-sum-exp of each attention, and values where they were; gradients are not.
        What layers share, such as a mask, is written once.

        Raises:
            UnsupportedError: A mask that is a function of somebody's; or without safetensors.
            OSError: The disk is full or may not be written; what was at `path` stays.

        Cost: `nbytes` on the disk; one pass over the scores where a log-sum-exp is not known yet.
        """
        arrays = kept.Arrays()
        described: dict[str, Any] = {"seen": [each.told(arrays) for each in self._attended]}
        described |= {"unseen": self.unseen, "remarks": self.remarks}
        kept.write(path, described, arrays, self[0]._xp.name if len(self) else "numpy")

    @classmethod
    def restored(cls, described: dict[str, Any], make: Callable[[str | None], Any], xp: Any) -> Seen:
        """What `save` has described, of arrays that `make` gives by their names; see `regard.load`."""
        seen = cls(partial(list, described["unseen"]))
        seen.remarks = described["remarks"]
        for each in described["seen"]:
            values = None
            if each["values"] is not None:
                value, projection = map(make, each["values"])
                values = Values(value, None, itself, partial(itself, projection))
            seen.append(each["name"], kept.weights_of(each["weights"], make, xp), values)
        return seen

    def to(self, *args: Any, **kwargs: Any) -> Seen:
        """The same elsewhere, without gradients, as a tensor of PyTorch goes: `seen.to("cpu")`."""
        return self._moved(lambda weights: weights.to(*args, **kwargs), lambda array: array.to(*args, **kwargs))

    def cpu(self) -> Seen:
        """The same in the processor's memory, of PyTorch's tensors."""
        return self.to("cpu")

    def detach(self) -> Seen:
        """The same without gradients, of PyTorch's tensors."""
        return self._moved(lambda weights: weights.detach(), lambda array: array.detach())

    def _moved(self, weights: Callable[[Any], Any], array: Callable[[Any], Any]) -> Seen:
        moved = []
        for each in self._attended:
            values = each.values
            if values is not None:
                projection = values.projection()
                moved_projection = None if projection is None else array(projection.detach())
                values = Values(array(values.value.detach()), None, values.by_head, partial(itself, moved_projection))
            moved.append(_Attended(each.name, weights(each.weights.detach()), values))
        return self._of(moved)

    # Through the layers.

    def received(self, queries: Any = None, by_value: bool = False, real: Any = None) -> Array:
        """How much attention each key receives in each layer and head, sum_i P_ij: `(layers, B, H, S)`.

        Args:
            queries: From which queries; default all.
            by_value: Weigh each key by the length of what it contributes, |f(v_j)|, where f is the projection behind
                the heads: a key that is much attended to may say little. Needs `watch(..., values=True)`.
            real: Where no queries are chosen: which count in each example, boolean `(B, T)`, the attention mask of the
                tokenizer; default all, padding too, which attends to real tokens.

        Raises:
            ShapeError: Attentions of several shapes; choose with `only`.

        Source: with `by_value`, Kobayashi et al. 2020, arXiv 2004.10102, equation 5, summed over the queries.
        """
        self._alike("received")
        if queries is None and real is not None:
            received = [self._received(weights, real) for weights in self]
        else:
            received = [weights.received(queries) for weights in self]
        if by_value:
            received = [one * other for one, other in zip(received, self._norms("received"), strict=True)]
        return _stacked(self[0]._xp, received)

    def _received(self, weights: AttentionWeights, real: Any) -> Array:
        *batch, _, queries, _ = weights.shape
        xp = weights._xp
        counted = flags("received", "real", real, batch, queries)[..., None, :, None].astype(weights._problem.dtype)
        found = weights.T @ xp.asarray(counted, weights._problem.query.array)
        return xp.reshape(found, xp.shape(found)[:-1])

    def norms(self) -> Array:
        """How long what each key contributes is before it is weighed, |f(v_j)|: `(layers, B, H, S)`.

        Needs `watch(..., values=True)`. Multiply a tile of weights by it to have the value-aware weights of
        Kobayashi et al. 2020, arXiv 2004.10102, equation 5: `seen[0][..., :9, :9] * seen.norms()[0][..., None, :9]`.
        """
        self._alike("norms")
        return _stacked(self[0]._xp, self._norms("norms"))

    def _norms(self, who: str) -> list[Array]:
        return [_norm(each, self._values(who, each)) for each in self._attended]

    def rollout(self, queries: Any = None, residual: float = 0.5, real: Any = None) -> Array:
        """How much of each input token flows into the last layer's tokens, if attention were all: `(B, S)`.

        Each layer passes on `residual I + (1 - residual) mean_h P_h`; the product of all of them is multiplied from
        its top by the rows that are asked for, so no n x n matrix is made.

        Args:
            queries: Into which tokens of the last layer: a number gives `(B, S)`, several `(B, k, S)`; default the
                mean of all, `(B, S)`.
            residual: The part that goes past the attention.
            real: Where no queries are chosen: the mean of which tokens, boolean `(B, T)`, the attention mask of the
                tokenizer; default all, padding too.

        Raises:
            ShapeError: Attentions that are not self-attentions of one length and one batch; choose with `only`. Windows
                of a picture in the place of the batch are not followed from one layer into the next.

        Source: Abnar and Zuidema 2020, arXiv 2005.00928, section 3.
        """
        flow, xp = self._start("rollout", queries, real)
        for each in reversed(self._attended):
            passed = each.weights.T @ flow
            heads = each.weights.shape[-3]
            flow = residual * flow + (1 - residual) / heads * xp.sum(passed, -3)
        return self._finish(flow, queries, xp)

    def relevance(self, queries: Any = 0, gradients: Sequence[Array] | None = None, real: Any = None) -> Array:
        """How much each input token matters to what was differentiated, through all layers: `(B, S)`.

        Watch with `values=True`, call `backward()` on what is to be explained (a class's logit), then ask. Each layer
        adds `mean_h max(dP_h * P_h, 0)` times what is above it; a gradient dP is made a tile at a time. After several
        backward passes, the last is meant. The result carries no gradient.

        In TensorFlow, run the model inside a `tf.GradientTape()` too, and hand over
        `gradients=tape.gradient(score, seen.outputs)`.

        Args:
            queries: The token that the model decides by: a number gives `(B, S)`, several `(B, k, S)`. Default 0, the
                first; the last, -1, for a decoder; None for the mean of all.
            gradients: Of what is to be explained by each of `seen.outputs`; default what `backward()` left.
            real: With `queries=None`: the mean of which tokens, boolean `(B, T)`; default all, padding too.

        Raises:
            UnsupportedError: Before a backward pass, or watched without `values=True`.
            ShapeError: Attentions that are not self-attentions of one length and one batch; choose with `only`. Windows
                of a picture in the place of the batch are not followed from one layer into the next.

        Source: Chefer, Gur and Wolf 2021, arXiv 2103.15679, equations 5 and 6.
        """
        flow, xp = self._start("relevance", queries, real)
        for number, each in reversed(list(enumerate(self._attended))):
            kept = self._values("relevance", each)
            gradient = kept.gradient() if gradients is None else gradients[number]
            if gradient is None:
                raise UnsupportedError(
                    f"relevance: need the gradient of the output of {each.name}; there is none; call backward() on "
                    "what is to be explained, with gradients on, before asking, or give gradients."
                )
            passed = each.weights.relevance(kept.value, kept.by_head(gradient), flow)
            flow = flow + xp.stop_gradient(xp.sum(passed, -3)) / each.weights.shape[-3]
        return self._finish(flow, queries, xp)

    def summary(self, special: Any = None, separators: Any = None, real: Any = None) -> Summary:
        """A row for each layer and head: how it attends, averaged over examples and queries. See `Summary`.

        Args:
            special: Which keys are special tokens, boolean `(B, S)` or `(S,)`.
            separators: Which keys are separators, likewise.
            real: Which queries count, boolean `(B, T)`: the attention mask of the tokenizer; or a list with one such
                array, or None, for each attention; default all.
        """
        if not self:
            raise OutOfRangeError("summary: need an attention seen; got none; run the model inside the with.")
        return summarise(self.names, list(self), special, separators, real, self.unseen)

    def _alike(self, who: str) -> None:
        self._require(who, [_check.spelled(weights.shape) for weights in self], "attentions of one shape")

    def _require(self, who: str, found: Sequence[str], what: str) -> None:
        kinds = Counter(found)
        if len(kinds) != 1:
            seen = " and ".join(f"{count} of {shape}" for shape, count in kinds.items()) or "none"
            raise ShapeError(f"{who}: need {what}; got {seen}; choose with seen.only('encoder.*'), say.")

    def _one_batch(self, who: str) -> None:
        """Layers whose first axis differs attend within different things, of which no row goes on to the next layer."""
        kinds = Counter(int(weights.shape[0]) for weights in self)
        if len(kinds) > 1:
            seen = " and ".join(f"{count} over {size}" for size, count in kinds.items())
            raise ShapeError(
                f"{who}: need layers that all attend over the same batch; got {seen}, such as windows of a picture, or "
                "runs of several batches; ask each of them for its weights, or choose with seen.only or a slice those "
                "that see every position of an example."
            )

    def _values(self, who: str, each: _Attended) -> Values:
        if each.values is None:
            raise UnsupportedError(f"{who}: need the values of {each.name}; not kept; use watch(model, values=True).")
        return each.values

    def _start(self, who: str, queries: Any, real: Any) -> tuple[Array, Any]:
        """The rows asked for, `(1, 1, T, k)` or `(B, 1, T, 1)`, and the verbs of the framework."""
        lengths = [f"{weights.shape[-2]} x {weights.shape[-1]}" for weights in self]
        self._require(who, lengths, "self-attentions of one length")
        self._one_batch(who)
        *batch, _, queries_seen, keys = self[0].shape
        if queries_seen != keys:
            raise ShapeError(f"{who}: need self-attentions; got {lengths[0]}; choose with seen.only('encoder.*'), say.")
        if queries is None:
            counted = flags(who, "real", real, (1,) if real is None else batch, keys)[:, None, :, None]
            rows = counted / np.maximum(counted.sum(-2, keepdims=True), 1)
        else:
            rows = _rows(_check.index(who, "query", queries, keys), keys).T[None, None]
        weights = self[0]
        xp, like = weights._xp, weights._problem.query.array
        return xp.asarray(rows.astype(weights._problem.dtype), like), xp

    def _finish(self, flow: Array, queries: Any, xp: Any) -> Array:
        """`(B, 1, S, k)` as `(B, S)` or `(B, k, S)`."""
        batch, _, length, count = xp.shape(flow)
        single = queries is None or (np.ndim(queries) == 0 and not isinstance(queries, slice))
        if single:
            return xp.reshape(flow, (batch, length))
        return xp.swapaxes(xp.reshape(flow, (batch, length, count)), -1, -2)


def _rows(queries: Any, keys: int) -> np.ndarray:
    chosen = np.atleast_1d(np.arange(keys)[queries])
    rows = np.zeros((len(chosen), keys))
    rows[np.arange(len(chosen)), chosen] = 1
    return rows


def _place(array: Array) -> int:
    """Where an array lies; for PyTorch also that of another view of it."""
    pointer = getattr(array, "data_ptr", None)
    return id(array) if pointer is None else pointer()


def _stacked(xp: Any, arrays: Sequence[Array]) -> Array:
    return xp.concatenate([xp.reshape(array, (1, *xp.shape(array))) for array in arrays], 0)


def _norm(each: _Attended, kept: Values) -> Array:
    """|v_j W_h| through W_h W_h^T, `(B, H, S)`: E numbers a key instead of the d that v_j W_h has."""
    xp = each.weights._xp
    projection = kept.projection()
    heads = each.weights.shape[-3]
    *batch, groups, length, width = xp.shape(kept.value)
    if projection is None or xp.shape(projection)[0] != heads * width:
        raise UnsupportedError(
            f"norms: need the linear layer behind the heads of {each.name}; saw none of {heads * width} inputs."
        )
    dtype = each.weights._problem.dtype
    by_head = xp.reshape(xp.cast(projection, dtype), (heads, width, -1))
    squares = xp.matmul(by_head, xp.swapaxes(by_head, -1, -2))
    value = xp.reshape(xp.cast(kept.value, dtype), (*batch, groups, 1, length, width))
    squares = xp.reshape(squares, (groups, heads // groups, width, width))
    lengths = xp.sqrt(xp.maximum(xp.sum(xp.matmul(value, squares) * value, -1), 0.0))
    return xp.reshape(lengths, (*batch, heads, length))
