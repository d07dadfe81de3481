"""Maps at every zoom are the block reductions of dense weights: means, maxima, sums, masked parts, means of heads."""

import itertools

import numpy as np
import pytest

import cases
import frameworks
import regard
from regard.errors import OutOfRangeError, ShapeError, UnsupportedError
from regard.exploring import maps, places
from regard.exploring.atlas import Atlas, Kept, Name
from regard.exploring.views import Axis, Layer, View, numbers, view_of
from regard.exploring.wording import by_words
from regard.models.seen import Seen

LEVELS = [(0, 0), (1, 0), (2, 3), (6, 6)]
REDUCE = {"mean": np.add, "sum": np.add, "max": np.maximum}


def reduced(array, rows, keys, levels, reduce=np.add):
    array = np.asarray(array, np.float64)[rows.start : rows.stop, keys.start : keys.stop]
    rows, keys = (np.arange(0, len(span), 1 << level) for span, level in zip((rows, keys), levels, strict=True))
    return reduce.reduceat(reduce.reduceat(array, rows, 0), keys, 1)


def expected(dense, seen, rows, keys, levels, reduce):
    """A tile by NumPy: NaN where nothing of a block is seen; of a difference, what is farthest from 0."""
    high = reduced(dense, rows, keys, levels, REDUCE[reduce])
    if reduce == "mean":
        high = high / reduced(np.ones_like(dense), rows, keys, levels)
    if reduce == "max":
        low = reduced(dense, rows, keys, levels, np.minimum)
        high = np.where(-low > high, low, high)
    return np.where(reduced(seen, rows, keys, levels) > 0, high, np.nan)


def large(name="numpy", rule="causal", queries=300, keys=277):
    """A head that takes several tiles a side, `(1, 6, T, S)` of two key heads, and its dense weights."""
    random, backend = np.random.default_rng(7), frameworks.ALL[name]
    query, key = random.normal(size=(1, 6, queries, 8)) * 2, random.normal(size=(1, 2, keys, 8))
    mask = {"causal": regard.masks.causal(), "window": regard.masks.window(40, 3), "none": None}[rule]
    arrays = [backend.array(x, "float32") for x in (query, key, key)]
    weights = regard.attention(*arrays, mask=mask).weights
    return weights, np.asarray(backend.numpy(weights.dense()), np.float64)[0]


def sees(rule, queries, keys):
    far = np.arange(keys) - np.arange(queries)[:, None] - (keys - queries)
    return {"causal": far <= 0, "window": (far <= 3) & (far >= -40), "none": np.ones((queries, keys), bool)}[rule]


@pytest.fixture(params=["compiled", "plain"])
def way(request, monkeypatch):
    """With the loops of the compiled pass, and without."""
    if request.param == "plain":
        monkeypatch.setattr("regard.exploring.heads.store.ready", lambda dtype: False)
    return request.param


@pytest.mark.parametrize("backend", frameworks.ALL)
@pytest.mark.parametrize("rule", ["causal", "window", "none"])
def test_every_tile_of_every_level_is_the_dense_reduction(backend, rule, way):
    weights, dense = large(backend, rule)
    seen, atlas = sees(rule, *dense.shape[1:]), Atlas([view_of(weights)])
    for levels in LEVELS:
        spans = [[range(at, min(at + (256 << level), size)) for at in range(0, size, 256 << level)]
                 for level, size in zip(levels, dense.shape[1:], strict=True)]  # fmt: skip
        for row, rows in enumerate(spans[0]):
            for column, keys in enumerate(spans[1]):
                for reduce in REDUCE:
                    found = atlas.tile(Name.read("0.0.4"), reduce, levels, (row, column))
                    wanted = expected(dense[4], seen, rows, keys, levels, reduce)
                    np.testing.assert_allclose(found, wanted, atol=3e-6, err_msg=f"{reduce} {levels} {row} {column}")


