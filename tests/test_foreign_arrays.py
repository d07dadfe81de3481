"""Arrays that are not what their memory says, and those that are but look strange: each is right, or refused."""

import warnings

import keras
import numpy as np
import pytest
import torch
from torch.nn.attention.bias import causal_lower_right, causal_upper_left

import frameworks
import regard
from regard import biases, masks
from regard.errors import DtypeError, RegardError, ShapeError

tf, jax = frameworks.tf, frameworks.jax
T, S = 3, 7


def numbers(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype("float32")


def given(kind):
    """Query (1, 2, 3, 4) and key (1, 2, 7, 4) of a framework."""
    backend = frameworks.ALL[kind]
    return backend.array(numbers(1, 2, T, 4)), backend.array(numbers(1, 2, S, 4))


# --- PyTorch's objects for a causal corner ----------------------------------------------------------------------------

CORNERS = {"upper-left": (causal_upper_left, 0), "lower-right": (causal_lower_right, S - T)}
PLACES = {
    "as mask": lambda corner: {"mask": corner},
    "as bias": lambda corner: {"bias": corner},
    "inside a mask": lambda corner: {"mask": masks.boolean(corner) & masks.lengths([5])},
    "beside a mask": lambda corner: {"bias": corner, "mask": masks.lengths([5])},
    "with a bias": lambda corner: {"mask": corner, "bias": torch.tensor(numbers(T, S))},
    "by blocks": lambda corner: {"mask": corner, "kernel": "blockwise"},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(("make", "shift"), CORNERS.values(), ids=CORNERS)
def test_a_causal_corner_of_pytorch_is_that_rule(make, shift, place):
    query, key = given("torch")
    keywords = place(make(T, S))
    visible = torch.ones(T, S, dtype=torch.bool).tril(shift)
    if "lengths" in repr(keywords.get("mask")):
        visible &= torch.arange(S) < 5
    scores = query.double() @ key.double().mT / 2
    if isinstance(keywords.get("bias"), torch.Tensor) and type(keywords["bias"]) is torch.Tensor:
        scores = scores + keywords["bias"].double()
    expected = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    output, weights = regard.attention(query, key, key, **keywords)
    torch.testing.assert_close(weights.dense(), expected.float())
    torch.testing.assert_close(output, (expected @ key.double()).float())


class Block(torch.nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.bias = bias

    def forward(self, query, key):
        return torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=self.bias)


@pytest.mark.parametrize("queries", [T, S])
@pytest.mark.parametrize("sizes", [None, (2, 2)])  # with as many queries as keys PyTorch looks at no sizes
@pytest.mark.parametrize(("make", "shift"), CORNERS.values(), ids=CORNERS)
def test_a_watched_causal_corner_is_what_the_model_ran(make, shift, queries, sizes):
    query, key = given("torch")
    query = key if queries == S else query
    model = Block(make(*(sizes or (queries, S))))
    with regard.watch(model) as seen:
        output = model(query, key)
    dense = seen[0].dense()
    torch.testing.assert_close(dense.sum(-1), torch.ones(1, 2, queries))
    torch.testing.assert_close(dense @ key, output)
    assert float(dense[0, 0, 0, -1]) == 0 or (shift and queries == T)


def test_a_causal_corner_for_other_sizes_is_refused():
    query, key = given("torch")
    with pytest.raises(ShapeError) as caught:
        regard.attention(query, key, key, mask=causal_lower_right(3, 3))
    assert str(caught.value) == (
        "attention: need a causal mask for T = 3 queries and S = 7 keys; got one of torch.nn.attention.bias for 3 and "
        "3; make it for these, or use masks.causal()."
    )


# --- what is refused --------------------------------------------------------------------------------------------------


class Wrapper(torch.Tensor):
    """A tensor whose numbers are in another."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return function(*(arg.inner if isinstance(arg, cls) else arg for arg in args), **kwargs or {})


def quietly(make, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **kwargs)


NESTED = "a nested tensor; pad it with torch.nested.to_padded_tensor, and mask by masks.lengths"
ELSEWHERE = "a {}, whose values are not in its own memory; convert it to a plain tensor"
FOREIGN = {
    "nested": ("torch", lambda: quietly(torch.nested.nested_tensor, [torch.ones(2, 3), torch.ones(1, 3)]), NESTED),
    "jagged": ("torch", lambda: torch.nested.nested_tensor([torch.ones(2, 3)], layout=torch.jagged), NESTED),
    "sparse": (
        "torch",
        lambda: torch.eye(T, S).to_sparse(),
        "a tensor of layout torch.sparse_coo; convert it with .to_dense()",
    ),
    "wrapper": ("torch", lambda: Wrapper(torch.ones(T, S)), ELSEWHERE.format("Wrapper")),
    "masked": (
        "torch",
        lambda: quietly(torch.masked.masked_tensor, torch.ones(T, S), torch.ones(T, S, dtype=torch.bool)),
        ELSEWHERE.format("MaskedTensor"),
    ),
    "fake": (
        "torch",
        lambda: torch._subclasses.FakeTensorMode().from_tensor(torch.ones(T, S)),
        ELSEWHERE.format("FakeTensor"),
    ),
    "lazy": ("torch", torch.nn.UninitializedParameter, "a parameter without values; run its module once"),
    "numpy-masked": (
        "numpy",
        lambda: np.ma.masked_array(np.ones((T, S), "float32"), np.eye(T, S)),
        "a masked array, whose mask would be lost; fill it with .filled(...), and hide keys by mask",
    ),
    "random-keys": ("jax", lambda: jax.random.key(0), "key<fry>, which has no numbers; use jax.random.key_data"),
}
TAKERS = {
    "query": lambda q, k, x: regard.attention(x, k, k),
    "key": lambda q, k, x: regard.attention(q, x, k),
    "value": lambda q, k, x: regard.attention(q, k, x),
    "mask": lambda q, k, x: regard.attention(q, k, k, mask=x),
    "bias": lambda q, k, x: regard.attention(q, k, k, bias=x),
    "slopes": lambda q, k, x: regard.attention(q, k, k, bias=biases.alibi(x)),
    "sinks": lambda q, k, x: regard.attention(q, k, k, sinks=x),
    "lengths": lambda q, k, x: regard.attention(q, k, k, mask=masks.lengths(x)),
    "segments": lambda q, k, x: regard.attention(q, k, k, mask=masks.segments(x, x)),
    "seed": lambda q, k, x: regard.attention(q, k, k, dropout=0.5, seed=x),
    "product": lambda q, k, x: regard.attention(q, k, k).weights @ x,
    "transposed product": lambda q, k, x: regard.attention(q, k, k).weights.T @ x,
    "mass": lambda q, k, x: regard.attention(q, k, k).weights.mass(x),
    "received": lambda q, k, x: regard.attention(q, k, k).weights.received(x),
    "heads": lambda q, k, x: regard.attention(q, k, k).weights.heads(x),
    "index": lambda q, k, x: regard.attention(q, k, k).weights[x],
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize(("kind", "make", "words"), FOREIGN.values(), ids=FOREIGN)
def test_what_does_not_hold_its_values_is_refused_everywhere(kind, make, words, take):
    with pytest.raises(DtypeError) as caught:
        take(*given(kind), make())
    assert str(caught.value).endswith(f" as an array whose memory holds its values; got {words}.")


UNFIT = {
    "complex": ("torch", lambda: torch.ones(S, 7, dtype=torch.complex64)),
    "eight bits": ("torch", lambda: torch.ones(S, 7).to(torch.float8_e4m3fn)),
    "quantized": ("torch", lambda: quietly(torch.quantize_per_tensor, torch.ones(S, 7), 1.0, 0, torch.quint8)),
    "on meta": ("torch", lambda: torch.ones(S, 7, device="meta")),
    "meta masks": ("torch", lambda: torch.ones(T, S, dtype=torch.bool, device="meta")),
    "meta numbers": ("torch", lambda: torch.ones(1, dtype=torch.int64, device="meta")),
    "of ragged rows": ("tensorflow", lambda: tf.ragged.constant([[1.0, 2.0], [3.0]])),
    "sparse in TensorFlow": ("tensorflow", lambda: tf.sparse.from_dense(tf.eye(S))),
    "texts": ("tensorflow", lambda: tf.constant(["a", "b"])),
    "symbolic": ("tensorflow", lambda: keras.KerasTensor((T, S))),
    "objects": ("numpy", lambda: np.array([[None] * S] * T)),
    "long": ("numpy", lambda: np.ones((S, 7), np.longdouble)),
    "dates": ("numpy", lambda: np.zeros((S, 7), "datetime64[s]")),
    "eight bits in JAX": ("jax", lambda: frameworks.jnp.ones((S, 7), "float8_e4m3fn")),
    "a shape": ("jax", lambda: jax.ShapeDtypeStruct((T, S), "float32")),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize(("kind", "make"), UNFIT.values(), ids=UNFIT)
def test_what_has_no_numbers_of_ours_is_refused_everywhere(kind, make, take):
    with pytest.raises(RegardError) as caught:
        take(*given(kind), make())
    assert "need " in str(caught.value)
    assert "\n" not in str(caught.value)


# --- what is right ----------------------------------------------------------------------------------------------------


class Named(torch.Tensor):
    """A tensor with more to say and its numbers where they belong, such as torchvision's."""


STRANGE = {
    "a parameter": ("torch", lambda x: torch.nn.Parameter(torch.tensor(x), requires_grad=False)),
    "a subclass": ("torch", lambda x: torch.tensor(x).as_subclass(Named)),
    "negative by a bit": ("torch", lambda x: torch.complex(torch.tensor(x), torch.tensor(-x)).conj().imag),
    "a matrix": ("numpy", lambda x: x.view(np.matrix) if x.ndim == 2 else x),
    "other bytes first": ("numpy", lambda x: x.astype(x.dtype.newbyteorder(">"))),
    "read only": ("numpy", lambda x: np.broadcast_to(x, x.shape)),
    "a variable": ("tensorflow", lambda x: tf.Variable(x)),
    "a variable of Keras": ("tensorflow", lambda x: keras.Variable(x)),
}


@pytest.mark.parametrize(("kind", "strange"), STRANGE.values(), ids=STRANGE)
def test_what_holds_its_values_is_taken(kind, strange):
    query, key, bias, sinks = numbers(1, 2, T, 4), numbers(1, 2, S, 4), numbers(T, S), numbers(2)
    expected = regard.attention(query, key, key, bias=bias, sinks=sinks)
    found = regard.attention(*map(strange, (query, key, key)), bias=strange(bias), sinks=strange(sinks))
    np.testing.assert_allclose(np.asarray(found.output), expected.output, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", frameworks.ALL)
def test_arrays_of_numpy_are_taken_beside_those_of_others(kind):
    """Also where a framework has no such type: bytes in another order, bfloat16 of ml_dtypes."""
    query, key = given(kind)
    bias = numbers(T, S).astype(">f4")
    half = bias.astype(frameworks.DTYPES["bfloat16"])
    for rule in (bias, half):
        found = regard.attention(query, key, key, bias=rule, mask=masks.lengths(np.array([5], ">i8"))).weights
        expected = regard.attention(query, key, key, bias=rule.astype("float32"), mask=masks.lengths([5])).weights
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whole_numbers_are_multiplied_as_such(backend):
    """Their sums by weights are no whole numbers, and come in floating point."""
    query, key = given(backend.name)
    weights = regard.attention(query, key, key).weights
    for values in (np.arange(S)[:, None], np.arange(S)[:, None] > 3):
        found = weights @ backend.array(values)
        np.testing.assert_allclose(backend.numpy(found), np.asarray(weights) @ values, rtol=1e-5)
        assert backend.dtype(found) == "float32"


def test_a_variable_of_keras_keeps_its_gradient():
    query, key = given("tensorflow")
    table = keras.Variable(numbers(T, S))
    with tf.GradientTape() as tape:
        score = tf.reduce_sum(regard.attention(query, key, key, bias=table).output ** 2)
    assert float(tf.reduce_max(tf.abs(tape.gradient(score, table.value)))) > 1e-3
