"""`regard.masks` and `regard.biases` as rules: who sees whom, alone and combined."""

import itertools

import numpy as np
import pytest

import cases
import checks
import frameworks
import regard


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


RULES = {
    "causal": cases.rule("causal"),
    "window": cases.rule("window", 2, 1),
    "lengths": cases.rule("lengths", np.array([4, 0])),
    "segments": cases.rule("segments", np.array([[0, 0, 1, 1, 1], [2, 1, 1, 0, 0]])),
    "prefix": cases.rule("prefix", 2),
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