@pytest.mark.parametrize("case", cases.FOR_QUESTIONS)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_every_kind_of_score_has_its_map(backend, case, way):
    case, backend = cases.ALL[case], frameworks.ALL[backend]
    positional, keywords = case.arguments(backend)
    weights = regard.attention(*positional, **keywords).weights
    *_, queries, keys = case.expected.weights.shape
    if not queries or not keys:
        return
    tolerance = {"float64": 1e-9, "float32": 3e-5}.get(case.dtype, 3e-2)
    view = view_of(weights)
    dense = np.asarray(case.expected.weights, np.float64).reshape(-1, queries, keys)
    for head in range(view.layers[0].weights.shape[0]):
        for levels in LEVELS[::3]:
            found = Atlas([view]).tile(Name.read(f"0.0.{head}"), "sum", levels, (0, 0))
            spans = [range(min(256 << level, size)) for level, size in zip(levels, (queries, keys), strict=True)]
            wanted = reduced(dense[head], *spans, levels)
            np.testing.assert_allclose(np.nan_to_num(found), wanted, atol=tolerance)


def test_tiles_below_the_base_compute_their_own_rows_and_keys(monkeypatch, way):
    """With a base of 16 rectangles a side, where most tiles are finer than what one pass kept."""
    monkeypatch.setattr(maps.base, "__defaults__", (16,))
    weights, dense = large()
    atlas, seen = Atlas([view_of(weights)]), sees("causal", *dense.shape[1:])
    assert atlas.base(Name.read("0.0.1")) == (5, 5)
    for levels, (row, column) in (
        ((0, 0), (1, 0)),
        ((0, 0), (1, 1)),
        ((2, 1), (0, 0)),
        ((5, 2), (0, 0)),
        ((7, 7), (0, 0)),
    ):
        spans = [range(at * 256 << level, min((at + 1) * 256 << level, size))
                 for at, level, size in zip((row, column), levels, dense.shape[1:], strict=True)]  # fmt: skip
        for reduce in REDUCE:
            found = atlas.tile(Name.read("0.0.1"), reduce, levels, (row, column))
            np.testing.assert_allclose(found, expected(dense[1], seen, *spans, levels, reduce), atol=3e-6)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("0.0.1+0.0.4+0.0.5", lambda dense: (dense[1] + dense[4] + dense[5]) / 3),
        ("0.0.1-0.0.4", lambda dense: dense[1] - dense[4]),
        ("0.0.1+0.0.2-0.0.3", lambda dense: (dense[1] + dense[2]) / 2 - dense[3]),
    ],
)
def test_means_and_differences_of_heads(name, of, way):
    weights, dense = large()
    atlas, seen = Atlas([view_of(weights)]), sees("causal", *dense.shape[1:])
    for levels in LEVELS[1:]:
        spans = [range(min(256 << level, size)) for level, size in zip(levels, dense.shape[1:], strict=True)]
        for reduce in REDUCE:
            found = atlas.tile(Name.read(name), reduce, levels, (0, 0))
            np.testing.assert_allclose(found, expected(of(dense), seen, *spans, levels, reduce), atol=3e-5)


def test_keys_can_be_set_apart():
    weights, dense = large()
    atlas, seen = Atlas([view_of(weights)]), sees("causal", *dense.shape[1:])
    without, seen = dense[2].copy(), seen.copy()
    without[:, 0], seen[:, 0] = 0, False
    for levels in LEVELS:
        spans = [range(min(256 << level, size)) for level, size in zip(levels, dense.shape[1:], strict=True)]
        for reduce in REDUCE:
            found = atlas.tile(Name.read("0.0.2~apart"), reduce, levels, (0, 0))
            np.testing.assert_allclose(found, expected(without, seen, *spans, levels, reduce), atol=3e-6)


def mean_at_distance(dense):
    queries, keys = dense.shape
    mean = np.zeros((queries, keys))
    for offset in range(1 - queries, keys):
        at = np.arange(max(0, -offset), min(queries, keys - offset))
        mean[at, at + offset] = dense[at, at + offset].mean()
    return mean


