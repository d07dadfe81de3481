"""Every question that `AttentionWeights` answers, on every kind of score, against the oracle."""

import numpy as np
import pytest

import cases
import checks
import frameworks
import regard
from regard import _asking
from regard._problem import Problem
from regard.errors import TooLargeError

KEPT = {}


def everywhere(names, *quick):
    """Each case in each framework, in JAX each time only those named last."""
    return pytest.mark.parametrize(("backend", "case"), cases.everywhere(names, quick), indirect=["backend"])


def weights_of(case, backend):
    """The weights of a case, made once."""
    if (case, backend) not in KEPT:
        positional, keywords = case.arguments(backend)
        KEPT[case, backend] = regard.attention(*positional, **keywords).weights
    return KEPT[case, backend]


def subset(length):
    """Some positions: the last, the first and those between by fives, out of order."""
    return np.unique(np.array([length - 1, 0, *range(2, length, 5)]) % max(length, 1))[::-1].copy() if length else []


# Each question by name: how the library is asked, and how the oracle.
STATISTICS = {
    "entropy": (lambda weights: weights.entropy(), ("entropy",)),
    "received": (lambda weights: weights.received(), ("received",)),
    "received-by-some": (lambda weights: weights.received(list(subset(weights.shape[-2]))), ("received", "rows")),
    "received-by-slice": (lambda weights: weights.received(slice(1, None, 2)), ("received", slice(1, None, 2))),
    "mass": (lambda weights: weights.mass(list(subset(weights.shape[-1]))), ("mass", "columns")),
    "mass-of-slice": (lambda weights: weights.mass(slice(0, 3)), ("mass", slice(0, 3))),
    "distance": (lambda weights: weights.distance(), ("distance",)),
    "max": (lambda weights: weights.max(), ("max",)),
    "max-score": (lambda weights: weights.max_score(), ("max_score",)),
    "pool-mean": (lambda weights: weights.pool(2, 3), ("pool", 2, 3)),
    "pool-max": (lambda weights: weights.pool(3, 2, reduce="max"), ("pool", 3, 2, "max")),
    "pool-one": (lambda weights: weights.pool(1, 1), ("pool", 1, 1)),
}


def asked_of_oracle(case, question):
    name, *arguments = question
    shape = case.expected.weights.shape
    named = {"rows": subset(shape[-2]), "columns": subset(shape[-1])}
    return name, [named[x] if isinstance(x, str) and x in named else x for x in arguments]


@everywhere(cases.FOR_QUESTIONS, "tall-causal", "everything", "long-300-by-257-causal")
@pytest.mark.parametrize("question", STATISTICS)
def test_a_question_is_answered_as_by_the_oracle(backend, case, question):
    ask, oracles = STATISTICS[question]
    name, arguments = asked_of_oracle(case, oracles)
    *_, queries, keys = case.expected.weights.shape
    if name == "pool" and (arguments[0] > queries or arguments[1] > keys):
        return  # more blocks than rows or columns is an error, see test_errors.py
    with backend.scope(case.dtype):
        answer = ask(weights_of(case, backend))
        unit = 1.0 if name in ("entropy", "max_score") else 0.0
        checks.assert_answer(backend, case, answer, name, *arguments, dtype=checks.accumulator(case.dtype), unit=unit)


@everywhere(cases.FOR_QUESTIONS, "tall-causal", "everything")
@pytest.mark.parametrize("k", [1, 3])
def test_topk_holds_the_largest_and_where_they_are(backend, case, k):
    expected = case.expected.weights
    if k > expected.shape[-1]:
        return
    with backend.scope(case.dtype):
        found = weights_of(case, backend).topk(k)
        assert found._fields == ("values", "indices")
        assert type(found).__name__ == "TopK"
        checks.assert_answer(backend, case, found.values, "topk", k, dtype=checks.accumulator(case.dtype))
        assert_places(backend, case, found.indices, found.values)


