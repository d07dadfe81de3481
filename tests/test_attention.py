"""`regard.attention` against the oracle: every case of the table, every framework, eagerly and compiled."""

import numpy as np
import pytest

import cases
import checks
import frameworks
import oracle
import regard


def attend(case, backend):
    positional, keywords = case.arguments(backend)
    return regard.attention(*positional, **keywords)


@pytest.mark.parametrize(("backend", "case"), cases.everywhere(cases.ALL), indirect=["backend"])
def test_output_logsumexp_and_weights_are_the_oracles(backend, case):
    with backend.scope(case.dtype):
        output, weights = attend(case, backend)
        assert tuple(weights.shape) == case.expected.weights.shape
        checks.assert_answer(backend, case, output, "output")
        checks.assert_answer(
            backend, case, weights.logsumexp, "logsumexp", dtype=checks.accumulator(case.dtype), unit=1
        )
        dense = weights.dense()
        checks.assert_answer(backend, case, dense, "weights", dtype=backend.dtype(dense))


COMPILED = [
    "wide",
    "tall-causal",
    "axes-2-causal",
    "long-300-by-257-causal",
    "lengths",
    "boolean-2x1x5x7",
    "segments",
    "or-lengths-of-prefix-language-model",
    "bias-6x5x7",
    "alibi",
    "relative",
    "sinks-causal-tall",
    "everything",
    "wide-as-bfloat16",
]


def compiled(backend, case, compiler):
    """The case with everything that is an array as an argument of the compiled function."""
    positional, _ = case.arguments(backend)

    def function(query, key, value):
        _, keywords = case.arguments(backend)  # rules are made inside, their arrays are constants
        output, weights = regard.attention(query, key, value, **keywords)
        return output, weights.logsumexp, weights.entropy()

    return compiler(function)(*positional)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by torch.compile
@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("framework", ["jax", "tensorflow", pytest.param("torch", marks=pytest.mark.slow)])
def test_the_same_when_compiled(framework, name):
    backend, case = frameworks.ALL[framework], cases.ALL[name]
    output, logsumexp, entropy = compiled(backend, case, backend.compiled)
    statistic = checks.accumulator(case.dtype)
    checks.assert_answer(backend, case, output, "output")
    checks.assert_answer(backend, case, logsumexp, "logsumexp", dtype=statistic, unit=1)
    checks.assert_answer(backend, case, entropy, "entropy", dtype=statistic, unit=1)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by torch.compile
@pytest.mark.parametrize("framework", ["jax", "tensorflow", pytest.param("torch", marks=pytest.mark.slow)])
def test_compiled_without_rules_takes_traced_arrays_in_every_place(framework):
    """Mask, bias and sinks may be traced as well."""
    backend = frameworks.ALL[framework]
    case = cases.Case(
        "traced",
        mask=cases.rule("as it is", cases.flags(cases.B, 1, cases.T, cases.S)),
        bias=cases.rule("as it is", cases.numbers(cases.H, cases.T, cases.S)),
        sinks=cases.numbers(cases.H),
        options={"causal": True},
    )
    positional, keywords = case.arguments(backend)

    def function(query, key, value, mask, bias, sinks):
        return regard.attention(query, key, value, mask=mask, bias=bias, sinks=sinks, causal=True).output

    output = backend.compiled(function)(*positional, keywords["mask"], keywords["bias"], keywords["sinks"])
    checks.assert_answer(backend, case, output, "output")


def test_the_result_is_a_named_tuple(backend):
    result = attend(cases.ALL["wide"], backend)
    assert isinstance(result, tuple)
    assert type(result).__name__ == "Attention"
    assert result._fields == ("output", "weights")
    assert isinstance(result.weights, regard.AttentionWeights)


def test_everything_after_value_is_given_by_name(backend):
    positional, _ = cases.ALL["wide"].arguments(backend)
    with pytest.raises(TypeError):
        regard.attention(*positional, None)