def test_a_difference_less_what_its_distance_alone_gives():
    weights, dense = large()
    _, queries, keys = dense.shape
    difference = (dense[1] + dense[2]) / 2 - dense[5]
    mean, seen = mean_at_distance(difference), sees("causal", queries, keys)
    atlas = Atlas([view_of(weights)])
    for levels in LEVELS:
        spans = [range(min(256 << level, size)) for level, size in zip(levels, (queries, keys), strict=True)]
        wanted = expected(difference - mean, seen, *spans, levels, "mean")
        for reduce in REDUCE:
            found = atlas.tile(Name.read("0.0.1+0.0.2-0.0.5~distance"), reduce, levels, (0, 0))
            np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_weights_relative_to_the_mean_at_their_distance():
    weights, dense = large()
    _, queries, keys = dense.shape
    mean = mean_at_distance(dense[3])
    atlas, seen = Atlas([view_of(weights)]), sees("causal", queries, keys)
    for levels in LEVELS:
        spans = [range(min(256 << level, size)) for level, size in zip(levels, (queries, keys), strict=True)]
        sums = reduced(mean, *spans, levels)
        wanted = np.where(
            reduced(seen, *spans, levels) > 0, reduced(dense[3], *spans, levels) / np.where(sums, sums, 1), np.nan
        )
        found = atlas.tile(Name.read("0.0.3~distance"), "mean", levels, (0, 0))
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_numbers_of_a_head_are_those_of_the_summary(way):
    weights, _ = large(queries=277)
    seen = Seen()
    seen.append("layer", weights)
    atlas = Atlas([view_of(seen)])
    for row in seen.summary().rows():
        found = numbers(atlas.whole((0, 0, row["head"]))[1], [])
        for name in ("entropy", "largest_weight", "largest_score", "distance", "first", "previous"):
            np.testing.assert_allclose(found[name], row[name], rtol=2e-5, err_msg=name)


def blocks_of(left, count):
    """The strongest blocks of an array, step by step: a largest weight, then what touches and is half as large."""
    for _ in range(count):
        start = np.unravel_index(int(np.abs(left).argmax()), left.shape)
        strong = left * np.sign(left[start]) >= abs(left[start]) / 2
        block, new = set(), [tuple(map(int, start))]
        while new:
            place = new.pop()
            if place in block:
                continue
            block.add(place)
            top, first = (max(at - 2, 0) for at in place)
            near = np.argwhere(strong[top : place[0] + 3, first : place[1] + 3])
            new += [(top + int(down), first + int(across)) for down, across in near]
        found = np.array(sorted(block))
        yield start, left[start], found, left[tuple(found.T)].sum()
        left[tuple(found.T)] = 0


def require_blocks(found, left, count, tolerance=1e-6):
    assert len(found) == count
    for place, (start, weight, block, total) in zip(found, blocks_of(left, count), strict=True):
        assert (place.query, place.key) == start
        assert (place.queries, place.keys) == tuple(zip(block.min(0), block.max(0) + 1, strict=True))
        assert place.count == len(block)
        np.testing.assert_allclose([place.weight, place.total], [weight, total], atol=tolerance)


@pytest.mark.parametrize("name", ["0.0.5", "0.0.1-0.0.2"])
def test_the_strongest_places_are_those_of_the_dense_map(name, way):
    weights, dense = large()
    _, queries, keys = dense.shape
    found = places.strongest(Atlas([view_of(weights)]), Name.read(name), 12, 3, True, maps.never)
    left = dense[5].copy() if name == "0.0.5" else dense[1] - dense[2]
    left[:, 0] = 0
    left[np.abs(np.arange(keys) - np.arange(queries)[:, None] - (keys - queries)) <= 3] = 0
    require_blocks(found, left, 12, 3e-6)


def test_a_stripe_a_column_and_a_square_are_one_place_each():
    random = np.random.default_rng(0)
    drawn = random.uniform(0, 1e-4, (700, 700))
    drawn[np.arange(300, 420), np.arange(40, 160)] = random.uniform(0.6, 0.9, 120)  # wider than a window at first
    drawn[350, 90] = 0  # a gap of one
    drawn[100:690, 20] = random.uniform(0.3, 0.5, 590)
    drawn[500:530, 200:240] = random.uniform(0.11, 0.2, (30, 40))
    found = places.strongest(Atlas([view_of(drawn[None])]), Name.read("0.0.0"), 3, 2, True, maps.never)
    assert [(place.queries, place.keys, place.count) for place in found] == [
        ((300, 420), (40, 160), 119), ((100, 690), (20, 21), 590), ((500, 530), (200, 240), 1200)
    ]  # fmt: skip
    require_blocks(found, drawn, 3, 1e-4)