@everywhere(cases.FOR_QUESTIONS, "tall-causal", "everything")
def test_argmax_is_where_the_largest_is(backend, case):
    expected = case.expected.weights
    if not expected.shape[-1]:
        return
    with backend.scope(case.dtype):
        weights = weights_of(case, backend)
        assert_places(backend, case, weights.argmax()[..., None], weights.max()[..., None])


def assert_places(backend, case, indices, values):
    """Indices are whole numbers, within the row, no one twice, and the weights there are the values."""
    expected = case.expected.weights
    assert backend.owns(indices)
    assert "int" in backend.dtype(indices)
    indices, values = backend.numpy(indices), backend.numpy(values)
    assert indices.shape == values.shape == (*expected.shape[:-1], indices.shape[-1])
    assert ((indices >= 0) & (indices < expected.shape[-1])).all()
    assert all(len(set(row)) == len(row) for row in indices.reshape(-1, indices.shape[-1]))
    there = np.take_along_axis(expected, indices, -1)
    plain = np.take_along_axis(checks.plain(backend, case, case.dtype).in_numpy("weights"), indices, -1)
    dtype = checks.accumulator(case.dtype)
    checks.assert_values(values, there, plain, dtype=dtype, largest_score=checks.largest_score(case), what="values")


# --- products --------------------------------------------------------------------------------------------------------


def factor(case, axis, leading):
    """A matrix to multiply by, (..., S, 13) or (..., T, 13), with some or all of the leading axes."""
    shape = case.expected.weights.shape
    shape = (*(shape[:-2][len(shape) - 2 - leading :] if leading else ()), shape[axis], 13)
    return frameworks.rounded(cases.numbers(*shape, seed=5), case.dtype)


@everywhere(cases.FOR_QUESTIONS, "tall-causal", "everything")
@pytest.mark.parametrize("leading", [0, 1, 2])
@pytest.mark.parametrize("side", ["rows", "columns"])
def test_products_are_exact(backend, case, leading, side):
    if leading > len(case.expected.weights.shape) - 2:
        return
    x = factor(case, -1 if side == "rows" else -2, leading)
    name = "times" if side == "rows" else "transposed_times"
    with backend.scope(case.dtype):
        weights = weights_of(case, backend)
        given = backend.array(x, case.dtype)
        product = weights @ given if side == "rows" else weights.T @ given
        checks.assert_answer(backend, case, product, name, x.astype(np.float64), dtype=backend.dtype(product))
        assert backend.dtype(product) in (case.dtype, checks.accumulator(case.dtype))


def test_the_transpose_changes_the_last_two_axes_only(backend):
    weights = weights_of(cases.ALL["broadcast-both"], backend)
    assert tuple(weights.T.shape) == (3, 2, 6, 7, 5)
    assert tuple(weights.T.T.shape) == tuple(weights.shape)
    x = backend.array(cases.numbers(7, 2), "float32")
    np.testing.assert_array_equal(backend.numpy(weights.T.T @ x), backend.numpy(weights @ x))


# --- indexing --------------------------------------------------------------------------------------------------------

LEADING = {
    "0": np.s_[0],
    "-1": np.s_[-1],
    "1:": np.s_[1:],
    "0,3": np.s_[0, 3],
    "1,2:5": np.s_[1, 2:5],
    ":,4": np.s_[:, 4],
    "1:2,::2": np.s_[1:2, ::2],
    "0:0": np.s_[0:0],
    "...": np.s_[...],
}


