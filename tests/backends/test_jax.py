"""What JAX promises of a container: weights go in and out of compiled functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regard
from regard import masks


def arrays():
    random = np.random.default_rng(0)
    return tuple(jnp.asarray(random.normal(size=(2, 3, 11, 5)), jnp.float32) for _ in range(3))


@pytest.mark.parametrize("mask", [None, masks.causal(), masks.lengths([11, 7])], ids=["none", "causal", "lengths"])
def test_weights_come_out_of_a_compiled_function_and_go_into_another(mask):
    @jax.jit
    def attend(query, key, value):
        return regard.attention(query, key, value, mask=mask)

    @jax.jit
    def ask(weights):
        return weights.entropy(), weights.received()

    output, weights = attend(*arrays())
    expected = regard.attention(*arrays(), mask=mask)
    assert weights.shape == (2, 3, 11, 11)
    np.testing.assert_allclose(output, expected.output, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights.dense(), expected.weights.dense(), rtol=1e-5, atol=1e-6)
    entropy, received = ask(weights)
    np.testing.assert_allclose(entropy, expected.weights.entropy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(received, expected.weights.received(), rtol=1e-5, atol=1e-5)


def test_gradients_through_weights_that_were_passed():
    query, key, value = arrays()
    ask = jax.jit(lambda weights: weights.entropy().sum())
    through = jax.grad(lambda query: ask(regard.attention(query, key, value).weights))(query)
    expected = jax.grad(lambda query: regard.attention(query, key, value).weights.entropy().sum())(query)
    np.testing.assert_allclose(through, expected, rtol=1e-4, atol=1e-5)


def test_taken_apart_and_put_together():
    weights = regard.attention(*arrays()).weights
    leaves, structure = jax.tree_util.tree_flatten(weights)
    assert len(leaves) == 3  # query, key, log-sum-exp
    again = jax.tree_util.tree_unflatten(structure, leaves)
    np.testing.assert_array_equal(again.dense(), weights.dense())