def test_a_row_a_column_and_shares_of_parts():
    weights, dense = large()
    parts = [("one", 0, 100), ("two", 100, 277)]
    view = view_of(weights, bands={"part": parts})
    view.axes[view.layers[0].queries].bands["part"] = [("one", 0, 100), ("two", 100, 300)]
    atlas, name = Atlas([view]), Name.read("0.0.1")
    seen = sees("causal", *dense.shape[1:])
    row, column = (places.line(atlas, name, axis, 50, maps.never) for axis in ("query", "key"))
    np.testing.assert_allclose(row, np.where(seen[50], dense[1, 50], np.nan), atol=1e-6)
    np.testing.assert_allclose(column, np.where(seen[:, 50], dense[1, :, 50], np.nan), atol=1e-6)
    shares = [[dense[1, a:b, c:d].sum() / (b - a) for _, c, d in parts] for a, b in ((0, 100), (100, 300))]
    np.testing.assert_allclose(places.shares(atlas, name, "part", maps.never), shares, atol=1e-5)


def test_the_divergence_of_rows_is_jensens_and_shannons():
    weights, dense = large(queries=277)
    found = places.divergence(Atlas([view_of(weights)]), Name.read("0.0.1-0.0.2"), maps.never)
    one, two = dense[1], dense[2]
    middle = (one + two) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = sum(np.nan_to_num(each * np.log(each / middle)).sum(-1) for each in (one, two)) / 2
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_dense_weights_and_outputs_attentions_can_be_explored():
    _, dense = large()
    backend = frameworks.ALL["torch"]
    view = view_of([backend.array(dense[None], "float32"), backend.array(dense[None, :3], "float32")])
    assert [layer.weights.shape[0] for layer in view.layers] == [6, 3]
    found = Atlas([view]).tile(Name.read("0.1.2"), "max", (1, 1), (0, 0))
    wanted = expected(dense[2], dense[2] > 0, range(300), range(277), (1, 1), "max")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def in_words(dense, queries, keys):
    """Sums over the keys of a word of means over its queries, by a loop."""
    rows = [dense[start:stop].mean(0) for start, stop in itertools.pairwise(queries)]
    return np.stack([[row[start:stop].sum() for start, stop in itertools.pairwise(keys)] for row in rows])


def test_words_are_made_of_their_tokens(monkeypatch, way):
    monkeypatch.setattr(maps.base, "__defaults__", (64,))
    weights, dense = large(queries=277)
    random = np.random.default_rng(1)
    first = np.append(True, random.uniform(size=276) < 0.7)
    atlas = Atlas([view_of(weights, [("Ġ" if each else "") + f"t{at}" for at, each in enumerate(first)])])
    starts = np.append(np.flatnonzero(first), 277)
    wanted = [in_words(head, starts, starts) for head in dense]
    seen = in_words(sees("causal", 277, 277).astype(float), starts, starts)
    words = range(len(starts) - 1)
    for levels in LEVELS:
        for reduce in REDUCE:
            for name, values in (("1.0.4", wanted[4]), ("1.0.4-1.0.2", wanted[4] - wanted[2])):
                found = atlas.tile(Name.read(name), reduce, levels, (0, 0))
                rows, keys = (range(min(256 << level, len(words))) for level in levels)
                np.testing.assert_allclose(found, expected(values, seen, rows, keys, levels, reduce), atol=3e-5)
    told = atlas.whole((1, 0, 4))[1]
    np.testing.assert_allclose(told.entropy, -(wanted[4] * np.log(np.maximum(wanted[4], 1e-30))).sum(1), atol=1e-5)
    np.testing.assert_allclose(told.received, wanted[4].sum(0), atol=1e-4)
    row = places.line(atlas, Name.read("1.0.4"), "query", 50, maps.never)
    np.testing.assert_allclose(np.nan_to_num(row), wanted[4][50], atol=1e-6)