@pytest.mark.parametrize("index", LEADING.values(), ids=LEADING)
@everywhere(["wide", "everything", "bias-6x5x7", "boolean-2x1x5x7", "relative"], "wide")
def test_leading_axes_are_indexed_lazily(backend, case, index):
    chosen = weights_of(case, backend)[index]
    assert isinstance(chosen, regard.AttentionWeights)
    expected = case.expected.weights[index]
    assert tuple(chosen.shape) == expected.shape
    plain = checks.plain(backend, case, case.dtype).in_numpy("weights")[index]
    checks.assert_close(
        backend, chosen.dense(), expected, plain, dtype="float32", largest_score=checks.largest_score(case)
    )
    if expected.size:
        received = case.expected.received()[index]
        plain = checks.plain(backend, case, case.dtype).in_numpy("received")[index]
        checks.assert_close(
            backend, chosen.received(), received, plain, dtype="float32", largest_score=checks.largest_score(case)
        )


CHAINS = {
    "0 then 3": (0, 3),
    "1 then 2:5 then 0": (1, np.s_[2:5], 0),
    ":,4 then 1": (np.s_[:, 4], 1),
    ":,[4,0] then 1 then 1": (np.s_[:, [4, 0]], 1, 1),
    "0,3 then a tile": (np.s_[0, 3], np.s_[2:4, 1:6]),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@everywhere(["wide", "everything", "bias-6x5x7", "boolean-2x1x5x7", "relative"], "wide")
def test_what_was_chosen_can_be_chosen_from(backend, case, chain):
    """A number takes its axis away: what is left are weights like any other."""
    chosen, expected = weights_of(case, backend), case.expected.weights
    plain = checks.plain(backend, case, case.dtype).in_numpy("weights")
    for index in chain:
        chosen, expected, plain = chosen[index], expected[index], plain[index]
    limits = {"dtype": "float32", "largest_score": checks.largest_score(case)}
    if not isinstance(chosen, regard.AttentionWeights):
        checks.assert_close(backend, chosen, expected, plain, **limits)
        return
    checks.assert_close(backend, chosen.dense(), expected, plain, **limits)
    x = np.random.default_rng(0).normal(size=(*expected.shape[:-2], expected.shape[-1], 3)).astype("float32")
    checks.assert_close(backend, chosen @ x, expected @ x, plain @ x, **limits)
    checks.assert_close(backend, chosen.received(), expected.sum(-2), plain.sum(-2), **limits)


TILES = {
    "...,2:4,1:6": np.s_[..., 2:4, 1:6],
    "...,2:,:": np.s_[..., 2:, :],
    "...,:,-2:": np.s_[..., :, -2:],
    "...,3,:": np.s_[..., 3, :],
    "...,:,0": np.s_[..., :, 0],
    "...,-1,-1": np.s_[..., -1, -1],
    "...,::2,::3": np.s_[..., ::2, ::3],
    "...,0:0,:": np.s_[..., 0:0, :],
    "...,[4,0],:": np.s_[..., [4, 0], :],
    "...,:,[6,0,3]": np.s_[..., :, [6, 0, 3]],
    "0,3,1:3,2": np.s_[0, 3, 1:3, 2],
    "1,2,3,4": np.s_[1, 2, 3, 4],
    "1,2,3": np.s_[1, 2, 3],
    ":,1:3,2:4,5:": np.s_[:, 1:3, 2:4, 5:],
}


@pytest.mark.parametrize("index", TILES.values(), ids=TILES)
@everywhere(["wide", "everything", "bias-minus-infinity", "relative"], "wide")
def test_a_tile_is_that_part_of_the_matrix(backend, case, index):
    tile = weights_of(case, backend)[index]
    expected = np.asarray(case.expected.weights[index])
    assert not isinstance(tile, regard.AttentionWeights)
    plain = np.asarray(checks.plain(backend, case, case.dtype).in_numpy("weights")[index])
    checks.assert_close(backend, tile, expected, plain, dtype="float32", largest_score=checks.largest_score(case))


def test_a_tile_of_many_is_computed_alone(backend):
    """Of a matrix of 2^40 numbers."""
    n = 2**20
    query = backend.array(np.ones((n, 1)), "float32")
    kernel = regard.attention(query[:1], query, query).weights  # one query sees them all: 2^20 numbers
    np.testing.assert_allclose(backend.numpy(kernel[0, -3:]), np.full(3, 1 / n), rtol=1e-4)


# --- the whole ----------------------------------------------------------------------------------------------------


def test_dense_and_numpy_are_the_same(backend):
    case = cases.ALL["everything"]
    weights = weights_of(case, backend)
    np.testing.assert_array_equal(np.asarray(weights), backend.numpy(weights.dense()))
    assert np.asarray(weights).dtype == np.float32
    assert backend.dtype(weights.dense()) == str(np.dtype(np.float32))
    assert "float32" in str(weights.dtype)


def test_dense_above_its_limit_names_the_size(backend):
    weights = weights_of(cases.ALL["wide"], backend)
    size = 2 * 6 * 5 * 7 * 4
    assert tuple(weights.dense(max_bytes=size).shape) == (2, 6, 5, 7)
    with pytest.raises(TooLargeError, match=r"1\.68 KB for shape \(2, 6, 5, 7\)"):
        weights.dense(max_bytes=size - 1)


def test_what_is_too_large_is_refused_and_tiles_of_it_are_not(backend):
    """2^15 by 2^15: 4 GiB, of which each query sees three keys."""
    query = backend.array(np.zeros((2**15, 2)), "float32")
    _, weights = regard.attention(query, query, query, mask=regard.masks.window(1, 1))
    with pytest.raises(TooLargeError):
        weights.dense()
    with pytest.raises(TooLargeError):
        np.asarray(weights)
    tile = backend.numpy(weights[-3:, -3:])
    np.testing.assert_allclose(tile, [[1 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2]], rtol=1e-6)


def test_repr_says_what_it_is(backend):
    for name in ("wide", "tall-causal-as-bfloat16"):
        text = repr(weights_of(cases.ALL[name], backend))
        shape = cases.ALL[name].expected.weights.shape
        assert "AttentionWeights" in text
        assert ", ".join(map(str, shape)) in text
        assert any(dtype in text for dtype in ("float32", "bfloat16"))
        assert "kernel" in text
        assert "dense" in text


# --- several at once ------------------------------------------------------------------------------------------------

SEVERAL = ["wide", "long-300-by-257-causal", "everything", "bias-minus-infinity", "tall-causal-as-bfloat16"]


@everywhere(SEVERAL, "everything")
def test_asking_together_gives_the_answers_of_asking_alone(backend, case):
    weights = weights_of(case, backend)
    together = weights.ask("entropy", "received", "max", "distance", "max_score", topk=2, pool=(2, 3))
    dtype = checks.accumulator(case.dtype)
    for question, arguments in (
        ("entropy", ()),
        ("received", ()),
        ("max", ()),
        ("distance", ()),
        ("max_score", ()),
        ("pool", (2, 3)),
    ):
        answer = together[question]
        unit = 1.0 if question in ("entropy", "max_score") else 0.0
        checks.assert_answer(backend, case, answer, question, *arguments, dtype=dtype, unit=unit)
    checks.assert_answer(backend, case, together["topk"].values, "topk", 2, dtype=dtype)
    assert_places(backend, case, together["topk"].indices, together["topk"].values)


ON_THE_WAY = ("entropy", "received", "max", "distance", "max_score", "argmax")


@everywhere(cases.FOR_QUESTIONS, "tall-causal", "everything")
def test_what_is_asked_on_the_way_to_the_output_is_answered_as_afterwards(backend, case, monkeypatch):
    with backend.scope(case.dtype):
        positional, keywords = case.arguments(backend)
        weights = regard.attention(*positional, **keywords, kernel="blockwise", ask=ON_THE_WAY).weights
        if case.sinks is None:  # with them the weights are known after the pass
            forbid_a_second_pass(monkeypatch)
        found = weights.ask(*ON_THE_WAY)
        places = found.pop("argmax")
        for name, answer in found.items():
            unit = 1.0 if name in ("entropy", "max_score") else 0.0
            checks.assert_answer(backend, case, answer, name, dtype=checks.accumulator(case.dtype), unit=unit)
        if case.expected.weights.shape[-1]:
            assert_places(backend, case, places[..., None], found["max"][..., None])


def forbid_a_second_pass(monkeypatch):
    monkeypatch.setattr(Problem, "ask", lambda *_: pytest.fail("a second pass over the scores"))


@everywhere(SEVERAL, "everything")
@pytest.mark.parametrize("kernel", ["blockwise", "auto"])
def test_questions_with_an_argument_are_answered_on_the_way(backend, case, kernel, monkeypatch):
    with backend.scope(case.dtype):
        positional, keywords = case.arguments(backend)
        ask = ("entropy", ("topk", 2), ("pool", (2, 3)))
        weights = regard.attention(*positional, **keywords, kernel=kernel, ask=ask).weights
        if case.sinks is None and weights.kernel != "fused":
            forbid_a_second_pass(monkeypatch)
        dtype = checks.accumulator(case.dtype)
        checks.assert_answer(backend, case, weights.pool(2, 3), "pool", 2, 3, dtype=dtype)
        checks.assert_answer(backend, case, weights.entropy(), "entropy", dtype=dtype, unit=1.0)
        found = weights.topk(2)
        checks.assert_answer(backend, case, found.values, "topk", 2, dtype=dtype)
        assert_places(backend, case, found.indices, found.values)


def test_what_is_known_and_what_is_not_are_asked_together(backend):
    """Operands of a question that is answered already go to no other."""
    case = cases.ALL["wide"]
    positional, keywords = case.arguments(backend)
    weights = regard.attention(*positional, **keywords, kernel="blockwise", ask=(("pool", (2, 3)),)).weights
    found = weights.ask("received", pool=(2, 3), topk=2)
    checks.assert_answer(backend, case, found["pool"], "pool", 2, 3, dtype="float32")
    checks.assert_answer(backend, case, found["received"], "received", dtype="float32")
    problem = weights._problem
    _, mass = weights._ask(_asking.pool(problem, 2, 3), _asking.mass(problem, [0, 2]))
    checks.assert_answer(backend, case, mass, "mass", [0, 2], dtype="float32")


def test_dropout_does_not_touch_what_is_asked_on_the_way(backend):
    positional, keywords = cases.ALL["wide"].arguments(backend)
    weights = regard.attention(*positional, **keywords, dropout=0.5, seed=3, ask=("received",)).weights
    checks.assert_answer(backend, cases.ALL["wide"], weights.received(), "received", dtype="float32")


def test_reduce_sees_each_tile_once(backend):
    """A caller's own reduction: how much weight falls on keys before the query."""
    case = cases.ALL["wide"]
    weights = weights_of(case, backend)

    def before(tile, queries, keys):
        visible = keys[None, :] <= queries[:, None]
        return (backend.numpy(tile).astype(np.float64) * visible).sum()

    dense = backend.numpy(weights.dense()).astype(np.float64)
    expected = (dense * np.tri(*dense.shape[-2:])).sum()
    assert weights.reduce(before, lambda one, two: one + two, 0.0) == pytest.approx(expected, rel=1e-6)


def test_reduce_where_heads_do_not_fit_into_a_tile(backend):
    array = backend.array(np.random.default_rng(0).standard_normal((7, 1031, 2)), "float32")
    weights = regard.attention(array, array, array).weights
    total = weights.reduce(lambda tile, *_: backend.numpy(tile).sum(dtype=np.float64), lambda a, b: a + b, 0.0)
    assert total == pytest.approx(7 * 1031, rel=1e-5)


def test_reduce_of_no_queries_is_what_it_started_from(backend):
    nothing = backend.array(np.zeros((2, 0, 3)), "float32")
    weights = regard.attention(nothing, nothing, nothing).weights
    assert weights.reduce(lambda *_: pytest.fail("there is no tile"), lambda one, two: two, "initial") == "initial"
