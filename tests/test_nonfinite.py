"""NaN and infinity reach exactly the rows that see them."""

import numpy as np
import pytest

import cases
import checks
import frameworks
import oracle
import regard

MASKS = {
    "none": (None, {}),
    "causal": (None, {"causal": True}),
    "window": (cases.rule("window", 1, 0), {}),
    "lengths": (cases.rule("lengths", np.array([7, 3])), {}),
    "segments": (cases._SEGMENTS, {}),
    "boolean": (cases.rule("boolean", cases.flags(2, 1, 5, 7)), {}),
    "long": (cases.rule("window", 3, 3), {"causal": True}),
}


def spoiled(mask, which, number):
    """A case with one number that is not finite in the query, the key or the value of the second example."""
    rule, options = MASKS[mask]
    shapes = cases._shapes(2, heads=2, groups=1, queries=140, keys=140) if mask == "long" else {}
    case = cases.Case(f"spoiled-{mask}", mask=rule, options=options, **shapes)
    case.arrays[["query", "key", "value"].index(which)][1, 0, 4, 1] = number
    return case


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("which", ["query", "key", "value"])
@pytest.mark.parametrize("mask", MASKS)
def test_only_the_rows_that_see_it(backend, mask, which, number):
    case = spoiled(mask, which, number)
    positional, keywords = case.arguments(backend)
    output, weights = regard.attention(*positional, **keywords)
    for name, answer, expected in (
        ("output", output, case.expected.output),
        ("logsumexp", weights.logsumexp, case.expected.logsumexp),
        ("weights", weights.dense(), case.expected.weights),
        ("entropy", weights.entropy(), case.expected.entropy()),
        ("max", weights.max(), case.expected.weights.max(-1)),
        ("max_score", weights.max_score(), case.expected.max_score()),
    ):
        answer = backend.numpy(answer)
        if name in ("output", "weights"):  # of a row as a whole: a value that is not finite may take its columns along
            clean, found = (np.isfinite(x).all(-1) for x in (expected, answer))
        else:
            clean, found = ~np.isnan(expected), ~np.isnan(answer)
        np.testing.assert_array_equal(found, clean, err_msg=f"{name}: where it is a number")
        np.testing.assert_allclose(answer[clean], expected[clean], rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_no_one_sees_is_never_read(backend):
    """Garbage behind a mask, as in a cache that is not full yet."""
    case = cases.Case("garbage", mask=cases.rule("lengths", np.array([4, 2])))
    clean = [x.copy() for x in case.arrays]
    for example, length in enumerate((4, 2)):
        case.arrays[1][example, :, length:] = np.nan
        case.arrays[2][example, :, length:] = np.inf
    positional, keywords = case.arguments(backend)
    output, weights = regard.attention(*positional, **keywords)
    expected = oracle.attention(*(x.astype(np.float64) for x in clean), mask=case.mask.for_oracle(lambda x: x))
    np.testing.assert_allclose(backend.numpy(output), expected.output, rtol=1e-4, atol=1e-5)
    for question in ("entropy", "received", "max", "max_score", "distance"):
        answer = backend.numpy(getattr(weights, question)())
        np.testing.assert_allclose(answer, getattr(expected, question)(), rtol=1e-4, atol=1e-5, err_msg=question)


def test_no_gradient_comes_from_what_no_one_sees(differentiable):
    backend = differentiable
    case = cases.Case("garbage", mask=cases.rule("lengths", np.array([4, 0])))
    case.arrays[2][0, :, 4:] = np.nan
    positional, keywords = case.arguments(backend)

    def total(query, key, value):
        output = regard.attention(query, key, value, **keywords).output
        return backend.total(output, output)

    gradients = [backend.numpy(x) for x in backend.gradients(total, *positional)]
    assert all(np.isfinite(x).all() for x in gradients)
    for x in gradients[1:]:
        assert not x[0, :, 4:].any()
        assert not x[1].any()
        assert x[0, :, :4].any()


@pytest.mark.parametrize("size", [1e19, 3e38])
def test_scores_beyond_float32(backend, size):
    """Scores that overflow: NaN where the formula says so (inf - inf), and no warning."""
    x = backend.array(np.array([[size, size]]), "float32")
    output, _ = regard.attention(x, x, backend.array(np.array([[1.0]]), "float32"))
    assert np.isnan(backend.numpy(output)).all() or np.allclose(backend.numpy(output), 1.0)


def test_a_row_of_minus_infinity_is_an_empty_row(backend):
    """A bias of -inf in the whole of a row hides every key, as a mask would."""
    bias = np.zeros((5, 7))
    bias[2] = -np.inf
    case = cases.Case("row-of-minus-infinity", bias=cases.rule("array", bias))
    positional, keywords = case.arguments(backend)
    output, weights = regard.attention(*positional, **keywords)
    assert not backend.numpy(output)[:, :, 2].any()
    assert (backend.numpy(weights.logsumexp)[:, :, 2] == -np.inf).all()
    checks.assert_answer(backend, case, weights.entropy(), "entropy", unit=1)


def test_the_numbers_of_the_table_are_finite():
    """So that a NaN in any other test is the library's own."""
    for case in cases.ALL.values():
        assert all(np.isfinite(x.astype(np.float64)).all() for x in case.arrays), case.name
    assert set(frameworks.ALL) == {"numpy", "torch", "jax", "tensorflow"}


def test_float64_beyond_float32_behind_a_mask():
    """Large values are finite in their own type: no warning, and nothing of them is lost."""
    value = np.full((3, 4), 1e300)
    output, weights = regard.attention(np.eye(3, 4), np.eye(3, 4), value, causal=True)
    np.testing.assert_allclose(output, value)
    np.testing.assert_allclose(weights @ value, value)
