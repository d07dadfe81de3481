"""What is refused, with which error and in which words.

One table: a name, a call that must fail, and the class of the error; the words are in `errors.txt`, to be read aloud.
Each call gets a small namespace with arrays of the framework under test.
"""

import types
from pathlib import Path

import numpy as np
import pytest

import cases
import frameworks
import regard
from regard.errors import DtypeError, RegardError, ShapeError, TooLargeError, UnsupportedError


def given(backend):
    """query (2, 6, 5, 3), key (2, 2, 7, 3), value (2, 2, 7, 11), ways to make others, and weights of theirs."""
    case = cases.ALL["wide"]
    query, key, value = (backend.array(x, "float32") for x in case.arrays)

    def zeros(*shape, dtype="float32"):
        return backend.array(np.zeros(shape), dtype)

    def attend(**keywords):
        return regard.attention(query, key, value, **keywords)

    other = frameworks.ALL["torch" if backend.name != "torch" else "tensorflow"]
    return types.SimpleNamespace(
        backend=backend,
        query=query,
        key=key,
        value=value,
        zeros=zeros,
        ones=lambda *shape: backend.array(np.ones(shape, bool)),
        whole=lambda *numbers: backend.array(np.array(numbers)),
        attend=attend,
        other=lambda *shape: other.array(np.zeros(shape), "float32"),
        masks=regard.masks,
        biases=regard.biases,
    )


def weights_of(g):
    return g.attend().weights


