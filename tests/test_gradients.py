"""Gradients of the output and of the answers about weights, against finite differences of the oracle.

In float64 the library must be as near to the finite differences as they are to the truth; in float32 the rule of
`checks` holds, with the plain computation differentiated by the framework.
"""

import functools

import numpy as np
import pytest

import cases
import checks
import frameworks
import oracle
import regard

# Small, because each number of each argument costs four runs of the oracle; H=2 G=1 T=3 S=4 D=3 E=2.
SMALL = functools.partial(cases._shapes, heads=2, groups=1, queries=3, keys=4, width=3, value_width=2)
TALL = functools.partial(SMALL, queries=4, keys=3)
BIAS = cases.rule("array", cases.numbers(2, 3, 4))
LENGTHS = cases.rule("lengths", np.array([4, 2]))
COLUMN = cases.rule("array", cases.numbers(3, 1))
SINKS = {"sinks": cases.numbers(2)}

CASES = {
    case.name: case
    for case in (
        cases.Case("plain", **SMALL()),
        cases.Case("batch", **SMALL(2)),
        cases.Case("two-axes", **SMALL(heads=None, groups=None)),
        cases.Case("broadcast", query=(2, 1, 2, 3, 3), key=(2, 1, 4, 3), value=(1, 4, 2)),
        cases.Case("causal-empty-rows", **TALL(), options={"causal": True}),
        cases.Case("window-lengths", **SMALL(2), mask=cases.rule("window", 1, 1) & LENGTHS),
        cases.Case("cosine", **SMALL(), options={"similarity": "cosine", "scale": 3.0}),
        cases.Case("softcap", **SMALL(), options={"softcap": 1.3}),
        cases.Case("bias", **SMALL(), bias=BIAS),
        cases.Case("bias-broadcast", **SMALL(2), bias=COLUMN, options={"softcap": 2.0}),
        cases.Case("bias-of-keys", **SMALL(2), bias=cases.rule("array", cases.numbers(4))),
        cases.Case("alibi", **SMALL(), bias=cases.rule("alibi", np.array([0.5, 0.25]))),
        cases.Case("relative", **SMALL(), bias=cases.rule("relative", cases.numbers(8, 2), max_distance=4)),
        cases.Case("sinks", **SMALL(), sinks=cases.numbers(2)),
        cases.Case(
            "sinks-bias", **TALL(), **SINKS, bias=cases.rule("array", cases.numbers(4, 3)), options={"causal": True}
        ),
        cases.Case("large", **SMALL(), magnitude=4.0),
    )
}

# How each answer is asked for: of the library's output and weights, of the oracle's result, of the plain computation.
ANSWERS = {
    "output": (lambda out, weights, x: out, lambda result, x: result.output, lambda plain: plain.output),
    "logsumexp": (
        lambda out, weights, x: weights.logsumexp,
        lambda result, x: result.logsumexp,
        lambda plain: plain.logsumexp(),
    ),
    "entropy": (
        lambda out, weights, x: weights.entropy(),
        lambda result, x: result.entropy(),
        lambda plain: plain.entropy(),
    ),
    "received": (
        lambda out, weights, x: weights.received(),
        lambda result, x: result.received(),
        lambda plain: plain.received(),
    ),
    "max": (lambda out, weights, x: weights.max(), lambda result, x: result.max()),
    "max-score": (lambda out, weights, x: weights.max_score(), lambda result, x: result.max_score()),
    "distance": (lambda out, weights, x: weights.distance(), lambda result, x: result.distance()),
    "received-by-some": (lambda out, weights, x: weights.received([0, 2]), lambda result, x: result.received([0, 2])),
    "mass": (lambda out, weights, x: weights.mass([0, 2]), lambda result, x: result.mass([0, 2])),
    "product": (lambda out, weights, x: weights @ x["columns"], lambda result, x: result.times(x["columns"])),
    "transposed-product": (
        lambda out, weights, x: weights.T @ x["rows"],
        lambda result, x: result.transposed_times(x["rows"]),
    ),
    "tile": (lambda out, weights, x: weights[..., 1:, :2], lambda result, x: result.weights[..., 1:, :2]),
    "dense": (lambda out, weights, x: weights.dense(), lambda result, x: result.weights),
}


