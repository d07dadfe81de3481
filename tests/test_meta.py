"""Every checker is handed a wrong answer and must refuse it: a test that cannot fail is worse than none."""

import numpy as np
import pytest

import cases
import checks
import frameworks
import oracle

NUMPY = frameworks.ALL["numpy"]
WIDE = cases.ALL["wide"]


def right(name="output", dtype="float32"):
    answer = getattr(WIDE.expected, name)
    return (answer() if callable(answer) else answer).astype(dtype)


# --- assert_close ----------------------------------------------------------------------------------------------------


def test_the_right_answer_passes(backend):
    checks.assert_answer(backend, WIDE, backend.array(right(), "float32"), "output")


def test_another_frameworks_array_fails(backend):
    other = frameworks.ALL["torch" if backend.name == "numpy" else "numpy"]
    with pytest.raises(AssertionError, match="an array of"):
        checks.assert_answer(backend, WIDE, other.array(right(), "float32"), "output")


def test_a_wrong_dtype_fails(backend):
    with backend.scope("float64"), pytest.raises(AssertionError, match="float64, not float32"):
        checks.assert_answer(backend, WIDE, backend.array(right(), "float64"), "output")


def test_a_wrong_shape_fails(backend):
    with pytest.raises(AssertionError, match="shape"):
        checks.assert_answer(backend, WIDE, backend.array(right()[0], "float32"), "output")