TABLE = [
    # shapes of query, key and value
    ("query-one-axis", lambda g: regard.attention(g.zeros(3), g.zeros(7, 3), g.zeros(7, 3)), ShapeError),
    ("key-one-axis", lambda g: regard.attention(g.zeros(5, 3), g.zeros(3), g.zeros(7, 3)), ShapeError),
    ("width-differs", lambda g: regard.attention(g.query, g.zeros(2, 2, 7, 4), g.value), ShapeError),
    ("value-of-other-length", lambda g: regard.attention(g.query, g.key, g.zeros(2, 2, 8, 11)), ShapeError),
    ("value-of-other-heads", lambda g: regard.attention(g.query, g.key, g.zeros(2, 3, 7, 11)), ShapeError),
    (
        "heads-not-a-multiple",
        lambda g: regard.attention(g.query, g.zeros(2, 4, 7, 3), g.zeros(2, 4, 7, 3)),
        ShapeError,
    ),
    (
        "fewer-heads-than-groups",
        lambda g: regard.attention(g.zeros(2, 1, 5, 3), g.key, g.value),
        ShapeError,
    ),
    (
        "leading-axes-do-not-broadcast",
        lambda g: regard.attention(g.query, g.zeros(3, 2, 7, 3), g.zeros(3, 2, 7, 3)),
        ShapeError,
    ),
    # types, frameworks and devices
    ("not-an-array", lambda g: regard.attention("query", g.key, g.value), DtypeError),
    ("none", lambda g: regard.attention(g.query, None, g.value), DtypeError),
    (
        "whole-numbers",
        lambda g: regard.attention(*(g.backend.array(np.ones((2, 2), np.int32)) for _ in range(3))),
        DtypeError,
    ),
    (
        "dtypes-differ",
        lambda g: regard.attention(g.query, g.zeros(2, 2, 7, 3, dtype="float16"), g.value),
        DtypeError,
    ),
    ("frameworks-differ", lambda g: regard.attention(g.query, g.other(2, 2, 7, 3), g.value), DtypeError),
    (
        "numpy-among-others",
        lambda g: regard.attention(
            *(frameworks.ALL[name].array(np.ones((2, 2))) for name in ("torch", "numpy", "torch"))
        ),
        DtypeError,
    ),
    ("frameworks-differ-in-bias", lambda g: g.attend(bias=g.other(5, 7)), DtypeError),
    ("frameworks-differ-in-sinks", lambda g: g.attend(sinks=g.other(6)), DtypeError),
    # masks
    ("mask-of-floats", lambda g: g.attend(mask=g.zeros(5, 7)), DtypeError),
    ("boolean-of-floats", lambda g: g.attend(mask=g.masks.boolean(g.zeros(5, 7))), DtypeError),
    ("mask-of-a-name", lambda g: g.attend(mask="causal"), DtypeError),
    ("mask-of-another-extent", lambda g: g.attend(mask=g.ones(5, 8)), ShapeError),
    ("mask-turned", lambda g: g.attend(mask=g.ones(7, 5)), ShapeError),
    ("mask-of-groups", lambda g: g.attend(mask=g.ones(2, 2, 5, 7)), ShapeError),
    ("mask-of-more-axes", lambda g: g.attend(mask=g.ones(3, 2, 6, 5, 7)), ShapeError),
    ("window-negative-left", lambda g: g.attend(mask=g.masks.window(-1, 0)), ValueError),
    ("window-negative-right", lambda g: g.attend(mask=g.masks.window(0, -1)), ValueError),
    ("window-of-half", lambda g: g.attend(mask=g.masks.window(1.5, 0)), (TypeError, ValueError)),
    ("prefix-negative", lambda g: g.attend(mask=g.masks.prefix(-1)), ValueError),
    ("lengths-of-other-batch", lambda g: g.attend(mask=g.masks.lengths(g.whole(1, 2, 3))), ShapeError),
    ("lengths-beyond-the-axis", lambda g: g.attend(mask=g.masks.lengths(g.whole(7, 8))), ValueError),
    ("lengths-negative", lambda g: g.attend(mask=g.masks.lengths(g.whole(7, -1))), ValueError),
    ("lengths-of-floats", lambda g: g.attend(mask=g.masks.lengths(g.zeros(2))), DtypeError),
    (
        "query-lengths-beyond-the-axis",
        lambda g: g.attend(mask=g.masks.lengths(g.whole(7, 7), g.whole(5, 6))),
        ValueError,
    ),
    (
        "segments-of-other-length",
        lambda g: g.attend(mask=g.masks.segments(g.backend.array(np.zeros((2, 6), int)))),
        ShapeError,
    ),
    (
        "segments-for-the-keys-missing",
        lambda g: g.attend(mask=g.masks.segments(g.backend.array(np.zeros((2, 5), int)))),
        ShapeError,
    ),
    (
        "segments-of-other-batch",
        lambda g: g.attend(
            mask=g.masks.segments(*(g.backend.array(np.zeros((3, n), int)) for n in (cases.T, cases.S)))
        ),
        ShapeError,
    ),
    ("and-with-a-number", lambda g: g.masks.causal() & 3, TypeError),
    ("window-of-a-truth", lambda g: g.masks.window(True, 0), DtypeError),
    ("prefix-of-a-truth", lambda g: g.masks.prefix(True), DtypeError),
    ("pairs-from-the-end", lambda g: g.masks.pairs(None, [3, -1]), IndexError),
    ("pairs-up-to-the-end", lambda g: g.masks.pairs(slice(0, -1)), IndexError),
    ("pairs-of-numbers-between", lambda g: g.masks.pairs(1.5), TypeError),
    ("pairs-of-truths", lambda g: g.masks.pairs([True, False]), TypeError),
    ("segments-of-truths", lambda g: g.attend(mask=g.masks.segments(g.ones(2, 5), g.ones(2, 7))), DtypeError),
    # biases
    ("bias-of-another-extent", lambda g: g.attend(bias=g.zeros(5, 8)), ShapeError),
    ("bias-array-of-another-extent", lambda g: g.attend(bias=g.biases.array(g.zeros(4, 7))), ShapeError),
    ("bias-of-booleans", lambda g: g.attend(bias=g.ones(5, 7)), DtypeError),
    ("alibi-of-other-heads", lambda g: g.attend(bias=g.biases.alibi(g.zeros(5))), ShapeError),
    ("relative-of-other-heads", lambda g: g.attend(bias=g.biases.relative(g.zeros(32, 5))), ShapeError),
    ("relative-of-one-axis", lambda g: g.attend(bias=g.biases.relative(g.zeros(32))), ShapeError),
    ("relative-of-few-buckets", lambda g: g.attend(bias=g.biases.relative(g.zeros(3, 6))), ShapeError),
    ("relative-one-way-of-few-buckets", lambda g: g.attend(bias=g.biases.relative(g.zeros(1, 6), False)), ShapeError),
    ("relative-of-short-distance", lambda g: g.attend(bias=g.biases.relative(g.zeros(32, 6), True, 8)), ShapeError),
    ("relative-of-no-distance", lambda g: g.biases.relative(g.zeros(32, 6), True, 1), ShapeError),
    ("relative-of-half-a-distance", lambda g: g.biases.relative(g.zeros(32, 6), True, 9.5), DtypeError),
    ("relative-both-ways-by-name", lambda g: g.biases.relative(g.zeros(32, 6), "no"), DtypeError),
    # numbers and names
    ("causal-by-name", lambda g: g.attend(causal="no"), DtypeError),
    ("causal-of-a-number", lambda g: g.attend(causal=1), DtypeError),
    ("scale-nan", lambda g: g.attend(scale=float("nan")), ValueError),
    ("scale-infinite", lambda g: g.attend(scale=float("inf")), ValueError),
    ("scale-beyond-float32", lambda g: g.attend(scale=1e39), ValueError),
    ("scale-of-a-truth", lambda g: g.attend(scale=True), DtypeError),
    ("scale-of-a-text", lambda g: g.attend(scale="1.0"), DtypeError),
    ("scale-of-several", lambda g: g.attend(scale=np.ones(1)), DtypeError),
    ("similarity-of-several", lambda g: g.attend(similarity=["dot"]), UnsupportedError),
    ("softcap-infinite", lambda g: g.attend(softcap=float("inf")), ValueError),
    ("softcap-of-nothing-in-float32", lambda g: g.attend(softcap=1e-50), ValueError),
    ("dropout-of-a-truth", lambda g: g.attend(dropout=True, seed=0), DtypeError),
    ("dropout-of-a-text", lambda g: g.attend(dropout="0.5", seed=0), DtypeError),
    ("dropout-none", lambda g: g.attend(dropout=None), DtypeError),
    ("seed-of-a-truth", lambda g: g.attend(dropout=0.5, seed=True), DtypeError),
    ("ask-of-one-name", lambda g: g.attend(ask="entropy"), DtypeError),
    ("ask-of-a-number", lambda g: g.attend(ask=3), DtypeError),
    ("ask-of-a-triple", lambda g: g.attend(ask=(("pool", 2, 3),)), DtypeError),
    ("ask-without-its-argument", lambda g: g.attend(ask=("topk",)), UnsupportedError),
    ("ask-with-an-argument-too-many", lambda g: g.attend(ask=(("entropy", 3),)), UnsupportedError),
    ("ask-more-than-there-are", lambda g: g.attend(ask=(("topk", 8),)), ValueError),
    ("ask-unknown", lambda g: g.attend(ask=("entropie",)), UnsupportedError),
    ("sinks-of-other-heads", lambda g: g.attend(sinks=g.zeros(2)), ShapeError),
    ("similarity-unknown", lambda g: g.attend(similarity="euclid"), UnsupportedError),
    ("softcap-zero", lambda g: g.attend(softcap=0.0), ValueError),
    ("softcap-negative", lambda g: g.attend(softcap=-1.0), ValueError),
    ("dropout-one", lambda g: g.attend(dropout=1.0, seed=0), ValueError),
    ("dropout-negative", lambda g: g.attend(dropout=-0.1, seed=0), ValueError),
    ("dropout-nan", lambda g: g.attend(dropout=float("nan"), seed=0), ValueError),
    ("seed-missing", lambda g: g.attend(dropout=0.5), TypeError),
    ("seed-of-a-name", lambda g: g.attend(dropout=0.5, seed="one"), TypeError),
    ("seed-of-floats", lambda g: g.attend(dropout=0.5, seed=g.zeros(2)), TypeError),
    ("kernel-unknown", lambda g: g.attend(kernel="quick"), UnsupportedError),
    ("argument-unknown", lambda g: g.attend(is_causal=True), TypeError),
    # questions
    ("index-out-of-range", lambda g: weights_of(g)[2], IndexError),
    ("row-out-of-range", lambda g: weights_of(g)[..., 5, :], IndexError),
    ("column-out-of-range", lambda g: weights_of(g)[..., :, -8], IndexError),
    ("index-of-too-many", lambda g: weights_of(g)[0, 0, 0, 0, 0], IndexError),
    ("received-by-none-such", lambda g: weights_of(g).received([0, 5]), IndexError),
    ("mass-of-none-such", lambda g: weights_of(g).mass([7]), IndexError),
    ("topk-of-none", lambda g: weights_of(g).topk(0), ValueError),
    ("topk-of-too-many", lambda g: weights_of(g).topk(8), ValueError),
    ("pool-of-none", lambda g: weights_of(g).pool(0, 1), ValueError),
    ("pool-of-too-many", lambda g: weights_of(g).pool(6, 1), ValueError),
    ("pool-by-other-means", lambda g: weights_of(g).pool(1, 1, reduce="median"), UnsupportedError),
    ("product-of-other-length", lambda g: weights_of(g) @ g.zeros(5, 2), ShapeError),
    ("transposed-product-of-other-length", lambda g: weights_of(g).T @ g.zeros(7, 2), ShapeError),
    ("product-of-other-leading-axes", lambda g: weights_of(g) @ g.zeros(4, 7, 2), ShapeError),
    ("product-of-another-framework", lambda g: weights_of(g) @ g.other(7, 2), DtypeError),
    ("dense-beyond-the-limit", lambda g: weights_of(g).dense(max_bytes=100), TooLargeError),
    ("ask-of-a-rectangle", lambda g: weights_of(g).ask(pool=8), DtypeError),
    ("ask-of-half-a-rectangle", lambda g: weights_of(g).ask(pool=(8,)), DtypeError),
    ("ask-with-an-argument", lambda g: weights_of(g).ask(entropy=True), UnsupportedError),
    ("topk-of-a-truth", lambda g: weights_of(g).topk(True), DtypeError),
    ("mass-of-other-examples", lambda g: weights_of(g).mass(g.ones(3, 7)), ShapeError),
    ("mass-of-other-keys", lambda g: weights_of(g).mass(g.ones(2, 5)), ShapeError),
    ("mass-of-a-single-key", lambda g: weights_of(g).mass(g.ones(2, 1)), ShapeError),
    ("mass-of-heads", lambda g: weights_of(g).mass(g.ones(2, 6, 7)), ShapeError),
    ("mass-of-floats", lambda g: weights_of(g).mass(g.zeros(2, 7)), DtypeError),
    ("mass-of-another-framework", lambda g: weights_of(g).mass(g.other(2, 7)), DtypeError),
    ("dense-of-a-limit-nan", lambda g: weights_of(g).dense(float("nan")), DtypeError),
    ("dense-of-no-limit", lambda g: weights_of(g).dense(None), DtypeError),
    ("relevance-of-other-values", lambda g: weights_of(g).relevance(g.zeros(7), g.query, g.query), ShapeError),
    ("relevance-of-a-list", lambda g: weights_of(g).relevance([1.0], g.query, g.query), DtypeError),
    ("ask-of-what-is-unknown", lambda g: weights_of(g).ask("mood"), UnsupportedError),
]