MARKED = [
    (["Ġ用", "麒(1/3)", "麒(2/3)", "麒(3/3)", "นี่", "ที่", "Ġthe", "re"], [], "Ġ用 麒 นี่ ที่ Ġthere"),
    (["打开", "麟(1/2)", "麟(2/2)", "。"], [], "打开 麟 。"),
    (["[CLS]", "play", "##ing", "don", "'", "t", "[SEP]"], [0, 6], "[CLS] playing don ' t [SEP]"),
    (["The", "Ġ_", "k", "ernels", ".", "ch", "oose", "Ċ", "Ġdon", "'t", "a"], [], "The Ġ_kernels . choose Ċ Ġdon'ta"),
    (["▁Re", "gard", ",", "▁你好", "吗"], [], "▁Regard , ▁你好 吗"),
    ([" a", "b", "\n", "c", " d"], [], " ab \n c  d"),
    (["a", "b"], [], "a b"),
]


@pytest.mark.parametrize(("tokens", "special", "words"), MARKED)
def test_words_begin_where_tokenizers_mark_them(tokens, special, words):
    bands = {"parts": [("one", 0, 2), ("two", 2, len(tokens))]}
    view = View("", [Layer("", np.zeros((1, len(tokens), len(tokens))))], [Axis(tokens, special, bands)])
    [axis] = by_words(view).axes
    assert " ".join(axis.labels) == words
    assert [axis.labels[at] for at in axis.special] == [tokens[at] for at in special]
    assert axis.bands["parts"][0][1] == 0
    assert axis.bands["parts"][1][2] == len(axis.labels)


def test_where_each_token_is_a_word_there_is_no_view_of_words():
    weights, _ = large(queries=277)
    for tokens in (None, [f"word{at}" for at in range(277)]):
        atlas = Atlas([view_of(weights, tokens)], words=True)
        assert (len(atlas.views), atlas.begin) == (1, {})


def test_what_is_kept_is_bounded_in_bytes():
    kept = Kept(100)
    for number in range(10):
        kept.put(number, number, 30)
        assert kept.bytes <= 100
    assert [kept.get(number) for number in range(10)] == [None] * 7 + [7, 8, 9]


def test_whoever_stops_waiting_stops_the_computation(way):
    weights, _ = large()
    with pytest.raises(maps.StoppedError):
        Atlas([view_of(weights)]).tile(Name.read("0.0.0"), "mean", (0, 0), (0, 0), stopped=lambda: True)


REFUSED = [
    (lambda w: view_of("text"), UnsupportedError, "need attention weights, a Seen or outputs.attentions; got str"),
    (lambda w: view_of([]), UnsupportedError, "need weights, or a model whose attention can be seen; got none"),
    (lambda w: view_of(w, ["a"]), ShapeError, "need as many tokens as there are keys, 277; got 1"),
    (lambda w: view_of(w, example=1), OutOfRangeError, "need an example from 0 to 0; got 1"),
    (lambda w: view_of(w, bands={"x": [("a", 0, 278)]}), OutOfRangeError, "need bands within 277 tokens; got 0 to 278"),
    (lambda w: Name.read("0.0"), OutOfRangeError, "need the name of a map such as 0.3.5"),
    (lambda w: Atlas([view_of(w)]).head((0, 0, 6)), OutOfRangeError, "need a head from 0 to 5; got 6"),
    (lambda w: Atlas([view_of(w)]).head((0, 1, 0)), OutOfRangeError, "need a layer from 0 to 0; got 1"),
    (lambda w: Atlas([view_of(w)]).head((1, 0, 0)), OutOfRangeError, "need a source from 0 to 0; got 1"),
    (lambda w: Atlas([view_of(w)]).tile(Name.read("0.0.0"), "mean", (0, 0), (2, 0)), OutOfRangeError, "need a tile of"),
]


@pytest.mark.parametrize(("call", "error", "told"), REFUSED)
def test_what_is_not_there_is_refused_in_a_sentence(call, error, told):
    with pytest.raises(error, match="explore: ") as caught:
        call(large()[0])
    assert told in str(caught.value)
