"""What is refused, with which error and in which words.

One table: a name, a call that must fail, the class of the error, and the message where it is settled (None where only
the class is). Each call gets a small namespace with arrays of the framework under test.
"""

import types

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
    ("query-one-axis", lambda g: regard.attention(g.zeros(3), g.zeros(7, 3), g.zeros(7, 3)), ShapeError, None),
    ("key-one-axis", lambda g: regard.attention(g.zeros(5, 3), g.zeros(3), g.zeros(7, 3)), ShapeError, None),
    ("width-differs", lambda g: regard.attention(g.query, g.zeros(2, 2, 7, 4), g.value), ShapeError, None),
    ("value-of-other-length", lambda g: regard.attention(g.query, g.key, g.zeros(2, 2, 8, 11)), ShapeError, None),
    ("value-of-other-heads", lambda g: regard.attention(g.query, g.key, g.zeros(2, 3, 7, 11)), ShapeError, None),
    (
        "heads-not-a-multiple",
        lambda g: regard.attention(g.query, g.zeros(2, 4, 7, 3), g.zeros(2, 4, 7, 3)),
        ShapeError,
        None,
    ),
    (
        "fewer-heads-than-groups",
        lambda g: regard.attention(g.zeros(2, 1, 5, 3), g.key, g.value),
        ShapeError,
        None,
    ),
    (
        "leading-axes-do-not-broadcast",
        lambda g: regard.attention(g.query, g.zeros(3, 2, 7, 3), g.zeros(3, 2, 7, 3)),
        ShapeError,
        None,
    ),
    # types, frameworks and devices
    ("not-an-array", lambda g: regard.attention("query", g.key, g.value), DtypeError, None),
    ("none", lambda g: regard.attention(g.query, None, g.value), DtypeError, None),
    (
        "whole-numbers",
        lambda g: regard.attention(*(g.backend.array(np.ones((2, 2), np.int32)) for _ in range(3))),
        DtypeError,
        None,
    ),
    (
        "dtypes-differ",
        lambda g: regard.attention(g.query, g.zeros(2, 2, 7, 3, dtype="float16"), g.value),
        DtypeError,
        None,
    ),
    ("frameworks-differ", lambda g: regard.attention(g.query, g.other(2, 2, 7, 3), g.value), DtypeError, None),
    (
        "numpy-among-others",
        lambda g: regard.attention(
            *(frameworks.ALL[name].array(np.ones((2, 2))) for name in ("torch", "numpy", "torch"))
        ),
        DtypeError,
        None,
    ),
    ("frameworks-differ-in-bias", lambda g: g.attend(bias=g.other(5, 7)), DtypeError, None),
    ("frameworks-differ-in-sinks", lambda g: g.attend(sinks=g.other(6)), DtypeError, None),
    # masks
    ("mask-of-floats", lambda g: g.attend(mask=g.zeros(5, 7)), DtypeError, None),
    ("boolean-of-floats", lambda g: g.attend(mask=g.masks.boolean(g.zeros(5, 7))), DtypeError, None),
    ("mask-of-a-name", lambda g: g.attend(mask="causal"), DtypeError, None),
    ("mask-of-another-extent", lambda g: g.attend(mask=g.ones(5, 8)), ShapeError, None),
    ("mask-turned", lambda g: g.attend(mask=g.ones(7, 5)), ShapeError, None),
    ("mask-of-groups", lambda g: g.attend(mask=g.ones(2, 2, 5, 7)), ShapeError, None),
    ("mask-of-more-axes", lambda g: g.attend(mask=g.ones(3, 2, 6, 5, 7)), ShapeError, None),
    ("window-negative-left", lambda g: g.attend(mask=g.masks.window(-1, 0)), ValueError, None),
    ("window-negative-right", lambda g: g.attend(mask=g.masks.window(0, -1)), ValueError, None),
    ("window-of-half", lambda g: g.attend(mask=g.masks.window(1.5, 0)), (TypeError, ValueError), None),
    ("prefix-negative", lambda g: g.attend(mask=g.masks.prefix(-1)), ValueError, None),
    ("lengths-of-other-batch", lambda g: g.attend(mask=g.masks.lengths(g.whole(1, 2, 3))), ShapeError, None),
    ("lengths-beyond-the-axis", lambda g: g.attend(mask=g.masks.lengths(g.whole(7, 8))), ValueError, None),
    ("lengths-negative", lambda g: g.attend(mask=g.masks.lengths(g.whole(7, -1))), ValueError, None),
    ("lengths-of-floats", lambda g: g.attend(mask=g.masks.lengths(g.zeros(2))), DtypeError, None),
    (
        "query-lengths-beyond-the-axis",
        lambda g: g.attend(mask=g.masks.lengths(g.whole(7, 7), g.whole(5, 6))),
        ValueError,
        None,
    ),
    (
        "segments-of-other-length",
        lambda g: g.attend(mask=g.masks.segments(g.backend.array(np.zeros((2, 6), int)))),
        ShapeError,
        None,
    ),
    (
        "segments-for-the-keys-missing",
        lambda g: g.attend(mask=g.masks.segments(g.backend.array(np.zeros((2, 5), int)))),
        ShapeError,
        None,
    ),
    (
        "segments-of-other-batch",
        lambda g: g.attend(
            mask=g.masks.segments(*(g.backend.array(np.zeros((3, n), int)) for n in (cases.T, cases.S)))
        ),
        ShapeError,
        None,
    ),
    ("and-with-a-number", lambda g: g.masks.causal() & 3, TypeError, None),
    # biases
    ("bias-of-another-extent", lambda g: g.attend(bias=g.zeros(5, 8)), ShapeError, None),
    ("bias-array-of-another-extent", lambda g: g.attend(bias=g.biases.array(g.zeros(4, 7))), ShapeError, None),
    ("bias-of-booleans", lambda g: g.attend(bias=g.ones(5, 7)), DtypeError, None),
    ("alibi-of-other-heads", lambda g: g.attend(bias=g.biases.alibi(g.zeros(5))), ShapeError, None),
    ("relative-of-other-heads", lambda g: g.attend(bias=g.biases.relative(g.zeros(32, 5))), ShapeError, None),
    ("relative-of-one-axis", lambda g: g.attend(bias=g.biases.relative(g.zeros(32))), ShapeError, None),
    # numbers and names
    ("sinks-of-other-heads", lambda g: g.attend(sinks=g.zeros(2)), ShapeError, None),
    ("similarity-unknown", lambda g: g.attend(similarity="euclid"), UnsupportedError, None),
    ("softcap-zero", lambda g: g.attend(softcap=0.0), ValueError, None),
    ("softcap-negative", lambda g: g.attend(softcap=-1.0), ValueError, None),
    ("dropout-one", lambda g: g.attend(dropout=1.0, seed=0), ValueError, None),
    ("dropout-negative", lambda g: g.attend(dropout=-0.1, seed=0), ValueError, None),
    ("dropout-nan", lambda g: g.attend(dropout=float("nan"), seed=0), ValueError, None),
    ("kernel-unknown", lambda g: g.attend(kernel="quick"), UnsupportedError, None),
    ("argument-unknown", lambda g: g.attend(is_causal=True), TypeError, None),
    # questions
    ("index-out-of-range", lambda g: weights_of(g)[2], IndexError, None),
    ("row-out-of-range", lambda g: weights_of(g)[..., 5, :], IndexError, None),
    ("column-out-of-range", lambda g: weights_of(g)[..., :, -8], IndexError, None),
    ("index-of-too-many", lambda g: weights_of(g)[0, 0, 0, 0, 0], IndexError, None),
    ("received-by-none-such", lambda g: weights_of(g).received([0, 5]), IndexError, None),
    ("mass-of-none-such", lambda g: weights_of(g).mass([7]), IndexError, None),
    ("topk-of-none", lambda g: weights_of(g).topk(0), ValueError, None),
    ("topk-of-too-many", lambda g: weights_of(g).topk(8), ValueError, None),
    ("pool-of-none", lambda g: weights_of(g).pool(0, 1), ValueError, None),
    ("pool-of-too-many", lambda g: weights_of(g).pool(6, 1), ValueError, None),
    ("pool-by-other-means", lambda g: weights_of(g).pool(1, 1, reduce="median"), UnsupportedError, None),
    ("product-of-other-length", lambda g: weights_of(g) @ g.zeros(5, 2), ShapeError, None),
    ("transposed-product-of-other-length", lambda g: weights_of(g).T @ g.zeros(7, 2), ShapeError, None),
    ("product-of-other-leading-axes", lambda g: weights_of(g) @ g.zeros(4, 7, 2), ShapeError, None),
    ("product-of-another-framework", lambda g: weights_of(g) @ g.other(7, 2), DtypeError, None),
    ("dense-beyond-the-limit", lambda g: weights_of(g).dense(max_bytes=100), TooLargeError, None),
    ("ask-of-what-is-unknown", lambda g: weights_of(g).ask("mood"), UnsupportedError, None),
]


@pytest.mark.parametrize(("call", "kind", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_it_is_refused(backend, call, kind, message):
    with pytest.raises(kind) as caught:
        call(given(backend))
    if message is not None:
        assert str(caught.value) == message.format(framework=backend.name)


OF_PYTHON = {"and-with-a-number", "argument-unknown"}  # Python's own words will do


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