OF_PYTHON = {"and-with-a-number", "argument-unknown"}  # Python's own words will do
WORDS = dict(
    line.split(" | ", 1) for line in Path(__file__).with_name("errors.txt").read_text(encoding="utf-8").splitlines()
)


@pytest.mark.parametrize(("name", "call", "kind"), TABLE, ids=[row[0] for row in TABLE])
def test_it_is_refused(backend, name, call, kind):
    with pytest.raises(kind) as caught:
        call(given(backend))
    if name not in OF_PYTHON:
        other = "torch" if backend.name != "torch" else "tensorflow"
        ours = "numpy" if backend.name == "numpy" else f"{backend.name} or numpy"
        assert str(caught.value) == WORDS[name].format(framework=backend.name, other=other, ours=ours)


def test_every_message_is_of_a_call():
    assert set(WORDS) == {row[0] for row in TABLE} - OF_PYTHON


@pytest.mark.parametrize(
    "call",
    [row[1] for row in TABLE if row[0] not in OF_PYTHON],
    ids=[row[0] for row in TABLE if row[0] not in OF_PYTHON],
)
def test_the_words_are_ours(call):
    """An error of ours, in one line, that tells what was got and never the data."""
    with pytest.raises((RegardError, IndexError)) as caught:
        call(given(frameworks.ALL["numpy"]))
    text = str(caught.value)
    assert "\n" not in text.strip()
    assert len(text) > 20
    assert "array(" not in text


