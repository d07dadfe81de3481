"""What must hold for every input: properties, searched for counterexamples."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import frameworks
import oracle
import regard

BACKENDS = [frameworks.ALL[name] for name in ("numpy", "torch", "tensorflow")]  # JAX compiles each new shape
ROUNDING = {"rtol": 2e-5, "atol": 2e-5}


@st.composite
def calls(draw):
    """Query, key, value, and rules, of small and uneven sizes."""
    heads, groups = draw(st.sampled_from([(1, 1), (4, 2), (3, 1), (2, 2)]))
    queries, keys = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    width, value_width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    magnitude = draw(st.sampled_from([0.1, 1.0, 5.0]))
    query = random.standard_normal((heads, queries, width)) * magnitude
    key = random.standard_normal((groups, keys, width)) * magnitude
    value = random.standard_normal((groups, keys, value_width))
    mask = random.random((heads, queries, keys)) < draw(st.sampled_from([0.2, 0.7, 1.0]))
    causal = draw(st.booleans())
    return [x.astype(np.float32) for x in (query, key, value)], mask, causal


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def quick(request):
    return request.param


def attend(backend, arrays, **keywords):
    """Output and weights of the library as NumPy's."""
    keywords = {k: backend.array(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    output, weights = regard.attention(*(backend.array(x) for x in arrays), **keywords)
    return backend.numpy(output), weights


def given(function):
    return hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])(
        hypothesis.given(calls())(function)
    )


@given
def test_it_is_the_oracles_attention(quick, call):
    arrays, mask, causal = call
    output, weights = attend(quick, arrays, mask=mask, causal=causal)
    expected = oracle.attention(*arrays, mask=mask, causal=causal)
    np.testing.assert_allclose(output, expected.output, **ROUNDING)
    np.testing.assert_allclose(quick.numpy(weights.dense()), expected.weights, **ROUNDING)


@given
def test_rows_sum_to_one_or_to_nothing(quick, call):
    arrays, mask, causal = call
    _, weights = attend(quick, arrays, mask=mask, causal=causal)
    sums = quick.numpy(weights.dense()).sum(-1)
    seen = oracle.attention(*arrays, mask=mask, causal=causal).visible.any(-1)
    np.testing.assert_allclose(sums, seen.astype(float), rtol=1e-5, atol=0)
    np.testing.assert_allclose(quick.numpy(weights.mass(slice(None))), seen.astype(float), rtol=1e-5, atol=0)


@given
def test_received_attention_sums_to_the_queries_that_see(quick, call):
    arrays, mask, causal = call
    _, weights = attend(quick, arrays, mask=mask, causal=causal)
    seen = oracle.attention(*arrays, mask=mask, causal=causal).visible.any(-1)
    np.testing.assert_allclose(quick.numpy(weights.received()).sum(-1), seen.sum(-1), rtol=1e-5, atol=1e-6)


@given
def test_entropy_is_between_none_and_that_of_equal_weights(quick, call):
    arrays, mask, causal = call
    _, weights = attend(quick, arrays, mask=mask, causal=causal)
    entropy = quick.numpy(weights.entropy())
    visible = oracle.attention(*arrays, mask=mask, causal=causal).visible.sum(-1)
    assert (entropy >= 0).all()
    assert (entropy <= np.log(np.maximum(visible, 1)) * (1 + 1e-5) + 1e-5).all()


@given
def test_permuted_keys_permute_the_weights(quick, call):
    arrays, mask, _ = call
    query, key, value = arrays
    order = np.random.default_rng(0).permutation(key.shape[-2])
    output, weights = attend(quick, arrays, mask=mask)
    again, permuted = attend(quick, [query, key[:, order], value[:, order]], mask=mask[..., order])
    np.testing.assert_allclose(again, output, **ROUNDING)
    np.testing.assert_allclose(quick.numpy(permuted.dense()), quick.numpy(weights.dense())[..., order], **ROUNDING)


@given
def test_permuted_queries_permute_the_output(quick, call):
    arrays, mask, _ = call
    query, key, value = arrays
    order = np.random.default_rng(1).permutation(query.shape[-2])
    output, _ = attend(quick, arrays, mask=mask)
    again, _ = attend(quick, [query[:, order], key, value], mask=mask[:, order])
    np.testing.assert_allclose(again, output[:, order], **ROUNDING)


