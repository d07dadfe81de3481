"""`regard.masks` and `regard.biases` as rules: who sees whom, alone and combined."""

import contextlib
import functools
import itertools

import numpy as np
import pytest

import cases
import checks
import frameworks
import regard
from regard.errors import DtypeError, ShapeError


def seen(backend, mask, queries, keys, *leading, **options):
    """Who sees whom according to the library: equal scores, so every weight is 0 or one over the number seen."""
    shape = leading or (1,)
    query, key = np.zeros((*shape, queries, 1)), np.zeros((*shape, keys, 1))
    _, weights = regard.attention(*(backend.array(x, "float32") for x in (query, key, key)), mask=mask, **options)
    return backend.numpy(weights.dense()) > 0


LENGTHS = [(1, 1), (1, 6), (6, 1), (4, 4), (3, 8), (8, 3), (130, 300), (300, 130)]
IDS = [f"{queries}x{keys}" for queries, keys in LENGTHS]


@pytest.mark.parametrize(("queries", "keys"), LENGTHS, ids=IDS)
def test_causal_ends_in_the_corner(queries, keys):
    i, j = np.ogrid[:queries, :keys]
    numpy = frameworks.ALL["numpy"]
    expected = (j <= i + keys - queries)[None]
    np.testing.assert_array_equal(seen(numpy, regard.masks.causal(), queries, keys), expected)
    np.testing.assert_array_equal(seen(numpy, None, queries, keys, causal=True), expected)
    assert expected[0, -1].all()  # the last query sees every key


@pytest.mark.parametrize(("queries", "keys"), LENGTHS, ids=IDS)
def test_causal_from_the_other_corner(queries, keys):
    i, j = np.ogrid[:queries, :keys]
    found = seen(frameworks.ALL["numpy"], regard.masks.causal_top_left(), queries, keys)
    np.testing.assert_array_equal(found, (j <= i)[None])


@pytest.mark.parametrize("left", [None, 0, 1, 5, 1000])
@pytest.mark.parametrize("right", [None, 0, 1, 5, 1000])
@pytest.mark.parametrize(("queries", "keys"), LENGTHS, ids=IDS)
def test_window_is_around_the_queries_own_position(queries, keys, left, right):
    i, j = np.ogrid[:queries, :keys]
    own = i + keys - queries
    expected = np.ones((queries, keys), bool)
    expected &= True if left is None else j >= own - left
    expected &= True if right is None else j <= own + right
    mask = regard.masks.window(left, right)
    np.testing.assert_array_equal(seen(frameworks.ALL["numpy"], mask, queries, keys)[0], expected)


@pytest.mark.parametrize(("left", "right"), [(None, 1), (2, None), (1, 3)])
@pytest.mark.parametrize(("queries", "keys"), LENGTHS, ids=IDS)
def test_window_from_the_other_corner(queries, keys, left, right):
    i, j = np.ogrid[:queries, :keys]
    expected = (j >= i - (queries if left is None else left)) & (j <= i + (keys if right is None else right))
    found = seen(frameworks.ALL["numpy"], regard.masks.window_top_left(left, right), queries, keys)
    np.testing.assert_array_equal(found, expected[None])


@pytest.mark.parametrize("of", [(), ("keys",), ("queries",), ("keys", "queries")])
def test_lengths_of_either_side_alone(backend, of):
    counts = {"keys": np.array([4, 0]), "queries": np.array([3, 2])}
    places = {"keys": np.arange(4)[None, None], "queries": np.arange(3)[None, :, None]}
    expected = np.ones((2, 3, 4), bool)
    for side in of:
        expected &= places[side] < counts[side][:, None, None]
    mask = regard.masks.lengths(*(counts[side] if side in of else None for side in counts))
    np.testing.assert_array_equal(seen(backend, mask, 3, 4, 2), expected)


RULES = {
    "causal": cases.rule("causal"),
    "window": cases.rule("window", 2, 1),
    "lengths": cases.rule("lengths", np.array([4, 0])),
    "segments": cases.rule("segments", np.array([[0, 0, 1, 1, 1], [2, 1, 1, 0, 0]])),
    "prefix": cases.rule("prefix", 2),
    "pairs": cases.rule("pairs", [1, 3, 4], [0, 1, 4]),
    "boolean": cases.rule("boolean", cases.flags(2, 1, 5, 5)),
}