def test_devices_may_not_be_mixed():
    """Only torch has a second device on every machine: the one without numbers."""
    import torch

    query = torch.zeros(5, 3)
    with pytest.raises(DtypeError):
        regard.attention(query, torch.zeros(7, 3, device="meta"), torch.zeros(7, 3, device="meta"))
    weights = regard.attention(query, torch.zeros(7, 3), torch.zeros(7, 3)).weights
    with pytest.raises(DtypeError) as caught:
        weights @ torch.zeros(7, 2, device="meta")
    assert str(caught.value) == (
        "AttentionWeights @ values: need values on cpu, where the weights are; got meta; move them."
    )


def test_values_in_numpy_are_taken_by_all(backend):
    weights = weights_of(given(backend))
    values = np.ones((7, 2), "float32")
    np.testing.assert_allclose(backend.numpy(weights @ values), 1, rtol=1e-5)
    np.testing.assert_allclose(backend.numpy(weights.T @ values[:5]).sum(-2), 5, rtol=1e-5)


def test_a_kernel_that_cannot_says_why(backend):
    """A kernel asked for by name never falls back."""
    from regard.errors import UnsupportedError

    g = given(backend)
    with pytest.raises(UnsupportedError) as caught:
        g.attend(kernel="no such kernel")
    assert "no such kernel" in str(caught.value)


