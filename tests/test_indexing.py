"""An index of the weights means what it means in NumPy, in every framework, or is refused in a sentence."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import cases
import frameworks
import regard
from regard.errors import DtypeError, OutOfRangeError, ShapeError, UnsupportedError

KEPT = {}
# By the number of axes: one array without heads, grouped heads with every rule, and two batch axes.
SHAPES = {2: "axes-2", 4: "everything", 5: "broadcast-both"}


def pair(backend, ndim):
    """Weights of so many axes, and the same by the oracle."""
    if (backend.name, ndim) not in KEPT:
        case = cases.ALL[SHAPES[ndim]]
        positional, keywords = case.arguments(backend)
        KEPT[backend.name, ndim] = regard.attention(*positional, **keywords).weights, case.expected.weights
    return KEPT[backend.name, ndim]


def assert_the_same(backend, found, expected):
    lazy = isinstance(found, regard.AttentionWeights)
    assert tuple(found.shape) == expected.shape
    np.testing.assert_allclose(backend.numpy(found.dense() if lazy else found), expected, rtol=0, atol=2e-6)


# Each index of weights (2, 6, 5, 7), and whether what it gives is still lazy.
INDICES = {
    "a list of one keeps its axis": (np.s_[:, [1]], True),
    "of rows too": (np.s_[0, 0, [3]], False),
    "of columns too": (np.s_[..., [3]], False),
    "two lists choose points": (np.s_[0, 0, [1, 2], [3, 4]], False),
    "of every head": (np.s_[..., [1, 2, 0], [3, -1, 0]], False),
    "a list and a list of one": (np.s_[..., [1, 2, 0], [3]], False),
    "two lists of leading axes": (np.s_[[0, 1, 1], [5, 0, 3]], True),
    "of which one repeats": (np.s_[[1], [5, 0, 3]], True),
    "points and then rows": (np.s_[[0, 1], [5, 0], 2], False),
    "points and then a tile": (np.s_[[0, 1], [5, 0], 1:3, ::2], False),
    "points and dots and columns": (np.s_[[0, 1], [5, 0], ..., 3], False),
    "a mesh": (np.s_[..., [[1], [2]], [3, 4, 0]], False),
    "a mesh by NumPy": (np.s_[0, :, *np.ix_([4, 1], [0, 6, 3])], False),
    "a number apart from a list": (np.s_[0, :, [1, 2]], False),
    "a list apart from a number": (np.s_[[1, 0], :, 2], False),
    "lists side by side": (np.s_[:, [1, 2], 3], False),
    "apart by dots of nothing": (np.s_[0, 1, 2, ..., [1, 2]], False),
    "a new axis": (np.s_[None], True),
    "two new axes": (np.s_[None, 0, None], True),
    "before the rows": (np.s_[:, :, None], True),
    "between rows and columns": (np.s_[..., None, :], False),
    "behind": (np.s_[..., None], False),
    "a new axis and a list": (np.s_[:, None, [3, 1]], True),
    "of repeated heads": (np.s_[:, [0, 0, 3]], True),
    "booleans": (np.s_[:, np.array([True, False] * 3)], True),
    "booleans of both": (np.s_[[True, False], [False] * 5 + [True]], True),
    "booleans of rows": (np.s_[..., [True, False, True, False, False], :], False),
    "no list": (np.s_[[]], True),
    "no list of rows": (np.s_[..., [], :], False),
    "no points": (np.s_[..., [], []], False),
    "an empty tuple": ((), True),
    "reversed": (np.s_[::-1, ::-2], True),
    "reversed rows": (np.s_[..., ::-1, 5:1:-2], False),
    "beyond the end": (np.s_[5:, -9:99], True),
    "beyond the end of rows": (np.s_[..., 3:99, 9:], False),
    "NumPy's own number": (np.s_[np.int64(-1), np.uint8(2)], True),
    "an array without axes": (np.s_[np.array(1), :, np.array(-2)], False),
    "a range": (np.s_[:, range(1, 4)], True),
    "numbers of a slice in arrays": (np.s_[:, np.array(1) : np.int32(4)], True),
    "everything": (np.s_[:, :], True),
    "every number": (np.s_[:, :, :, :], False),
}


@pytest.mark.parametrize(("index", "lazy"), INDICES.values(), ids=INDICES)
def test_an_index_means_what_it_means_in_numpy(backend, index, lazy):
    weights, expected = pair(backend, 4)
    found = weights[index]
    assert isinstance(found, regard.AttentionWeights) == lazy
    assert_the_same(backend, found, expected[index])


@pytest.mark.parametrize("index", [np.s_[None], np.s_[1], np.s_[[1, 0]], np.s_[..., None], np.s_[[1, 2], [0, 3]]])
def test_two_axes_are_indexed_alike(backend, index):
    weights, expected = pair(backend, 2)
    assert_the_same(backend, weights[index], expected[index])


@pytest.mark.parametrize(
    "index",
    [np.s_[[0, 2], :, [1, 5]], np.s_[0, :, [1, 5]], np.s_[:, [1], :, 3], np.s_[[[True, False, True]][0], [1, 0]]],
)
def test_lists_apart_come_first(backend, index):
    weights, expected = pair(backend, 5)
    assert_the_same(backend, weights[index], expected[index])


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("numbers", [1, [1], [1, 0]])
def test_an_index_may_be_an_array_of_the_framework(backend, place, numbers):
    weights, expected = pair(backend, 4)
    before = (slice(None),) * place
    assert_the_same(backend, weights[(*before, backend.array(np.array(numbers)))], expected[(*before, numbers)])


def test_booleans_may_be_an_array_of_the_framework(backend):
    weights, expected = pair(backend, 4)
    several = np.array([True, False, False, True, False, True])
    assert_the_same(backend, weights[:, backend.array(several)], expected[:, several])


def an_index(size):
    number = st.integers(-size, size - 1)
    ends = st.none() | st.integers(-size - 1, size + 1)
    slices = st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, -1, -3]))
    return st.one_of(number, slices, st.lists(number, min_size=2, max_size=2), st.lists(number, min_size=1, max_size=1))


@st.composite
def an_index_of(draw, shape):
    count = draw(st.integers(0, len(shape)))
    behind = draw(st.integers(0, len(shape) - count))
    index = [draw(an_index(size)) for size in shape[:count]]
    if behind or draw(st.booleans()):
        index += [..., *(draw(an_index(size)) for size in shape[len(shape) - behind :])]
    if draw(st.integers(0, 3)) == 0:
        index.insert(draw(st.integers(0, len(index))), None)
    return tuple(index)


@pytest.mark.parametrize("ndim", SHAPES)
@hypothesis.settings(max_examples=150)
@hypothesis.given(data=st.data())
def test_any_index(ndim, data):
    weights, expected = pair(frameworks.ALL["numpy"], ndim)
    index = data.draw(an_index_of(expected.shape))
    lists = [at is not None and not isinstance(at, slice) and np.ndim(at) > 0 for at in index]
    given = [at for at in index if at is not None and at is not ...]
    try:
        found = weights[index]
    except UnsupportedError:
        assert sum(lists) > 1
        assert len(given) > 1
        return
    assert_the_same(frameworks.ALL["numpy"], found, expected[index])


NO_INDEX = "need {} as a number, a slice, or a list of numbers or booleans; got {}."
FIRST = "the index of axis 0"
REFUSED = {
    "a name": ("a", DtypeError, NO_INDEX.format(FIRST, "str <U1 ()")),
    "half": (1.5, DtypeError, NO_INDEX.format(FIRST, "float float64 ()")),
    "halves of rows": (np.s_[..., [0.5], :], DtypeError, NO_INDEX.format("query indices", "list float64 (1,)")),
    "one boolean": (True, DtypeError, NO_INDEX.format(FIRST, "bool bool ()")),
    "booleans of another length": (
        np.s_[:, [True, False]],
        OutOfRangeError,
        "need one boolean for each of 6 positions (the index of axis 1); got (2,).",
    ),
    "dots twice": (np.s_[..., 0, ...], OutOfRangeError, "need ... at most once in an index; got it 2 times."),
    "a step of nothing": (np.s_[::0], OutOfRangeError, f"need {FIRST} as a slice whose step is not 0; got 0."),
    "a slice of names": (
        slice("a", None),
        DtypeError,
        f"need {FIRST} as a slice of whole numbers; got one of str, NoneType, NoneType.",
    ),
    "lists of several lengths": (
        np.s_[[0, 1], [0, 1, 2]],
        OutOfRangeError,
        "need lists of one length, which choose points together; got (2,) and (3,); for every pair of them use "
        "numpy.ix_.",
    ),
    "a list of lists": (np.s_[[[0, 1]]], UnsupportedError, "need lists of one dimension; got (1, 2)."),
    "heads and rows": (
        np.s_[:, [0, 1], [0, 1]],
        UnsupportedError,
        "need lists either of leading axes or of the last two; got both; index twice, leading axes first, or index "
        "weights.dense().",
    ),
    "beyond": (np.s_[:, [0, 6]], OutOfRangeError, "need the index of axis 1 below 6; got 6."),
}


@pytest.mark.parametrize(("index", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_index_is_refused(backend, index, kind, words):
    weights, _ = pair(backend, 4)
    with pytest.raises(kind) as caught:
        weights[index]
    assert str(caught.value) == f"AttentionWeights: {words}"


def test_heads_are_numbers_a_slice_or_booleans(backend):
    weights, expected = pair(backend, 4)
    for heads in ([0, 0], [-1], 3, slice(1, 5, 2), [True, False] * 3, backend.array(np.array([4, 1]))):
        chosen = np.atleast_1d(np.arange(6)[heads if not backend.owns(heads) else backend.numpy(heads)])
        assert_the_same(backend, weights.heads(heads), expected[:, chosen])
    with pytest.raises(
        DtypeError, match=r"AttentionWeights\.heads: need heads as a number, a slice, or a list of numbers"
    ):
        weights.heads("0")
    with pytest.raises(OutOfRangeError, match="need heads below 6; got 6"):
        weights.heads([6])


@pytest.mark.parametrize("index", [np.s_[0], np.s_[:, [4, 1]], np.s_[..., 2, :], np.s_[..., [1, 2], [3, 4]]])
def test_weights_are_indexed_inside_a_compiled_function(index):
    for name in ("jax", "tensorflow"):
        backend = frameworks.ALL[name]
        case = cases.ALL["everything"]
        positional, keywords = case.arguments(backend)

        def part(*arrays, keywords=keywords):
            found = regard.attention(*arrays, **keywords).weights[index]
            return found.dense() if isinstance(found, regard.AttentionWeights) else found

        assert_the_same(backend, backend.compiled(part)(*positional), case.expected.weights[index])


def test_an_axis_that_a_graph_knows_as_it_runs_stays_whole():
    tf = frameworks.tf
    case = cases.ALL["wide"]
    positional, _ = case.arguments(frameworks.ALL["tensorflow"])
    unknown = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in positional]

    @tf.function(input_signature=unknown, autograph=False)
    def heads(*arrays):
        return regard.attention(*arrays).weights[:, [4, 1]].dense()

    assert_the_same(frameworks.ALL["tensorflow"], heads(*positional), case.expected.weights[:, [4, 1]])

    @tf.function(input_signature=unknown, autograph=False)
    def first(*arrays):
        return regard.attention(*arrays).weights[0].dense()

    with pytest.raises(ShapeError, match="need an axis of known size to take a part of; got one that a graph knows"):
        first(*positional)