@given
def test_a_constant_added_to_a_rows_scores_changes_its_logsumexp_alone(quick, call):
    arrays, mask, causal = call
    bias = np.random.default_rng(2).standard_normal((*mask.shape[:2], 1)).astype(np.float32) * 10
    output, weights = attend(quick, arrays, mask=mask, causal=causal)
    again, shifted = attend(quick, arrays, mask=mask, causal=causal, bias=bias)
    np.testing.assert_allclose(again, output, rtol=1e-4, atol=1e-4)
    before, after = (quick.numpy(x.logsumexp) for x in (weights, shifted))
    seen = np.isfinite(before)
    np.testing.assert_array_equal(np.isfinite(after), seen)
    np.testing.assert_allclose(after[seen], (before + bias[..., 0])[seen], rtol=1e-4, atol=1e-4)


@given
def test_a_masked_key_is_a_removed_key(quick, call):
    (query, key, value), mask, _ = call
    kept = mask.any((0, 1))
    hypothesis.assume(kept.any())
    output, weights = attend(quick, [query, key, value], mask=kept)
    again, removed = attend(quick, [query, key[:, kept], value[:, kept]])
    np.testing.assert_allclose(output, again, **ROUNDING)
    np.testing.assert_allclose(quick.numpy(weights.logsumexp), quick.numpy(removed.logsumexp), **ROUNDING)
    np.testing.assert_allclose(quick.numpy(weights.dense())[..., kept], quick.numpy(removed.dense()), **ROUNDING)


@given
def test_a_scaled_query_is_a_scaled_scale(quick, call):
    (query, key, value), mask, causal = call
    scale = query.shape[-1] ** -0.5
    output, _ = attend(quick, [query * 2, key, value], mask=mask, causal=causal)
    again, _ = attend(quick, [query, key, value], mask=mask, causal=causal, scale=2 * scale)
    np.testing.assert_allclose(output, again, **ROUNDING)


@given
def test_cosine_does_not_know_lengths(quick, call):
    (query, key, value), mask, causal = call
    output, _ = attend(quick, [query, key, value], mask=mask, causal=causal, similarity="cosine")
    longer = [query * 3, key * 0.25, value]
    again, _ = attend(quick, longer, mask=mask, causal=causal, similarity="cosine")
    np.testing.assert_allclose(output, again, **ROUNDING)


@given
def test_value_is_entered_linearly(quick, call):
    (query, key, value), mask, causal = call
    output, weights = attend(quick, [query, key, value], mask=mask, causal=causal)
    other = np.random.default_rng(3).standard_normal(value.shape).astype(np.float32)
    together, _ = attend(quick, [query, key, value + 2 * other], mask=mask, causal=causal)
    second, _ = attend(quick, [query, key, other], mask=mask, causal=causal)
    np.testing.assert_allclose(together, output + 2 * second, **ROUNDING)
    spread = np.repeat(other, query.shape[0] // key.shape[0], 0)
    np.testing.assert_allclose(quick.numpy(weights @ quick.array(spread)), second, **ROUNDING)


@given
def test_groups_are_heads_repeated(quick, call):
    (query, key, value), mask, causal = call
    times = query.shape[0] // key.shape[0]
    output, _ = attend(quick, [query, key, value], mask=mask, causal=causal)
    again, _ = attend(quick, [query, np.repeat(key, times, 0), np.repeat(value, times, 0)], mask=mask, causal=causal)
    np.testing.assert_allclose(output, again, **ROUNDING)


@hypothesis.given(
    queries=st.integers(1, 700), keys=st.integers(1, 700), left=st.integers(0, 300), right=st.integers(0, 300)
)
@hypothesis.settings(max_examples=15)
def test_the_size_of_a_block_is_irrelevant(queries, keys, left, right):
    """Lengths around the sizes of blocks, in NumPy: a window and the same window as an array."""
    random = np.random.default_rng([queries, keys])
    arrays = [random.standard_normal((n, 4)).astype(np.float32) for n in (queries, keys, keys)]
    own = np.arange(queries)[:, None] + keys - queries
    dense = (np.arange(keys) >= own - left) & (np.arange(keys) <= own + right)
    output, weights = regard.attention(*arrays, mask=regard.masks.window(left, right))
    scores = np.where(dense, arrays[0].astype(float) @ arrays[1].T / 2, -np.inf)
    top = np.where(dense.any(-1, keepdims=True), scores.max(-1, keepdims=True), 0)
    powers = np.exp(scores - top)
    expected = powers / np.maximum(powers.sum(-1, keepdims=True), 1e-300)
    np.testing.assert_allclose(output, expected @ arrays[2], **ROUNDING)
    np.testing.assert_allclose(weights.received(), expected.sum(0), **ROUNDING)
