"""Rows of large scores: whatever is added to all of a row, its weights are the same and sum to 1.

A model masks by adding -1e9 or the lowest number of its type; such a row's log-sum-exp, as one rounded number, does not
know how many keys there are.
"""

import numpy as np
import pytest

import frameworks
import regard

FILLS = [-1e4, 1e5, 1e6, -1e9, float(np.finfo(np.float32).min), 3e38]
KERNELS = ["auto", "blockwise"]
T, S = 5, 7


def arrays(backend, magnitude=1.0, length=S, dtype="float32"):
    random = np.random.default_rng(0)
    sizes = ((2, T, 4), (2, length, 4), (2, length, 3))
    return [backend.array(random.normal(size=size) * magnitude, dtype) for size in sizes]


def answers(backend, weights, length=S):
    numpy = backend.numpy
    ones = backend.array(np.ones((length, 1)), "float32")
    return {
        "dense": numpy(weights.dense()).sum(-1),
        "rows": numpy(weights[..., 1:, :]).sum(-1),
        "product": numpy(weights @ ones)[..., 0],
        "mass": numpy(weights.mass(range(length))),
        "topk": numpy(weights.topk(length).values).sum(-1),
        "pool": numpy(weights.pool(T, 1))[..., 0] * length,
        "received": numpy(weights.received()).sum(-1, keepdims=True) / T,
        "transposed": numpy(weights.T @ backend.array(np.ones((T, 1)), "float32"))[..., 0].sum(-1, keepdims=True) / T,
    }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("fill", FILLS)
def test_rows_of_one_number_have_even_weights_in_every_answer(backend, fill, kernel):
    query, key, value = arrays(backend)
    bias = np.zeros((T, S))
    bias[-1] = fill
    _, weights = regard.attention(query, key, value, bias=backend.array(bias, "float32"), kernel=kernel)
    for name, sums in answers(backend, weights).items():
        np.testing.assert_allclose(sums, 1, atol=1e-5, err_msg=name)
    plain = backend.numpy(query).astype(np.float64) @ np.swapaxes(backend.numpy(key), -1, -2) / 2
    # What is added swallows the score, but where it is small: then the row is that of the score, rounded as float32 is.
    scores = (plain[:, -1].astype(np.float32) + np.float32(fill)).astype(np.float64)
    wanted = np.exp(scores - scores.max(-1, keepdims=True))
    wanted /= wanted.sum(-1, keepdims=True)
    spread = 0.05 if abs(fill) < 1e7 else 1e-5  # a score is rounded to a multiple of 0.001 at 1e4, of 0.06 at 1e6
    np.testing.assert_allclose(backend.numpy(weights.dense())[:, -1], wanted, atol=spread)
    np.testing.assert_allclose(backend.numpy(weights[..., 4, 2:5]), wanted[:, 2:5], atol=spread)
    entropy = -(wanted * np.log(wanted)).sum(-1)
    np.testing.assert_allclose(backend.numpy(weights.entropy())[:, -1], entropy, atol=2 * spread)
    if fill > -1e30:
        np.testing.assert_allclose(
            backend.numpy(weights.logsumexp)[:, -1], fill, rtol=1e-3, err_msg="the log-sum-exp is one number"
        )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("magnitude", [30.0, 300.0, 1000.0])
def test_rows_of_scores_up_to_a_million_sum_to_one(backend, magnitude, kernel):
    length = 40  # so many that PyTorch takes its shortest way
    query, key, value = arrays(backend, magnitude, length)
    query, key, value = query[None], key[None], value[None]
    _, weights = regard.attention(query, key, key, kernel=kernel)
    assert float(np.abs(backend.numpy(weights.max_score())).max()) > magnitude**2 / 2
    for name, sums in answers(backend, weights, length).items():
        np.testing.assert_allclose(sums, 1, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shift", [0.0, -1e4, -1e9, float(np.finfo(np.float32).min)])
def test_gradients_of_a_shifted_row_are_those_of_a_row(differentiable, shift, kernel):
    """Queries are zero, so that a row is the bias alone, and its gradient by the values and the bias is known."""
    _, key, value = arrays(differentiable)
    bias = differentiable.array(np.full((T, S), shift), "float32")
    zeros = differentiable.array(np.zeros((2, T, 4)), "float32")

    def total(query, key, value, bias):
        output, weights = regard.attention(query, key, value, bias=bias, kernel=kernel)
        return (
            (output**2).sum() + weights.entropy().sum()
            if differentiable.name != "tensorflow"
            else (frameworks.tf.reduce_sum(output**2) + frameworks.tf.reduce_sum(weights.entropy()))
        )

    found = differentiable.gradients(total, zeros, key, value, bias)
    values = differentiable.numpy(value)
    mean = values.mean(-2, keepdims=True)
    of_output = 2 * np.repeat(mean, T, -2)
    np.testing.assert_allclose(differentiable.numpy(found[2]), np.repeat(2 * T * mean / S, S, -2), rtol=1e-4, atol=1e-5)
    of_weights = of_output @ np.swapaxes(values, -1, -2)
    of_scores = (of_weights - of_weights.mean(-1, keepdims=True)) / S
    np.testing.assert_allclose(differentiable.numpy(found[3]), of_scores.sum(0), rtol=1e-4, atol=1e-5)
    of_query = of_scores @ differentiable.numpy(key) / 2
    np.testing.assert_allclose(differentiable.numpy(found[0]), of_query, rtol=1e-4, atol=1e-5)


def test_pytorchs_shortest_way_has_right_gradients_of_large_scores():
    """Its kernel makes weights from one number in the backward pass. What values receive sums to what queries give."""
    torch = frameworks.torch
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 32, 8) for _ in range(3))
    key[..., 0], query[..., 0] = 100.0, 3e4  # adds the same to all scores of a row, some 1e6
    value.requires_grad_()
    output = regard.attention(query, key, value).output
    (output**2).sum().backward()
    torch.testing.assert_close(value.grad.sum(-2), 2 * output.detach().sum(-2), rtol=1e-4, atol=1e-4)
