"""How an answer is judged: what it is, then how far it may be from the truth.

FlashAttention's rule: the library's error against the float64 oracle is at most twice the error of the plain
computation of the same thing, in the same framework and in the dtype of the answer, operation by operation. To this
comes what rounding alone may do: one unit in the last place of the answer, and for each unit that the largest score
has two units of the accumulator (float32 or better), because a score's rounding moves its weight by that fraction, and
a score is rounded twice: for the log-sum-exp, in the order of the kernel, and for the weight.
"""

import functools

import numpy as np

import frameworks
import oracle


def epsilon(dtype):
    return {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]


def accumulator(dtype):
    """Float32 or better."""
    return "float64" if dtype == "float64" else "float32"


def assert_like(backend, actual, dtype, shape, what=""):
    """The answer is an array of this framework, of this dtype and shape."""
    assert backend.owns(actual), f"{what}: an array of {type(actual).__module__}, not of {backend.name}"
    assert backend.dtype(actual) == dtype, f"{what}: {backend.dtype(actual)}, not {dtype}"
    assert tuple(actual.shape) == tuple(shape), f"{what}: shape {tuple(actual.shape)}, not {tuple(shape)}"


def assert_close(backend, actual, expected, plain, *, dtype, largest_score=1.0, unit=0.0, what=""):
    """Compare an answer with the oracle's: framework, dtype, shape, then values by the rule above.

    Args:
        backend: the framework that the answer must belong to.
        actual: the library's answer.
        expected: the oracle's, float64.
        plain: the plain computation of the same thing in the same dtype, as a NumPy array.
        dtype: name of the dtype that the answer must have.
        largest_score: the largest finite score there is, without its sign.
        unit: the size, in absolute terms, at which an answer near zero still rounds: 1 for logarithms.
        what: a name for the message.
    """
    expected = np.asarray(expected, np.float64)
    assert_like(backend, actual, dtype, expected.shape, what)
    assert_values(
        backend.numpy(actual), expected, plain, dtype=dtype, largest_score=largest_score, unit=unit, what=what
    )


