"""Weights where a tensor is expected: names, operators and functions of tensors work on them, lazily where they can."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch

import cases
import frameworks
import regard
from regard.errors import DtypeError, TooLargeError, UnsupportedError

tf, jnp = frameworks.tf, frameworks.jnp


@functools.cache
def of(name):
    """Weights (2, 6, 5, 7), and the same by the oracle."""
    case = cases.ALL["everything"]
    positional, keywords = case.arguments(frameworks.ALL[name])
    return regard.attention(*positional, **keywords).weights, case.expected.weights


def too_large(backend):
    """Weights of 4 GiB."""
    array = backend.array(np.zeros((1, 2**15, 2)), "float32")
    return regard.attention(array, array, array, mask=regard.masks.window(0, 0)).weights


def assert_values(backend, found, expected):
    assert tuple(found.shape) == np.shape(expected)
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-5, atol=2e-6)


OPERATORS = {
    "sum": (lambda w: w + w, lambda p: p + p),
    "product": (lambda w: w * 2, lambda p: p * 2),
    "product from the left": (lambda w: 2.0 * w, lambda p: 2 * p),
    "difference": (lambda w: 1 - w, lambda p: 1 - p),
    "quotient": (lambda w: w / 4, lambda p: p / 4),
    "power": (lambda w: w**2, lambda p: p**2),
    "negative": (lambda w: -w, lambda p: -p),
    "of size": (lambda w: abs(-w), lambda p: p),
    "equal": (lambda w: w == w + 0, lambda p: p == p),
    "not equal": (lambda w: w != w + 0, lambda p: p != p),
    "less": (lambda w: w < 0.2, lambda p: p < 0.2),
    "at least": (lambda w: w >= 0.2, lambda p: p >= 0.2),
    "greater": (lambda w: w > 0.2, lambda p: p > 0.2),
}


@pytest.mark.parametrize(("of_weights", "of_numbers"), OPERATORS.values(), ids=OPERATORS)
def test_an_operator_works_on_the_dense_tensor(backend, of_weights, of_numbers):
    weights, expected = of(backend.name)
    found = of_weights(weights)
    assert backend.owns(found)
    assert_values(backend, found, of_numbers(expected))


def test_an_operator_takes_an_array_on_either_side(backend):
    weights, expected = of(backend.name)
    dense = weights.dense()
    for found in (dense + weights, weights + dense, weights + np.asarray(weights)):
        assert backend.owns(found)
        assert_values(backend, found, 2 * expected)
    np.testing.assert_allclose(np.asarray(np.asarray(weights) + weights), 2 * expected, rtol=1e-5, atol=2e-6)


def test_weights_are_not_what_has_no_numbers(backend):
    weights, _ = of(backend.name)
    assert (weights == None) is False  # noqa: E711
    assert (weights != "weights") is True
    assert len({weights, weights}) == 1


def test_several_weights_are_neither_true_nor_false(backend):
    weights, _ = of(backend.name)
    with pytest.raises(DtypeError) as caught:
        bool(weights)
    assert str(caught.value) == (
        "AttentionWeights: need a single weight to be true or false; got (2, 6, 5, 7); use .any() or .all() of "
        "weights.dense()."
    )
    one = backend.array(np.ones((1, 1)), "float32")
    assert regard.attention(one, one, one).weights


def test_a_product_from_the_left(backend):
    weights, expected = of(backend.name)
    x = cases.numbers(2, 6, 3, 5).astype("float32")
    assert_values(backend, backend.array(x) @ weights, x @ expected)
    np.testing.assert_allclose(backend.numpy(weights.__rmatmul__(x)), x @ expected, rtol=1e-5, atol=2e-6)
    with pytest.raises(DtypeError, match=r"values @ AttentionWeights: need values \(\.\.\., X, T\) of .*; got int\."):
        3 @ weights


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_product_from_the_left_stays_lazy(name):
    """x P as (P^T x^T)^T, so that 4 GiB of weights are multiplied; JAX and TensorFlow make them first."""
    backend = frameworks.ALL[name]
    ones = np.ones((1, 2**15))
    assert_values(backend, backend.array(ones, "float32") @ too_large(backend), ones[None])


def test_a_vector_is_multiplied_by_the_dense_tensor():
    weights, expected = of("torch")
    ones = np.ones(7, "float32")
    assert_values(frameworks.ALL["torch"], torch.matmul(weights, torch.tensor(ones)), expected @ ones)
    np.testing.assert_allclose(np.matmul(of("numpy")[0], ones), expected @ ones, rtol=1e-5)


def test_weights_are_multiplied_with_weights(backend):
    square = cases.ALL["square"]
    positional, keywords = square.arguments(backend)
    weights = regard.attention(*positional, **keywords).weights
    assert_values(backend, weights @ weights, square.expected.weights @ square.expected.weights)


def test_functions_of_numpy_work_on_the_dense_array(backend):
    weights, expected = of(backend.name)
    assert np.max(weights) == pytest.approx(expected.max(), rel=1e-5)
    assert np.mean(weights) == pytest.approx(expected.mean(), rel=1e-5)
    np.testing.assert_allclose(np.mean(weights, axis=1), expected.mean(1), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(np.stack([weights, weights]), np.stack([expected] * 2), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(np.exp(weights), np.exp(expected), rtol=1e-5)
    np.testing.assert_allclose(np.from_dlpack(weights), expected, rtol=1e-5, atol=2e-6)


def test_frameworks_make_their_own_arrays_of_them(backend):
    weights, expected = of(backend.name)
    for own, made in ((torch.Tensor, torch.as_tensor), (tf.Tensor, tf.convert_to_tensor), (jnp.ndarray, jnp.asarray)):
        found = made(weights)
        assert isinstance(found, own)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=2e-6)


def test_functions_of_the_framework_take_them():
    for found, axes in (
        (torch.stack([of("torch")[0]] * 2).permute(1, 0, 2, 3, 4), 5),
        (tf.reduce_mean(of("tensorflow")[0], 1), 3),
        (jnp.mean(of("jax")[0], 1), 3),
    ):
        assert found.ndim == axes
    weights, expected = of("torch")
    assert_values(
        frameworks.ALL["torch"], torch.where(weights > 0.1, weights, 0.0), np.where(expected > 0.1, expected, 0)
    )


# The names that tensors have in PyTorch, NumPy and JAX, and what they give.
NAMES = {
    "mean": (lambda w: w.mean(1), lambda p: p.mean(1)),
    "sum": (lambda w: w.sum(-1), lambda p: p.sum(-1)),
    "min": (lambda w: w.min(), lambda p: p.min()),
    "reshape": (lambda w: w.reshape(2, -1), lambda p: p.reshape(2, -1)),
    "flatten": (lambda w: w.flatten(), lambda p: p.flatten()),
    "tolist": (lambda w: np.array(w.tolist()), lambda p: p),
    "squeeze": (lambda w: w[:1].squeeze(0), lambda p: p[0]),
    "argmax": (lambda w: w.argmax(1), lambda p: p.astype("float32").argmax(1)),
    "swapaxes": (lambda w: w.swapaxes(0, 1), lambda p: p.swapaxes(0, 1)),
    "transposed mean": (lambda w: w.T.mean(1), lambda p: p.swapaxes(-1, -2).mean(1)),
    "transposed tile": (lambda w: w.T[0, 1, 2:4], lambda p: p.swapaxes(-1, -2)[0, 1, 2:4]),
    "transposed difference": (lambda w: w.T - 1, lambda p: p.swapaxes(-1, -2) - 1),
}


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
@pytest.mark.parametrize(("of_weights", "of_numbers"), NAMES.values(), ids=NAMES)
def test_a_name_of_tensors_works_on_the_dense_tensor(name, of_weights, of_numbers):
    weights, expected = of(name)
    found = of_weights(weights)
    found = found.dense() if isinstance(found, regard.AttentionWeights) else found
    assert_values(frameworks.ALL[name], found, of_numbers(expected))


def test_the_largest_is_ours_without_arguments_and_the_tensors_with():
    weights, expected = of("torch")
    assert_values(frameworks.ALL["torch"], weights.max(), expected.max(-1))
    assert_values(frameworks.ALL["torch"], weights.max(dim=1).values, expected.max(1))
    assert_values(frameworks.ALL["torch"], weights.topk(2, dim=1).values, -np.sort(-expected, 1)[:, :2])
    assert_values(frameworks.ALL["numpy"], of("numpy")[0].max(axis=(0, 1)), expected.max((0, 1)))


@pytest.mark.parametrize(("name", "kind"), [("numpy", "ndarray"), ("torch", "Tensor"), ("jax", "ArrayImpl")])
def test_a_name_that_nothing_has_names_dense(name, kind):
    for weights, who in ((of(name)[0], "AttentionWeights"), (of(name)[0].T, "TransposedWeights")):
        with pytest.raises(AttributeError) as caught:
            _ = weights.heatmap
        assert str(caught.value) == (
            f"{who}: need a name of lazy weights or of {kind}; got 'heatmap'; weights.dense() is the array itself."
        )
        for private in ("_repr_html_", "__array_interface__", "_ipython_canary_method_should_not_exist_"):
            assert not hasattr(weights, private)
    with pytest.raises(AttributeError, match=r"of EagerTensor; got 'mean'; weights\.dense\(\) is the array itself"):
        of("tensorflow")[0].mean(1)


def test_what_is_written_is_refused(backend):
    with pytest.raises(UnsupportedError) as caught:
        of(backend.name)[0][0] = 1
    assert str(caught.value) == (
        "AttentionWeights: need weights as they are, since they are computed; got an assignment; use .dense()."
    )


def test_what_needs_all_numbers_keeps_to_the_limit(backend):
    large = too_large(backend)
    for use in (lambda: large + 1, lambda: -large, lambda: np.mean(large), lambda: large == large):
        with pytest.raises(TooLargeError, match=r"need at most max_bytes = 1\.07 GB; got 4\.29 GB"):
            use()
    if backend.name != "tensorflow":
        with pytest.raises(TooLargeError):
            large.mean()


# What leaves weights of PyTorch lazy, as it is seen on those of 4 GiB.
LAZY = {
    "detach": (lambda w: w.detach(), (1, 2**15, 2**15)),
    "cpu": (lambda w: w.cpu(), (1, 2**15, 2**15)),
    "to a device": (lambda w: w.to("cpu"), (1, 2**15, 2**15)),
    "to a type": (lambda w: w.to(torch.float64), (1, 2**15, 2**15)),
    "to another": (lambda w: w.to(torch.zeros(1)), (1, 2**15, 2**15)),
    "float": (lambda w: w.float(), (1, 2**15, 2**15)),
    "contiguous": (lambda w: w.contiguous(), (1, 2**15, 2**15)),
    "squeeze": (lambda w: w.squeeze(0), (2**15, 2**15)),
    "squeeze of all": (lambda w: w.squeeze(), (2**15, 2**15)),
    "squeeze of none": (lambda w: w.squeeze(-1), (1, 2**15, 2**15)),
    "unsqueeze": (lambda w: w.unsqueeze(0), (1, 1, 2**15, 2**15)),
    "unsqueeze from the end": (lambda w: w.unsqueeze(-3), (1, 1, 2**15, 2**15)),
}


@pytest.mark.parametrize(("use", "shape"), LAZY.values(), ids=LAZY)
def test_what_needs_no_numbers_stays_lazy(use, shape):
    found = use(too_large(frameworks.ALL["torch"]))
    assert isinstance(found, regard.AttentionWeights)
    assert found.shape == shape
    tile = found[..., 5:7, 5:7]
    assert torch.equal(tile, torch.eye(2, dtype=tile.dtype).expand(tile.shape))
    assert tile.dtype == found.dtype


def test_what_pytorch_weights_say_of_themselves():
    large = too_large(frameworks.ALL["torch"])
    assert large.size() == torch.Size((1, 2**15, 2**15))
    assert large.size(-1) == 2**15
    assert (large.dim(), large.ndim, large.numel(), large.element_size()) == (3, 3, 2**30, 4)
    assert large.device == torch.device("cpu")
    assert (large.is_cuda, large.is_floating_point(), large.layout) == (False, True, torch.strided)
    assert large.to("meta").device.type == "meta"
    assert large.half().dtype == torch.float16
    assert too_large(frameworks.ALL["numpy"]).size == 2**30
    assert too_large(frameworks.ALL["jax"]).size == 2**30


def test_detaching_leaves_the_gradient_behind():
    array = torch.randn(1, 2, 5, 4, requires_grad=True)
    weights = regard.attention(array, array, array, mask=regard.masks.window(1, 1)).weights
    assert weights.requires_grad
    assert weights[0].dense().requires_grad
    assert not weights.detach().requires_grad
    assert not weights.detach().dense().requires_grad
    assert torch.equal(weights.detach().dense(), weights.dense())
    assert weights.detach().cpu().numpy().shape == (1, 2, 5, 5)


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 1, 7, 7)])
def test_axes_of_one_come_and_go_as_a_tensors_do(shape):
    array = torch.randn(*shape)
    weights = regard.attention(array, array, array).weights
    dense = weights.dense()
    for use in (
        *(lambda w, d=d: w.squeeze(d) for d in range(-3, 3)),
        lambda w: w.squeeze((0, 1)),
        lambda w: w.squeeze(),
    ):
        found = use(weights)
        found = found.dense() if isinstance(found, regard.AttentionWeights) else found
        assert torch.equal(found, use(dense))
    for place in range(-len(shape) - 1, len(shape) + 1):
        found = weights.unsqueeze(place)
        found = found.dense() if isinstance(found, regard.AttentionWeights) else found
        assert torch.equal(found, dense.unsqueeze(place))


# --- copies -----------------------------------------------------------------------------------------------------------

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda weights: pickle.loads(pickle.dumps(weights)),
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", ["everything", "relative", "segments", "axes-2"])
def test_copies_give_the_same_answers(backend, make, name):
    case = cases.ALL[name]
    positional, keywords = case.arguments(backend)
    found = make(regard.attention(*positional, **keywords).weights)
    assert isinstance(found, regard.AttentionWeights)
    assert_values(backend, found.dense(), case.expected.weights)
    assert_values(backend, found.received(), case.expected.received())


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_weights_that_are_made_later_are_copied(make):
    """The short way's, of arrays that have a gradient and are no leaves; and a watched model's."""
    array = torch.randn(1, 2, 20, 4, requires_grad=True) * 1
    weights = regard.attention(array, array, array).weights
    torch.testing.assert_close(make(weights).dense(), weights.dense())
    assert make(weights).requires_grad == (make is copy.copy)
    layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    with regard.watch(layer) as seen:
        layer(torch.randn(1, 3, 8))
    torch.testing.assert_close(make(seen)[0].dense(), seen[0].dense())
    torch.testing.assert_close(make(seen[0]).dense(), seen[0].dense())


def test_weights_without_values_do_not_become_an_array():
    words = (
        "AttentionWeights: need weights with values to become an array of NumPy; got those of a function that is "
        "traced or on a device without numbers; ask your questions there, or return them."
    )

    def traced(array):
        return np.asarray(regard.attention(array, array, array).weights)

    array = jnp.ones((3, 2))
    for use in (
        lambda: frameworks.jax.jit(traced)(array),
        lambda: tf.function(traced, autograph=False)(tf.ones((3, 2))),
        lambda: np.asarray(regard.attention(*[torch.ones(3, 2, device="meta")] * 3).weights),
    ):
        with pytest.raises(DtypeError) as caught:
            use()
        assert str(caught.value) == words