def test_arguments_are_left_as_they_are(backend):
    case = cases.ALL["everything"]
    positional, keywords = case.arguments(backend)
    before = [backend.numpy(x).copy() for x in [*positional, keywords["sinks"]]]
    regard.attention(*positional, **keywords)[1].entropy()
    for x, was in zip([*positional, keywords["sinks"]], before, strict=True):
        np.testing.assert_array_equal(backend.numpy(x), was)


def test_lengths_may_be_lists_of_python(backend):
    case = cases.ALL["lengths"]
    positional, _ = case.arguments(backend)
    output, _ = regard.attention(*positional, mask=regard.masks.lengths([7, 3]))
    checks.assert_answer(backend, case, output, "output")


# --- dropout ---------------------------------------------------------------------------------------------------------


def dropped(backend, seed, dropout=0.25, queries=64, keys=512):
    """With value = 1 and equal scores the output is the part of the weights that was kept, divided by 1 - dropout."""
    query, key = np.zeros((2, queries, 3)), np.zeros((2, keys, 3))
    arrays = [backend.array(x, "float32") for x in (query, key, np.ones((2, keys, 1)))]
    return regard.attention(*arrays, dropout=dropout, seed=seed)


def test_dropout_drops_its_share_and_keeps_the_mean(backend):
    output, _ = dropped(backend, seed=0)
    kept = backend.numpy(output) * 0.75  # of 512 weights, a fraction with mean 0.75
    assert len(np.unique(np.round(kept * 512))) > 10
    np.testing.assert_allclose(kept * 512, np.round(kept * 512), atol=1e-2)
    deviation = np.sqrt(0.25 * 0.75 / 512)
    assert abs(kept.mean() - 0.75) < 5 * deviation / np.sqrt(kept.size)
    assert abs(kept.std() / deviation - 1) < 5 / np.sqrt(2 * kept.size)


def test_dropout_is_told_by_its_seed(backend):
    first, again, other = (backend.numpy(dropped(backend, seed)[0]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_seed_may_be_an_array(backend):
    """One of whole numbers is that number; of several, each counts."""
    single, pair = (np.array(seed, np.int32) for seed in ([7], [7, 1]))
    scalar = backend.numpy(dropped(backend, 7)[0])
    for seed in (single, backend.array(single, "int32"), np.int64(7), single[0], np.array([7])):
        np.testing.assert_array_equal(backend.numpy(dropped(backend, seed)[0]), scalar)
    several = backend.numpy(dropped(backend, backend.array(pair, "int32"))[0])
    assert (several != scalar).any()
    assert (several != backend.numpy(dropped(backend, pair[::-1].copy())[0])).any()
    np.testing.assert_allclose(several, dropped(frameworks.ALL["numpy"], pair)[0], rtol=1e-5)  # 1 / 384 is a weight


def test_one_compiled_function_with_a_seed_for_each_step():
    import jax
    import tensorflow as tf

    inputs = np.ones((2, 16, 3), np.float32)

    def output(seed):
        return regard.attention(*(framework.array(inputs, "float32") for _ in range(3)), dropout=0.5, seed=seed).output

    for framework, compiled, array in (
        (frameworks.ALL["jax"], jax.jit(output), jax.numpy.asarray),
        (frameworks.ALL["tensorflow"], tf.function(output), tf.constant),
    ):
        for seed in (np.int32([3]), np.int32([4])):
            found, expected = (framework.numpy(function(array(seed))) for function in (compiled, output))
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (framework.numpy(compiled(array(np.int32([5])))) != framework.numpy(compiled(array(seed)))).any()


def test_dropout_differs_between_heads_and_queries(backend):
    output = backend.numpy(dropped(backend, seed=0)[0])[..., 0]
    assert (output[0] != output[1]).any()
    assert len(np.unique(output)) > 10


def test_dropout_leaves_the_weights_whole(backend):
    case = cases.ALL["wide"]
    positional, _ = case.arguments(backend)
    _, weights = regard.attention(*positional, dropout=0.5, seed=1)
    checks.assert_answer(backend, case, weights.dense(), "weights")


def test_dropout_of_none_is_none(backend):
    case = cases.ALL["wide"]
    positional, _ = case.arguments(backend)
    checks.assert_answer(backend, case, regard.attention(*positional, dropout=0.0, seed=1).output, "output")


# --- kernels and blocks ----------------------------------------------------------------------------------------------


def test_the_framework_decides_nothing_but_the_framework():
    """All four frameworks answer one question alike."""
    case = cases.ALL["everything"]
    answers = [backend.numpy(attend(case, backend).output) for backend in frameworks.ALL.values()]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=2e-5, atol=2e-6)


# --- few scores of NumPy's, in one tile -------------------------------------------------------------------------------

PLAIN = {
    "one row": ((1, 3), (1, 3)),
    "two axes": ((5, 8), (7, 8)),
    "heads": ((2, 3, 13, 8), (2, 3, 7, 8)),
    "five axes": ((2, 1, 3, 11, 5), (2, 1, 3, 17, 5)),
    "turned": ((3, 8, 13), (3, 8, 7)),
    "enough to compile": ((1, 4, 127, 8), (1, 4, 131, 8)),
    "enough to compile, turned": ((4, 8, 127), (4, 8, 131)),
}


def plain_arrays(name, dtype="float32"):
    arrays = [cases.numbers(*shape, seed=seed).astype(dtype) for seed, shape in enumerate(PLAIN[name])]
    arrays.append(cases.numbers(*PLAIN[name][1], seed=5).astype(dtype))
    return [array.swapaxes(-1, -2) for array in arrays] if "turned" in name else arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PLAIN)