def assert_values(actual, expected, plain, *, dtype, largest_score=1.0, unit=0.0, what=""):
    """The last step of `assert_close`, on NumPy arrays."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    plain = np.asarray(plain, np.float64)
    assert actual.shape == expected.shape == plain.shape, (what, actual.shape, expected.shape, plain.shape)
    finite = np.isfinite(expected)
    same = np.where(np.isnan(expected), np.isnan(actual), actual == expected)
    assert np.all(same[~finite]), f"{what}: {np.sum(~same[~finite])} of {np.sum(~finite)} values should not be finite"
    if not finite.any():
        return
    error = np.abs(actual[finite] - expected[finite]).max()
    assert np.isfinite(error), f"{what}: {np.sum(~np.isfinite(actual[finite]))} values are not finite and should be"
    plain_error = np.abs(plain[finite] - expected[finite]).max()
    allowed = 2 * plain_error if np.isfinite(plain_error) else 0.0
    size = max(np.abs(expected[finite]).max(), unit)
    allowed += size * (epsilon(dtype) + (4 + 2 * largest_score) * epsilon(accumulator(dtype)))
    off = np.abs(np.where(finite, actual, 0) - np.where(finite, expected, 0))
    place = np.unravel_index(np.argmax(off), expected.shape)
    assert error <= allowed, (
        f"{what}: off by {error:.3g} at {tuple(map(int, place))} ({actual[place]!r}, not {expected[place]!r}); "
        f"the plain computation in {dtype} is off by {plain_error:.3g}, so {allowed:.3g} is allowed"
    )


class Plain:
    """Attention and its questions as anyone would write them: every score kept, every step in one dtype."""

    def __init__(self, backend, case, dtype, arrays=None):
        """`arrays` are query, key, value, bias and sinks of the framework, to be differentiated; else the case's."""
        self.backend, self.case, self.dtype = backend, case, dtype
        _, keywords = case.oracle_arguments
        expected = case.expected
        if arrays is None:
            query, key, value = (backend.array(x.astype(np.float64), dtype) for x in case.arrays)
            bias = self._dense_bias(keywords.get("bias"), expected.weights.shape)
            bias = None if bias is None else backend.array(bias, dtype)
            sinks = None if case.sinks is None else backend.array(keywords["sinks"], dtype)
        else:
            query, key, value, bias, sinks = arrays
        self.visible = backend.array(expected.visible & ~np.isneginf(expected.scores))
        self._score(query, key, value, bias, sinks, keywords)

    def _dense_bias(self, bias, shape):
        if bias is None:
            return None
        dense = np.zeros(shape)
        for *at, i, j in np.ndindex(shape):
            dense[(*at, i, j)] = bias(tuple(at), i, j, *shape[-2:])
        return np.where(np.isneginf(dense), 0, dense)  # those keys are masked

    def _score(self, query, key, value, bias, sinks, keywords):
        do = self.backend
        if key.ndim > 2 and query.ndim > 2:
            times = query.shape[-3] // key.shape[-3]
            key, value = do.repeat(key, times), do.repeat(value, times)
        if keywords.get("similarity", "dot") == "cosine":
            query = query / do.sqrt(do.sum(query * query))
            key = key / do.sqrt(do.sum(key * key))
            scale = 1.0
        else:
            scale = query.shape[-1] ** -0.5 if query.shape[-1] else 1.0
        given = keywords.get("scale")
        scores = do.matmul(query, do.swap(key)) * (scale if given is None else given)
        if keywords.get("softcap") is not None:
            scores = do.tanh(scores / keywords["softcap"]) * keywords["softcap"]
        if bias is not None:
            scores = scores + bias
        visible = self.visible
        least = do.array(np.array(np.finfo(np.float32).min / 2 if self.dtype != "float16" else -6e4), self.dtype)
        zero = do.array(np.array(0.0), self.dtype)
        self.scores = do.where(visible, scores, least)
        top = do.max(self.scores) if self.scores.shape[-1] else self.scores[..., :0]
        if sinks is not None:
            sinks = sinks[:, None, None]
            top = do.where(top > sinks, top, sinks)
        powers = do.where(visible, do.exp(self.scores - top), zero)
        total = do.sum(powers)
        self.empty = ~self.case.expected.visible.any(-1) | np.isneginf(self.case.expected.logsumexp)
        empty = do.array(self.empty[..., None])
        if sinks is not None:
            total = total + do.exp(sinks - top)
        one = do.array(np.array(1.0), self.dtype)
        total = do.where(empty, one, total)
        self.weights = powers / total
        self._logsumexp = (do.where(empty, zero, top if top.shape[-1] else zero) + do.log(total))[..., 0]
        self.output = do.matmul(self.weights, value)

    def logsumexp(self):
        return self._logsumexp

    def entropy(self):
        """-sum p log p."""
        do = self.backend
        positive = self.weights > do.array(np.array(0.0), self.dtype)
        one = do.array(np.array(1.0), self.dtype)
        return -do.sum(self.weights * do.log(do.where(positive, self.weights, one)))[..., 0]

    def times(self, x):
        return self.backend.matmul(self.weights, self._given(x))

    def transposed_times(self, x):
        return self.backend.matmul(self.backend.swap(self.weights), self._given(x))

    def _given(self, x):
        return x if self.backend.owns(x) and self.backend.name != "numpy" else self.backend.array(x, self.dtype)

    def received(self, queries=None):
        return self.transposed_times(_indicator(queries, self.weights.shape[-2]))[..., 0]

    def mass(self, keys):
        return self.times(_indicator(keys, self.weights.shape[-1]))[..., 0]

    def distance(self):
        do = self.backend
        queries, keys = self.weights.shape[-2:]
        far = np.abs(np.arange(queries)[:, None] + keys - queries - np.arange(keys)).astype(np.float64)
        return do.sum(self.weights * do.array(far, self.dtype))[..., 0]

    def pool(self, rows, columns, reduce="mean"):
        """Sums over the blocks of keys, then of queries, divided by how many there are."""
        queries, keys = self.weights.shape[-2:]
        if reduce == "max":  # no arithmetic in it
            dense = oracle.Result(None, None, self.backend.numpy(self.weights), None, None)
            return dense.pool(rows, columns, reduce)
        of_rows, of_columns = _blocks(queries, rows), _blocks(keys, columns)
        number = self._given(of_rows.sum(0)[:, None] * of_columns.sum(0))
        sums = self.backend.matmul(self.weights, self._given(of_columns))
        return self.backend.matmul(self._given(of_rows.T.copy()), sums) / number

    def in_numpy(self, name, *arguments, **options):
        """An answer as float64 NumPy, with those values that are not finite where the oracle's are."""
        if name in ("weights", "output"):
            return self.backend.numpy(getattr(self, name))
        if name == "logsumexp":
            return np.where(self.empty, -np.inf, self.backend.numpy(self._logsumexp))
        if name in ("max", "topk", "max_score"):  # no arithmetic in them
            weights = self.backend.numpy(self.weights)
            scores = np.where(self.case.expected.visible, self.backend.numpy(self.scores), -np.inf)
            dense = oracle.Result(scores, self.case.expected.visible, weights, None, None)
            return getattr(dense, name)(*arguments, **options)
        return self.backend.numpy(getattr(self, name)(*arguments, **options))


def _blocks(length, count):
    """Which block each position is in, (length, count): block b begins at floor(b * length / count)."""
    edges = np.arange(count + 1) * length // count
    place = np.arange(length)[:, None]
    return ((place >= edges[:-1]) & (place < edges[1:])).astype(np.float64)


def _indicator(chosen, length):
    column = np.zeros((length, 1))
    column[slice(None) if chosen is None else chosen] = 1.0
    return column


@functools.cache
def plain(backend, case, dtype):
    """The plain computation of a case, kept."""
    with backend.scope(dtype), np.errstate(all="ignore"):
        return Plain(backend, case, dtype)


def largest_score(case):
    """The largest finite score of a case before masking, without its sign."""
    scores = case.expected.scores
    finite = np.abs(scores[np.isfinite(scores)])
    return float(finite.max()) if finite.size else 0.0


def assert_answer(backend, case, actual, name, *arguments, dtype=None, unit=0.0, **options):
    """Judge the library's answer to a question about a case, the question named as in the oracle."""
    expected = getattr(case.expected, name)
    expected = expected(*arguments, **options) if callable(expected) else expected
    dtype = dtype or case.dtype
    reference = plain(backend, case, dtype).in_numpy(name, *arguments, **options)
    assert_close(
        backend,
        actual,
        expected,
        reference,
        dtype=dtype,
        largest_score=largest_score(case),
        unit=unit,
        what=f"{name} of {case.name}",
    )


__all__ = ["assert_answer", "assert_close", "assert_like", "assert_values", "frameworks", "largest_score", "plain"]