def ask_library(case, answers, arrays, backend, **options):
    """The library's answers, by name."""
    keywords = {**case.options, **options}
    if case.mask is not None:
        keywords["mask"] = case.mask.for_library(regard.masks, backend.array)
    if "bias" in arrays:
        made = getattr(regard.biases, case.bias.name)
        keywords["bias"] = made(arrays["bias"], **dict(case.bias.options))
    if "sinks" in arrays:
        keywords["sinks"] = arrays["sinks"]
    output, weights = regard.attention(arrays["query"], arrays["key"], arrays["value"], **keywords)
    return {answer: ANSWERS[answer][0](output, weights, arrays) for answer in answers}


def ask_oracle(case, answer, arrays):
    keywords = dict(case.options)
    if case.mask is not None:
        keywords["mask"] = case.mask.for_oracle(lambda x: x)
    if "bias" in arrays:
        keywords["bias"] = getattr(oracle, case.bias.name)(arrays["bias"], **dict(case.bias.options))
    if "sinks" in arrays:
        keywords["sinks"] = arrays["sinks"]
    return ANSWERS[answer][1](oracle.attention(arrays["query"], arrays["key"], arrays["value"], **keywords), arrays)


@functools.cache
def arguments(case):
    """What to differentiate by, in float64 and exact in float32: also what the weights are multiplied by."""
    arrays = dict(zip(("query", "key", "value"), case.arrays, strict=True))
    if case.bias is not None:
        arrays["bias"] = case.bias.arguments[0]
    if case.sinks is not None:
        arrays["sinks"] = case.sinks
    *_, queries, keys = case.expected.weights.shape
    arrays |= {"columns": cases.numbers(keys, 2), "rows": cases.numbers(queries, 2)}
    return {name: frameworks.rounded(x.astype(np.float64), "float32").astype(np.float64) for name, x in arrays.items()}


@functools.cache
def cotangent(case, answer):
    """The numbers that an answer is weighed with to make one number; 0 where the answer is not finite."""
    expected = ask_oracle(case, answer, arguments(case))
    weights = frameworks.rounded(cases.numbers(*expected.shape, seed=9), "float32").astype(np.float64)
    return np.where(np.isfinite(expected), weights, 0.0)


@functools.cache
def truth(case, answer):
    """The gradient of a weighed answer by each argument, and how far it may be off."""
    arrays, weigh = arguments(case), cotangent(case, answer)

    def total(name, x):
        found = ask_oracle(case, answer, {**arrays, name: x})
        return np.sum(weigh * np.where(weigh == 0, 0, found))

    return {name: oracle.gradient(functools.partial(total, name), x) for name, x in arrays.items()}


def weighed(backend, answers, cotangents):
    """The sum of all answers, each weighed; what is weighed with 0 may be -inf."""
    total = 0
    for answer, found in answers.items():
        weigh = cotangents[answer]
        zero = backend.array(np.array(0.0), backend.dtype(weigh))
        total = total + backend.total(backend.where(weigh == zero, zero, found), weigh)
    return total


@functools.cache
def jax_gradients(case):
    """All answers' gradients in one compiled function: the cotangents of those not asked for are zeros."""
    backend = frameworks.ALL["jax"]

    def total(arrays, cotangents):
        return weighed(backend, ask_library(case, ANSWERS, arrays, backend), cotangents)

    return backend.jax.jit(backend.jax.grad(total))