def test_few_scores_are_computed_in_one_tile(name, dtype):
    query, key, value = plain_arrays(name, dtype)
    output, weights = regard.attention(query, key, value)
    assert callable(weights._made_of)  # nothing was laid out
    assert weights.kernel == ("compiled" if "compile" in name else "blockwise")
    assert weights.reason == "not fused: NumPy, which has no fused kernel"
    dense = oracle.attention(query, key, value)
    rounding = 60 * np.finfo(dtype).eps
    for found, expected in (
        (output, dense.output),
        (weights.dense(), dense.weights),
        (weights.logsumexp, dense.logsumexp),
        (weights.entropy(), dense.entropy()),
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize(
    "change",
    [
        {"causal": True},
        {"mask": regard.masks.causal()},
        {"softcap": 2.0},
        {"kernel": "blockwise"},
        {"ask": ("entropy",)},
        {"dropout": 0.5, "seed": 1},
    ],
    ids=str,
)
def test_what_is_not_plain_goes_the_long_way(change):
    assert not callable(regard.attention(*plain_arrays("heads"), **change).weights._made_of)


@pytest.mark.parametrize("name", ["heads", "enough to compile"])
def test_numbers_that_are_not_finite_in_one_tile(name):
    query, key, value = plain_arrays(name)
    query[..., 1, 0], key[..., 3, 1], value[..., 2, 1] = np.nan, -np.inf, np.inf
    with np.errstate(all="raise"):
        output, weights = regard.attention(query, key, value)
        long = regard.attention(query, key, value, kernel="blockwise")
    np.testing.assert_allclose(output, long.output, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(weights.logsumexp, long.weights.logsumexp, rtol=2e-5, atol=2e-6)


def test_large_scores_in_one_tile_keep_their_logarithms():
    """A log-sum-exp in one number would lose them."""
    query, key, value = plain_arrays("heads", "float64")
    query, key, value = (array.astype(np.float32) for array in (query * 1e4, key * 1e3, value))
    output, weights = regard.attention(query, key, value)
    dense = oracle.attention(query, key, value)
    np.testing.assert_allclose(weights.dense().sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights @ value, output, rtol=1e-5, atol=1e-6)
    assert (weights.argmax() == dense.weights.argmax(-1)).mean() > 0.99


@pytest.mark.parametrize("other", [np.float16, np.dtype(">f4")], ids=str)
def test_other_types_go_the_long_way(other):
    query, key, value = (array.astype(other) for array in plain_arrays("heads"))
    assert not callable(regard.attention(query, key, value).weights._made_of)


def test_types_that_no_way_is_for_are_refused():
    query, key, value = (array.astype(np.longdouble) for array in plain_arrays("heads"))
    with pytest.raises(regard.errors.DtypeError):
        regard.attention(query, key, value)