@pytest.mark.parametrize("how", ["and", "or", "not", "not-and", "not-or"])
@pytest.mark.parametrize(
    ("first", "second"),
    list(itertools.combinations(RULES, 2)),
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_combinations_are_those_of_the_dense_masks(first, second, how):
    numpy = frameworks.ALL["numpy"]
    one, two = (RULES[name].for_library(regard.masks, numpy.array) for name in (first, second))
    dense_one, dense_two = (seen(numpy, mask, 5, 5, 2, 1) for mask in (one, two))
    combine = {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "not": lambda a, b: ~a & b,
        "not-and": lambda a, b: ~(a & b),
        "not-or": lambda a, b: ~(a | b),
    }[how]
    np.testing.assert_array_equal(seen(numpy, combine(one, two), 5, 5, 2, 1), combine(dense_one, dense_two))


@pytest.mark.parametrize("name", RULES)
def test_not_twice_is_nothing(backend, name):
    mask = RULES[name].for_library(regard.masks, backend.array)
    np.testing.assert_array_equal(seen(backend, ~~mask, 5, 5, 2, 1), seen(backend, mask, 5, 5, 2, 1))


def test_everything_and_nothing():
    numpy = frameworks.ALL["numpy"]
    causal = regard.masks.causal()
    assert seen(numpy, causal | ~causal, 5, 7).all()
    assert not seen(numpy, causal & ~causal, 5, 7).any()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_what_it_is(name):
    assert name in repr(RULES[name].for_library(regard.masks, np.asarray))


def test_a_rule_is_one_value_for_every_length(backend):
    """The same rule serves calls of any shape."""
    mask = regard.masks.causal() & regard.masks.window(2, None)
    for queries, keys in ((3, 3), (2, 9), (9, 2)):
        i, j = np.ogrid[:queries, :keys]
        own = i + keys - queries
        np.testing.assert_array_equal(seen(backend, mask, queries, keys)[0], (j <= own) & (j >= own - 2))


def looked_at(mask, length):
    """How many scores are computed for the weights of one head: the work, counted, whatever the machine's mood."""
    query = frameworks.ALL["numpy"].array(cases.numbers(length, 4), "float32")
    weights = regard.attention(query, query, query, mask=mask).weights
    return weights.reduce(lambda tile, queries, keys: tile.size, lambda total, size: total + size, 0)


def test_tiles_that_are_empty_are_skipped():
    """A window of w costs O(n w), and documents cost the sum of their squares."""
    length, window = 3000, regard.masks.window(50, 50)
    most = length * 2 * 101  # a block has at most as many queries as one of them sees keys
    assert length * 101 <= looked_at(window, length) <= most < length**2 / 8
    documents = [100, 700, 200]
    ids = np.repeat(np.arange(3), documents)
    assert looked_at(regard.masks.segments(ids), 1000) == sum(size**2 for size in documents)
    assert looked_at(~window, length) == length**2


def test_the_count_of_scores_sees_a_mask_that_skips_nothing(monkeypatch):
    """The counter itself: with bounds that leave everything, it counts everything."""
    from regard.masks import Window

    monkeypatch.setattr(Window, "bounds", lambda self, xp, span, leaves: (0, span.keys))
    assert looked_at(regard.masks.window(50, 50), 600) == 600**2


# --- T5's buckets -------------------------------------------------------------------------------------------------


def test_buckets_as_printed_by_t5():
    """Of the oracle: 32 buckets over 128 positions, both ways and one way, as mesh TensorFlow's T5 gives them."""
    import oracle

    both = [oracle.bucket(distance, True, 32, 128) for distance in (-200, -128, -64, -16, -8, -7, -1, 0, 1, 7, 8, 200)]
    assert both == [15, 15, 14, 10, 8, 7, 1, 0, 17, 23, 24, 31]
    one = [oracle.bucket(distance, False, 32, 128) for distance in (5, 0, -1, -15, -16, -17, -32, -127, -128, -1000)]
    assert one == [0, 0, 1, 15, 16, 16, 21, 31, 31, 31]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_bias_of_every_distance(backend, bidirectional):
    """One query at the end, then one at the start, against 300 keys: every signed distance up to 299."""
    import oracle

    table = cases.numbers(32, 1)
    bias = regard.biases.relative(backend.array(table, "float32"), bidirectional=bidirectional)
    query = np.zeros((1, 300, 1))
    _, weights = regard.attention(*(backend.array(x, "float32") for x in (query, query, query)), bias=bias)
    dense = backend.numpy(weights.dense())[0]
    for row in (0, 299):
        scores = [table[oracle.bucket(j - row, bidirectional, 32, 128), 0] for j in range(300)]
        expected = np.exp(scores) / np.exp(scores).sum()
        plain = (np.exp(np.float32(scores)) / np.exp(np.float32(scores)).sum(dtype=np.float32)).astype(np.float64)
        checks.assert_values(dense[row], expected, plain, dtype="float32", largest_score=4.0, what=f"row {row}")


# --- numbers that do not fit into 32 bits -----------------------------------------------------------------------------

HUGE = {
    "window": (lambda: regard.masks.window(10**30, 10**30), lambda i, j, shift: j >= 0),
    "to the left": (lambda: regard.masks.window(2**31, 0), lambda i, j, shift: j <= i + shift),
    "to the right": (lambda: regard.masks.window(0, 2**31 - 1), lambda i, j, shift: j >= i + shift),
    "a window and causal": (
        lambda: regard.masks.causal() & regard.masks.window(10**30, 1),
        lambda i, j, shift: j <= i + shift,
    ),
    "prefix": (lambda: regard.masks.prefix(10**30), lambda i, j, shift: j >= 0),
    "causal or prefix": (lambda: regard.masks.causal() | regard.masks.prefix(2**31), lambda i, j, shift: j >= 0),
    "pairs": (
        lambda: regard.masks.pairs(slice(2**40), [1, 3, 2**62]),
        lambda i, j, shift: ((j == 1) | (j == 3)) & (i + shift >= 0),
    ),
    "no prefix": (lambda: ~regard.masks.prefix(2**40), lambda i, j, shift: j < 0),
}


@pytest.mark.parametrize(("queries", "keys"), [(5, 7), (7, 5)])
@pytest.mark.parametrize(("mask", "expected"), HUGE.values(), ids=HUGE)
def test_what_lies_beyond_every_position_is_no_limit(backend, mask, expected, queries, keys):
    i, j = np.ogrid[:queries, :keys]
    visible = np.broadcast_to(expected(i, j, keys - queries), (queries, keys))
    np.testing.assert_array_equal(seen(backend, mask(), queries, keys)[0], visible)


WIDE = {
    "64 bits": np.array([1, 1, 2**32 + 1, -(2**40), 2**32 + 1, 2**32], np.int64),
    "64 bits without a sign": np.array([1, 1, 2**32 + 1, 2**64 - 1, 2**63, 2**63], np.uint64),
    "32 bits without a sign": np.array([1, 2**31 + 1, 2**32 - 1, 0, 2**31 + 1, 1], np.uint32),
    "64 bits that fit": np.array([3, 3, -1, -1, 0, 3], np.int64),
}


def own(backend, ids):
    """Ids as the framework's own array, where it has the type."""
    if backend.name == "torch":
        return frameworks.torch.from_numpy(ids)
    return frameworks.jnp.asarray(ids) if backend.name == "jax" else backend.array(ids)


@pytest.mark.parametrize("ids", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("given", ["own", "numpy", "list"])
def test_documents_with_large_ids_stay_apart(backend, ids, given):
    expected = ids[:, None] == ids[None, :]
    scope = frameworks.jax.enable_x64(True) if backend.name == "jax" and given == "own" else contextlib.nullcontext()
    with scope:
        of = {"own": lambda: own(backend, ids), "numpy": lambda: ids, "list": ids.tolist}[given]()
        if given == "list" and ids.dtype == np.uint64:  # of which NumPy makes float64
            with pytest.raises(DtypeError, match=r"need query_ids as integers; got float\d+; cast them"):
                seen(backend, regard.masks.segments(of), 6, 6)
            return
        np.testing.assert_array_equal(seen(backend, regard.masks.segments(of), 6, 6)[0], expected)
        of_queries = regard.masks.segments(of[:4], of)
        np.testing.assert_array_equal(seen(backend, of_queries, 4, 6)[0], expected[:4])


@pytest.mark.parametrize("ids", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("name", ["jax", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_documents_with_large_ids_stay_apart_inside_a_compiled_function(name, ids):
    backend = frameworks.ALL[name]
    with frameworks.jax.enable_x64(True):
        array = backend.array(np.zeros((1, 6, 1)), "float32")

        def dense(ids):
            return regard.attention(array, array, array, mask=regard.masks.segments(ids)).weights.dense()

        found = backend.numpy(backend.compiled(dense)(own(backend, ids)))
    np.testing.assert_array_equal(found[0] > 0, ids[:, None] == ids[None, :])


def test_ids_of_int64_and_uint64_stay_apart():
    """NumPy's common type of both is float64, in which 2^53 and 2^53 + 1 are one number."""
    ids = np.array([2**53 + 1, 5, 2**53], np.uint64), np.array([2**53, 5, -1], np.int64)
    for name in frameworks.ALL:
        visible = seen(frameworks.ALL[name], regard.masks.segments(*ids), 3, 3)[0]
        np.testing.assert_array_equal(visible, [[0, 0, 0], [0, 1, 0], [1, 0, 0]])


def test_ids_of_two_types_that_wrap_differently_are_refused():
    torch = frameworks.torch
    ids = torch.tensor([1, 2**31 + 1], dtype=torch.uint32), torch.tensor([1, 2**31 + 1])
    with pytest.raises(DtypeError) as caught:
        seen(frameworks.ALL["torch"], regard.masks.segments(*ids), 2, 2)
    assert str(caught.value) == (
        "attention: need query_ids and key_ids of one type; got uint32 and int64; cast one of them."
    )


@pytest.mark.parametrize("given", ["own", "numpy", "list"])
def test_lengths_beyond_32_bits_are_beyond_the_axis(backend, given):
    lengths = np.array([2**32 + 3])
    scope = frameworks.jax.enable_x64(True) if backend.name == "jax" and given == "own" else contextlib.nullcontext()
    with scope:
        of = {"own": lambda: own(backend, lengths), "numpy": lambda: lengths, "list": lengths.tolist}[given]()
        with pytest.raises(ShapeError, match=r"attention: need key_lengths between 0 and 5; got values from"):
            seen(backend, regard.masks.lengths(of), 5, 5)


def test_lengths_beyond_32_bits_are_all_inside_a_compiled_function():
    """There nobody can look; they are no smaller than the axis."""
    with frameworks.jax.enable_x64(True):
        for name in ("jax", "tensorflow"):
            backend = frameworks.ALL[name]
            array = backend.array(np.zeros((1, 5, 1)), "float32")

            def dense(lengths, array=array):
                return regard.attention(array, array, array, mask=regard.masks.lengths(lengths)).weights.dense()

            found = backend.compiled(dense)(own(backend, np.array([2**32 + 3])))
            np.testing.assert_allclose(backend.numpy(found), np.full((1, 5, 5), 0.2), rtol=1e-6)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kernel", ["auto", "blockwise"])
def test_biases_in_half_precision_are_added_in_float32(backend, similarity, dtype, kernel):
    """Two of them, and distances of which half precision has not each."""
    query, key = cases.numbers(1, 2, 5, 4), cases.numbers(1, 2, 3000, 4)
    slopes, bias = np.array([0.01, 0.3]), 3 * cases.numbers(2, 5, 3000)
    query, key, slopes, bias = (frameworks.rounded(x, dtype) for x in (query, key, slopes, bias))

    def attend(*arrays, kernel="auto"):
        query, key, slopes, bias = arrays
        rule = regard.biases.array(bias) + regard.biases.alibi(slopes)
        return regard.attention(query, key, key, bias=rule, similarity=similarity, kernel=kernel)

    exact = attend(*(x.astype(np.float64) for x in (query, key, slopes, bias)))
    found = attend(*(backend.array(x, dtype) for x in (query, key, slopes, bias)), kernel=kernel)
    np.testing.assert_allclose(backend.numpy(found.weights.logsumexp), exact.weights.logsumexp, rtol=0, atol=2e-5)
    entropy = backend.numpy(found.weights.entropy())
    np.testing.assert_allclose(entropy, exact.weights.entropy(), rtol=0, atol=2e-4)
    unit = {"float16": 2**-11, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(backend.numpy(found.output), exact.output, rtol=0, atol=4 * unit)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(4, 2), (5, 3), (7, 128), (8, 3), (32, 9), (32, 17), (33, 1000)])
def test_buckets_of_any_number_are_those_of_transformers(backend, bidirectional, buckets, distance):
    from transformers.models.t5.modeling_t5 import T5Attention

    bucket = functools.partial(
        T5Attention._relative_position_bucket,
        bidirectional=bidirectional, num_buckets=buckets, max_distance=distance,
    )  # fmt: skip
    single = buckets // (4 if bidirectional else 2)
    table = cases.numbers(buckets, 1).astype("float32")

    def attend():
        rule = regard.biases.relative(backend.array(table), bidirectional, distance)
        array = backend.array(np.zeros((1, 60, 1)), "float32")
        return regard.attention(array, array, array, bias=rule).weights

    if distance <= single:
        with pytest.raises(ShapeError, match=f"need max_distance above {single}, the positions that {buckets} buckets"):
            attend()
        return
    positions = frameworks.torch.arange(60)
    expected = table[bucket(positions[None, :] - positions[:, None]).numpy(), 0]
    expected = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    np.testing.assert_allclose(backend.numpy(attend().dense())[0], expected, rtol=1e-4)