def library_gradients(backend, case, answers, dtype, **options):
    """By argument, the gradient of the sum of some answers, each weighed with its numbers."""
    arrays = {name: backend.array(x, dtype) for name, x in arguments(case).items()}
    cotangents = {answer: backend.array(cotangent(case, answer), dtype) for answer in ANSWERS}
    if backend.name == "jax":
        for answer in set(ANSWERS) - set(answers):
            cotangents[answer] = cotangents[answer] * 0
        return jax_gradients(case)(arrays, cotangents)

    def total(*given):
        given = dict(zip(arrays, given, strict=True))
        return weighed(backend, ask_library(case, answers, given, backend, **options), cotangents)

    return dict(zip(arrays, backend.gradients(total, *arrays.values()), strict=True))


def everywhere(names, *quick):
    """Each case in each framework with gradients, in JAX each time only those named last."""
    return pytest.mark.parametrize(
        ("differentiable", "case"),
        [
            pytest.param(
                backend,
                CASES[name],
                id=f"{backend}-{name}",
                marks=[pytest.mark.slow] if backend == "jax" and name not in quick else [],
            )
            for backend in ("torch", "jax", "tensorflow")
            for name in names
        ],
        indirect=["differentiable"],
    )


@pytest.mark.parametrize("answer", ANSWERS)
@everywhere(CASES, "batch", "causal-empty-rows", "softcap", "relative", "sinks-bias")
def test_gradients_are_the_oracles_finite_differences(differentiable, case, answer):
    backend = differentiable
    with backend.scope("float64"):
        assert_true(backend, case, answer, library_gradients(backend, case, [answer], "float64"))


def assert_true(backend, case, answer, found):
    """Gradients are as near to the finite differences as these are to the truth."""
    for argument, (gradient, doubt) in truth(case, answer).items():
        checks.assert_like(backend, found[argument], "float64", gradient.shape, argument)
        off = np.abs(backend.numpy(found[argument]) - gradient).max()
        assert off <= doubt + 64 * checks.epsilon("float64") * np.abs(gradient).max(), (
            f"{answer} by {argument}: off by {off:.3g}, the finite differences by {doubt:.3g} at most"
        )


@pytest.mark.parametrize("answer", ["output", "entropy", "received"])
@everywhere(["batch", "causal-empty-rows", "softcap", "bias", "sinks-bias"], "sinks-bias")
def test_gradients_in_float32_are_as_good_as_plain_ones(differentiable, case, answer):
    assert_as_good(differentiable, case, answer, library_gradients(differentiable, case, [answer], "float32"))


def assert_as_good(backend, case, answer, found, dtype="float32"):
    """By the rule of `checks`, beside the gradients of the plain computation."""
    arrays = {k: backend.array(x, dtype) for k, x in arguments(case).items() if k not in ("columns", "rows")}
    weigh = {answer: backend.array(cotangent(case, answer), dtype)}

    def total(*given):
        given = dict(zip(arrays, given, strict=True))
        given = [given.get(name) for name in ("query", "key", "value", "bias", "sinks")]
        plain = checks.Plain(backend, case, dtype, given)
        return weighed(backend, {answer: ANSWERS[answer][2](plain)}, weigh)

    plain = dict(zip(arrays, backend.gradients(total, *arrays.values()), strict=True))
    for argument in arrays:
        checks.assert_close(
            backend,
            found[argument],
            truth(case, answer)[argument][0],
            backend.numpy(plain[argument]),
            dtype=dtype,
            largest_score=checks.largest_score(case),
            unit=1.0,
            what=f"{answer} by {argument}",
        )


def test_several_answers_at_once_add_their_gradients(differentiable):
    """One loss of the output, the entropy and the received attention together."""
    backend, case = differentiable, CASES["sinks-bias"]
    names = ("output", "entropy", "received")
    with backend.scope("float64"):
        found = library_gradients(backend, case, names, "float64")
        for argument in found:
            expected = sum(truth(case, name)[argument][0] for name in names)
            doubt = sum(truth(case, name)[argument][1] for name in names)
            assert np.abs(backend.numpy(found[argument]) - expected).max() <= doubt + 1e-12, argument