def test_nothing_refused_was_fine():
    """The calls of the table fail for what their name says: the same arguments, put right, are accepted."""
    g = given(frameworks.ALL["numpy"])
    g.attend(mask=g.ones(5, 7), bias=g.zeros(5, 7), sinks=g.zeros(6), dropout=0.5, seed=0, softcap=1.0)
    g.attend(mask=g.masks.window(1, 0) & g.masks.lengths(g.whole(7, 0)) & g.masks.prefix(0))
    g.attend(mask=g.masks.lengths(g.whole(7, 7), g.whole(5, 5)))
    g.attend(mask=g.masks.segments(*(np.zeros((2, n), int) for n in (5, 7))), bias=g.biases.alibi(g.zeros(6)))
    g.attend(bias=g.biases.relative(g.zeros(32, 6)), similarity="cosine")
    weights = weights_of(g)
    for index in (1, np.s_[..., 4, :], np.s_[..., :, -7], np.s_[0, 0, 0, 0]):
        assert weights[index].shape is not None
    weights.received([0, 4]), weights.mass([6]), weights.topk(7), weights.pool(5, 7), weights.pool(1, 1, reduce="max")
    assert (weights @ g.zeros(7, 2)).shape == (2, 6, 5, 2)
    assert (weights.T @ g.zeros(5, 2)).shape == (2, 6, 7, 2)
    assert (weights @ g.zeros(6, 7, 2)).shape == (2, 6, 5, 2)