def test_a_shape_that_broadcasts_fails():
    with pytest.raises(AssertionError, match="shape"):
        checks.assert_answer(NUMPY, WIDE, right()[:1], "output")


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 5, 4, 10), (1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("wrong", [1e-5, -1e-5, 1.0, np.nan, np.inf])
def test_one_wrong_number_fails(place, wrong):
    answer = right()
    answer[place] += wrong
    with pytest.raises(AssertionError):
        checks.assert_answer(NUMPY, WIDE, answer, "output")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_an_error_of_ten_units_in_the_last_place_fails(dtype):
    """And one of half a unit, which rounding makes, passes."""
    expected = np.linspace(0.5, 1.0, 101)[:-1]
    plain = frameworks.rounded(expected, dtype).astype(np.float64)
    checks.assert_values(plain, expected, plain, dtype=dtype)
    with pytest.raises(AssertionError, match="off by"):
        checks.assert_values(expected + 10 * checks.epsilon(dtype), expected, plain, dtype=dtype)


@pytest.mark.parametrize(("expected", "actual"), [(-np.inf, -1e30), (-np.inf, np.nan), (np.nan, 0.0), (0.0, -np.inf)])
def test_what_is_not_finite_must_be_just_so(expected, actual):
    with pytest.raises(AssertionError):
        checks.assert_values([1.0, actual], [1.0, expected], [1.0, expected], dtype="float32")


def test_a_plain_computation_that_fails_allows_nothing_more():
    with pytest.raises(AssertionError, match="off by"):
        checks.assert_values([1.01], [1.0], [np.nan], dtype="float32")


def test_a_bad_plain_computation_would_show():
    """The plain computations of the table are themselves near the oracle: they are no licence for any error."""
    for name in ("wide", "tall-causal", "everything", "relative", "sinks-causal-tall", "bias-minus-infinity"):
        for backend in frameworks.ALL.values():
            case = cases.ALL[name]
            error = np.abs(checks.plain(backend, case, "float32").in_numpy("output") - case.expected.output)
            assert error.max() < 1e-6, (name, backend.name)


# --- the oracle ------------------------------------------------------------------------------------------------------


def test_the_oracle_gives_what_can_be_reckoned_by_hand():
    query, key, value = [[1.0]], [[0.0], [np.log(3.0)]], [[4.0, 0.0], [8.0, 1.0]]
    result = oracle.attention(query, key, value)
    np.testing.assert_allclose(result.weights, [[0.25, 0.75]])
    np.testing.assert_allclose(result.output, [[7.0, 0.75]])
    np.testing.assert_allclose(result.logsumexp, [np.log(4.0)])
    np.testing.assert_allclose(result.entropy(), [0.25 * np.log(4) + 0.75 * np.log(4 / 3)])
    np.testing.assert_allclose(result.max_score(), [np.log(3.0)])
    np.testing.assert_allclose(result.distance(), [0.25])
    np.testing.assert_allclose(result.received(), [0.25, 0.75])
    np.testing.assert_allclose(result.mass([0]), [0.25])
    np.testing.assert_allclose(result.topk(2), [[0.75, 0.25]])
    np.testing.assert_allclose(result.pool(1, 2), [[[0.25, 0.75]]][0])
    np.testing.assert_allclose(oracle.attention(query, key, value, scale=2.0).weights, [[0.1, 0.9]])
    np.testing.assert_allclose(oracle.attention(query, key, value, sinks=[np.log(4.0)]).weights, [[0.125, 0.375]])
    np.testing.assert_allclose(oracle.attention(query, key, value, similarity="cosine").weights, [[np.nan] * 2])
    capped = oracle.attention(query, key, value, softcap=0.5).logsumexp
    np.testing.assert_allclose(capped, np.log(1 + np.exp(0.5 * np.tanh(2 * np.log(3)))))


def test_the_oracle_of_pytorch_agrees():
    """An implementation by others, where it has the same conventions: a mask, groups, a scale."""
    import torch

    case = cases.ALL["boolean-2x6x5x7"]
    arrays, keywords = case.oracle_arguments
    mask = case.expected.visible
    arrays = [torch.from_numpy(x) for x in arrays]
    attend = torch.nn.functional.scaled_dot_product_attention
    theirs = attend(*arrays, attn_mask=torch.from_numpy(mask), enable_gqa=True, scale=0.3).numpy()
    ours = oracle.attention(*case.oracle_arguments[0], **keywords, scale=0.3).output
    rows = mask.any(-1)
    assert rows.any()
    np.testing.assert_allclose(ours[rows], theirs[rows], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "change",
    [
        {"causal": True},
        {"scale": 0.5},
        {"similarity": "cosine"},
        {"softcap": 1.0},
        {"sinks": np.zeros(cases.H)},
        {"bias": cases.numbers(cases.T, cases.S)},
        {"mask": np.eye(cases.T, cases.S, dtype=bool)},
        {"mask": oracle.window(1, 0)},
        {"mask": oracle.prefix(2)},
        {"bias": oracle.alibi(np.ones(cases.H))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_argument_of_the_oracle_changes_its_answer(change):
    arrays, _ = WIDE.oracle_arguments
    changed = oracle.attention(*arrays, **change)
    assert np.abs(changed.weights - WIDE.expected.weights).max() > 1e-3
    assert np.abs(changed.output - WIDE.expected.output).max() > 1e-3


def test_the_gradient_of_the_oracle_is_the_derivative():
    x = np.array([[0.3, -1.2], [0.8, 2.0]])
    found, doubt = oracle.gradient(lambda x: np.sum(np.sin(x) * x), x)
    error = np.abs(found - (np.cos(x) * x + np.sin(x))).max()
    assert error <= doubt < 1e-8
    assert np.abs(found - np.cos(x)).max() > doubt


# --- the table ------------------------------------------------------------------------------------------------------


def test_no_two_cases_are_the_same():
    names = [case.name for case in cases._table()]
    assert len(names) == len(set(names)) == len(cases.BASE)


def test_the_table_holds_what_it_promises():
    found = [case.expected for case in cases.BASE.values()]
    shapes = [result.weights.shape for result in found]
    assert any(T < S for *_, T, S in shapes)
    assert any(T == S for *_, T, S in shapes)
    assert any(T > S for *_, T, S in shapes)
    assert {len(shape) for shape in shapes} == {2, 3, 4, 5}
    assert any(0 in shape for shape in shapes)
    assert any(shape[-1] > 256 for shape in shapes)
    empty = [~result.visible.any(-1) for result in found]
    assert any(rows.any() and not rows.all() for rows in empty)
    assert any(rows.size and rows.all() for rows in empty)
    assert {case.dtype for case in cases.ALL.values()} == set(frameworks.DTYPES)
    used = {key for case in cases.BASE.values() for key in case.options}
    assert used == {"causal", "scale", "similarity", "softcap"}
    for name in ("causal", "window", "lengths", "segments", "prefix", "pairs", "boolean"):
        assert any(name in repr(case.mask) for case in cases.BASE.values()), name
    for name in ("alibi", "relative", "array"):
        assert any(name in str(case.bias) for case in cases.BASE.values()), name


SHORT = [name for name, case in cases.BASE.items() if (case.mask or case.bias) and not name.startswith("long")]
CHANGE_NOTHING = {"window-None-None", "window-100-100", "prefix-all", "bias-5x1"}  # said to see all, or add a constant


@pytest.mark.parametrize("name", SHORT)
def test_every_rule_of_the_table_changes_something(name):
    """A rule that did nothing would test nothing."""
    case = cases.BASE[name]
    arrays, keywords = case.oracle_arguments
    bare = oracle.attention(*arrays, **{k: v for k, v in keywords.items() if k not in ("mask", "bias")})
    assert np.allclose(bare.weights, case.expected.weights) == (name in CHANGE_NOTHING)