@pytest.mark.parametrize("options", [{}, {"kernel": "blockwise", "ask": ("entropy", "received")}], ids=["", "asked"])
def test_gradients_across_blocks(differentiable, options):
    """Lengths that no block divides, against the plain computation's gradient in float64."""
    backend = differentiable
    case = cases.Case(
        "blocks",
        **cases._shapes(heads=2, groups=1, queries=300, keys=271),
        mask=cases.rule("window", 140, 60),
        options={"softcap": 3.0},
        dtype="float64",
    )
    with backend.scope("float64"):
        positional, keywords = case.arguments(backend)
        weigh = {
            "output": cases.numbers(2, 300, 11),
            "entropy": cases.numbers(2, 300),
            "received": cases.numbers(2, 271),
        }
        weigh = {name: backend.array(x, "float64") for name, x in weigh.items()}

        def total(*given):
            output, weights = regard.attention(*given, **keywords, **options)
            return (
                backend.total(output, weigh["output"])
                + backend.total(weights.entropy(), weigh["entropy"])
                + backend.total(weights.received(), weigh["received"])
            )

        def plainly(*given):
            plain = checks.Plain(backend, case, "float64", [*given, None, None])
            return (
                backend.total(plain.output, weigh["output"])
                + backend.total(plain.entropy(), weigh["entropy"])
                + backend.total(plain.received(), weigh["received"])
            )

        found, expected = backend.gradients(total, *positional), backend.gradients(plainly, *positional)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-9, atol=1e-10)


def test_the_gradient_is_compiled_too():
    """Inside jax.jit (as every gradient of JAX here) and inside tf.function."""
    import tensorflow as tf

    backend, case = frameworks.ALL["tensorflow"], CASES["batch"]
    weigh = tf.constant(cotangent(case, "output"))

    @tf.function
    def gradients(query, key, value):
        with tf.GradientTape() as tape:
            tape.watch([query, key, value])
            total = tf.reduce_sum(regard.attention(query, key, value).output * weigh)
        return tape.gradient(total, [query, key, value])

    names = ("query", "key", "value")
    found = gradients(*(backend.array(arguments(case)[name], "float64") for name in names))
    for name, x in zip(names, found, strict=True):
        gradient, doubt = truth(case, "output")[name]
        assert np.abs(x.numpy() - gradient).max() <= doubt + 1e-13


def test_memory_of_one_gradient_serves_the_next(differentiable):
    """Asking again gives the same gradient: nothing kept is spent or changed."""
    backend, case = differentiable, CASES["plain"]
    first = library_gradients(backend, case, ["entropy"], "float32")
    again = library_gradients(backend, case, ["entropy"], "float32")
    for name in first:
        np.testing.assert_array_equal(backend.numpy(first[name]), backend.numpy(again[name]))


def test_largest_weights_of_rectangles_have_gradients_where_several_blocks_make_one(differentiable):
    """The largest of a rectangle is one weight, whichever block it is in."""
    random = np.random.default_rng(0)
    with differentiable.scope("float64"):
        query, key = (differentiable.array(random.normal(size=(1, 1100, 2)), "float64") for _ in range(2))

        def mine(query, key):
            weights = regard.attention(query, key, key, kernel="blockwise").weights
            pooled = weights.pool(1, 2, "max")
            return differentiable.total(pooled, pooled)

        found = differentiable.gradients(mine, query, key)
        scores = differentiable.numpy(query)[0] @ differentiable.numpy(key)[0].T / 2**0.5
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        of_scores = np.zeros_like(scores)
        for columns in (slice(0, 550), slice(550, 1100)):
            row, column = np.unravel_index(weights[:, columns].argmax(), (1100, 550))
            largest = weights[row, columns.start + column]
            of_scores[row] += 2 * largest * -largest * weights[row]
            of_scores[row, columns.start + column] += 2 * largest * largest
        wanted = of_scores @ differentiable.numpy(key)[0] / 2**0.5
        np.testing.assert_allclose(differentiable.numpy(found[0])[0], wanted, rtol=1e-6, atol=1e-9)
