"""The figures: what their axes hold and say, against NumPy; no pixel is compared."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from reports import TOKENS, full, softmax_weights

from regard.errors import ConfigError, ShapeError
from regard.inspection import plots
from regard.inspection.effects.found import Effects
from regard.inspection.patches import upsampled
from regard.inspection.plots import fonts
from regard.inspection.plots.drawing import drawable
from regard.inspection.report import Confusion, Curve, Metric

MATRIX = softmax_weights(1, 1, 7)[0, 0]


class Lazy:
    """A matrix that pools itself and must never be made whole when it is large."""

    def __init__(self, array, allow_dense=False):
        self.array, self.allow_dense, self.shape, self.asked = array, allow_dense, array.shape, []

    def __getitem__(self, index):
        return Lazy(self.array[index], self.allow_dense)

    def dense(self):
        assert self.allow_dense, "a large lazy matrix was made whole"
        return self.array

    def pool(self, rows, columns, reduce):
        self.asked.append((rows, columns, reduce))
        return block_means(self.array, rows, columns)


def block_means(array, rows, columns):
    height, width = array.shape[-2:]
    result = np.empty((*array.shape[:-2], rows, columns))
    for r in range(rows):
        for c in range(columns):
            block = array[
                ..., r * height // rows : (r + 1) * height // rows, c * width // columns : (c + 1) * width // columns
            ]
            result[..., r, c] = block.astype(np.float64).mean((-2, -1))
    return result


def image(axes):
    return np.asarray(axes.images[0].get_array())


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def draw(figure):
    figure.canvas.draw()  # where Matplotlib warns of missing glyphs and of layouts that do not fit
    return figure


# ---- heat maps -------------------------------------------------------------------------------------------------------


def test_heat_map_shows_the_weights_themselves():
    axes = draw(plots.heat_map(MATRIX, TOKENS, TOKENS, "Layer 3")).axes[0]
    np.testing.assert_array_equal(image(axes), MATRIX)
    assert labels(axes.xaxis) == labels(axes.yaxis) == TOKENS
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("key", "query", "Layer 3")
    assert axes.images[0].norm(MATRIX.max()) == pytest.approx(1)
    assert axes.images[0].norm(MATRIX.max() / 4) == pytest.approx(0.5)


def test_heat_map_puts_rows_downwards():
    axes = plots.heat_map(MATRIX).axes[0]
    left, right, bottom, top = axes.images[0].get_extent()
    assert (left, right, bottom, top) == (-0.5, 6.5, 6.5, -0.5)


def test_heat_map_of_cross_attention_keeps_its_two_lengths():
    weights = softmax_weights(1, 1, 11)[0, 0][:5]
    axes = draw(plots.heat_map(weights, list("abcde"), list("ABCDEFGHIJK"))).axes[0]
    assert image(axes).shape == (5, 11)
    assert labels(axes.yaxis) == list("abcde")


def test_heat_map_of_200_writes_some_of_the_labels_where_they_belong():
    weights = softmax_weights(1, 1, 200)[0, 0]
    axes = draw(plots.heat_map(weights, [f"t{i}" for i in range(200)])).axes[0]
    assert image(axes).shape == (200, 200)
    assert labels(axes.yaxis) == [f"t{i}" for i in range(0, 200, 5)]
    assert axes.get_yticks().tolist() == list(range(0, 200, 5))


def test_large_heat_map_shows_block_means_and_says_so():
    weights = softmax_weights(1, 1, 1301)[0, 0][:1100]
    axes = draw(plots.heat_map(weights)).axes[0]
    np.testing.assert_allclose(image(axes), block_means(weights, 512, 512), rtol=1e-6)
    assert axes.get_ylabel() == "query (means over blocks of about 2.1 positions)"
    assert axes.get_xlabel() == "key (means over blocks of about 2.5 positions)"
    assert axes.images[0].get_extent() == [-0.5, 1300.5, 1099.5, -0.5]


def test_blocks_that_fit_are_counted_exactly():
    axes = plots.heat_map(np.ones((1024, 3), np.float16)).axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("query (means over blocks of 2 positions)", "key")


def test_large_lazy_heat_map_is_pooled_by_the_matrix_itself():
    lazy = Lazy(np.random.default_rng(0).random((600, 700)))
    axes = plots.heat_map(lazy).axes[0]
    assert lazy.asked == [(512, 512, "mean")]
    np.testing.assert_allclose(image(axes), block_means(lazy.array, 512, 512))


def test_small_lazy_heat_map_is_shown_whole():
    axes = plots.heat_map(Lazy(MATRIX, allow_dense=True)).axes[0]
    np.testing.assert_array_equal(image(axes), MATRIX)


def test_tensor_with_gradient_is_drawn():
    import torch

    axes = plots.heat_map(torch.tensor(MATRIX, requires_grad=True).bfloat16()).axes[0]
    np.testing.assert_allclose(image(axes), MATRIX, rtol=2**-7)


@pytest.mark.parametrize("weights", [np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_heat_map_of_nothing_is_drawn_without_a_warning(weights):
    draw(plots.heat_map(weights))


# ---- grids, entropies, tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda w: w, list, lambda w: Lazy(w, allow_dense=True)])
def test_head_grid_has_layers_downwards_and_heads_to_the_right(wrap):
    weights = softmax_weights(3, 5, 7)
    figure = draw(plots.head_grid(wrap(weights), "All heads"))
    assert len(figure.axes) == 15
    for index, axes in enumerate(figure.axes):
        np.testing.assert_array_equal(image(axes), weights[index // 5, index % 5])
    assert [axes.get_title() for axes in figure.axes[:5]] == list("01234")
    assert [axes.get_ylabel() for axes in figure.axes[::5]] == list("012")
    assert figure.get_suptitle() == "All heads"


def test_head_grid_of_one_layer():
    weights = softmax_weights(1, 4, 7)[0]
    assert [image(axes).tolist() for axes in plots.head_grid(weights).axes] == weights.tolist()


def test_head_grid_pools_each_head():
    weights = softmax_weights(1, 2, 150)
    axes = draw(plots.head_grid(weights)).axes[1]
    np.testing.assert_allclose(image(axes), block_means(weights[0, 1], 64, 64), rtol=1e-6)


def test_layers_with_different_numbers_of_heads_leave_places_empty():
    figure = draw(plots.head_grid([softmax_weights(1, 3, 4)[0], softmax_weights(1, 2, 5)[0]]))
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0]


def test_entropy_by_layer_shows_each_head_and_the_mean():
    entropies = np.random.default_rng(0).random((4, 3, 9))
    axes = draw(plots.entropy_by_layer(entropies)).axes[0]
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], entropies.mean(-1).ravel())
    np.testing.assert_array_equal(np.rint(points[:, 0]), np.repeat(np.arange(4), 3))
    np.testing.assert_allclose(axes.lines[0].get_ydata(), entropies.mean((1, 2)))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "entropy (nats)")


def test_tokens_have_the_colour_and_the_number_of_their_value():
    values = np.array([0, 0.5, 0.25, 0.125, 0, 0, 0.0625])
    axes = draw(plots.tokens(TOKENS, values, "Received")).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[::2] == TOKENS
    assert texts[1::2] == [f"{value:.2f}" for value in values]
    scale = axes.collections[0]
    for patch, value in zip(axes.patches, values, strict=True):
        assert patch.get_facecolor() == pytest.approx(scale.to_rgba(value))
    assert scale.norm(0.5) == 1
    assert axes.get_title(loc="left") == "Received"


def test_signed_values_diverge_from_zero():
    axes = plots.tokens(["a", "b"], [-0.5, 0.25]).axes[0]
    assert axes.collections[0].norm(0.0) == 0.5


def test_many_tokens_break_into_lines():
    axes = draw(plots.tokens(["token"] * 40, np.zeros(40), width=60)).axes[0]
    rows = [text.get_position()[1] for text in axes.texts[::2]]
    assert rows == sorted(rows)
    assert rows[-1] >= 4
    assert max(text.get_position()[0] for text in axes.texts) < 60


@pytest.mark.filterwarnings("ignore:plots")  # where no font has them
def test_chinese_tokens_take_two_columns_a_character():
    axes = draw(plots.tokens(["打开文件"] * 3, np.zeros(3), "标题" * 40, width=20)).axes[0]
    assert [text.get_position() for text in axes.texts[::2]] == [(4, 0), (13.4, 0), (4, 1)]
    assert [len(line) for line in axes.get_title(loc="left").split("\n")] == [10, 10]


def letters(path, *signs):
    """A font of its own that has these signs."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    builder, pen = FontBuilder(1000), TTGlyphPen(None)
    for point in ((0, 0), (0, 800), (800, 800), (800, 0)):
        (pen.lineTo if point != (0, 0) else pen.moveTo)(point)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(sign):04X}" for sign in signs)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(sign): name for sign, name in zip(signs, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": f"Letters of {path.stem}", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def installed(monkeypatch):
    """Matplotlib's own fonts alone, and what is put into the list."""
    kept = [font for font in fonts.font_manager.fontManager.ttflist if "DejaVu" in font.name or "Last" in font.fname]
    monkeypatch.setattr(fonts.font_manager.fontManager, "ttflist", kept)
    monkeypatch.setattr(fonts, "_FOUND", [])
    monkeypatch.delenv(fonts.FILE, raising=False)
    files = []
    monkeypatch.setattr(fonts.font_manager, "findSystemFonts", lambda: list(map(str, files)))
    cached = (fonts._known, fonts.has, fonts._files, fonts._tell)
    for function in cached:
        function.cache_clear()
    yield files
    for function in cached:
        function.cache_clear()


def test_a_font_is_found_that_was_installed_after_matplotlib_looked(installed, tmp_path):
    installed.append(letters(tmp_path / "cat.ttf", "猫", "狗"))
    assert drawable("猫 and 狗") == "猫 and 狗"
    assert fonts.families() == ["DejaVu Sans", "Letters of cat"]
    draw(plots.tokens(["猫", "狗"], np.zeros(2)))  # without a warning of a missing glyph


def test_a_font_that_is_missing_is_named_once(installed):
    with pytest.warns(UserWarning, match="plots: ") as caught:
        assert [drawable("猫狗"), drawable("鸟"), drawable("한"), drawable("\U0001f642")] == ["□□", "□", "□", "□"]
    assert [str(each.message) for each in caught] == [
        f"plots: need a font with {letters} letters, such as Noto Sans CJK SC; got none installed; install one "
        "(Debian's fonts-noto-cjk), or name its file in REGARD_FONT; boxes stand in their place."
        for letters in ("Chinese", "Hangul")
    ]


def test_a_font_can_be_named_by_its_file(installed, tmp_path, monkeypatch):
    monkeypatch.setenv(fonts.FILE, str(letters(tmp_path / "bird.ttf", "鸟")))
    assert drawable("鸟") == "鸟"
    assert fonts.families() == ["DejaVu Sans", "Letters of bird"]
    fonts._known.cache_clear()
    monkeypatch.setenv(fonts.FILE, str(tmp_path / "none.ttf"))
    with pytest.raises(ConfigError) as caught:
        fonts.families()
    assert str(caught.value) == (
        f"REGARD_FONT: need the file of a font (.ttf, .otf, .ttc); got '{tmp_path / 'none.ttf'}'; correct it."
    )


STRANGE = ["$5", "and", "$6", "_hidden", "<b>", "\n", "", "日本", "🙂", "\\alpha$", "{", "%"]


@pytest.mark.filterwarnings("ignore:plots")  # of a font with Chinese letters, where none is installed
def test_strange_texts_are_drawn_without_a_warning_and_not_as_formulas():
    n = len(STRANGE)
    axes = draw(plots.tokens(STRANGE, np.zeros(n), "$x$ 日本")).axes[0]
    assert [text.get_text() for text in axes.texts[:6:2]] == ["$5", "and", "$6"]
    assert not any(text.get_parse_math() for text in axes.texts[::2])
    draw(plots.heat_map(np.eye(n), STRANGE, STRANGE, "$x$ 日本"))
    draw(plots.confusion(Confusion(STRANGE, np.eye(n, dtype=int).tolist())))
    draw(plots.training_curves([Curve("$a$ and $b$", "日本", "$y", {name: [(0, 1), (1, 2)] for name in STRANGE})]))
    draw(plots.metric_bars([Metric("$a$ 日本", 1.0, None, dict.fromkeys(STRANGE, 0.5))]))


# ---- training and results --------------------------------------------------------------------------------------------


def test_training_curves_hold_the_points():
    curves = [
        Curve("Loss", "step", "nats", {"training": [(0, 3.0), (1, 2.0)], "_validation": [(1, 2.5)]}),
        Curve("Accuracy", "epoch", "share", {"a": [(0, 0.5), (2, 0.75)]}),
        Curve("Nothing", "x", "y", {}),
    ]
    figure = draw(plots.training_curves(curves))
    first, second, third = figure.axes[:3]
    assert [line.get_xydata().tolist() for line in first.lines] == [[[0, 3], [1, 2]], [[1, 2.5]]]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["training", "_validation"]
    assert (second.get_title(), second.get_xlabel(), second.get_ylabel()) == ("Accuracy", "epoch", "share")
    assert third.get_legend() is None
    assert not figure.axes[3].axison


def test_confusion_shows_counts_and_shares_of_the_row():
    axes = draw(plots.confusion(Confusion(["a", "b", "c"], [[8, 2, 0], [1, 2, 1], [0, 0, 0]]))).axes[0]
    np.testing.assert_allclose(image(axes), [[0.8, 0.2, 0], [0.25, 0.5, 0.25], [0, 0, 0]])
    assert [text.get_text() for text in axes.texts][:4] == ["8\n80.0 %", "2\n20.0 %", "0\n0.0 %", "1\n25.0 %"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert labels(axes.yaxis) == labels(axes.xaxis) == ["a", "b", "c"]


def test_metric_bars_hold_the_values_and_the_interval():
    metrics = full().metrics
    figure = draw(plots.metric_bars(metrics))
    first = figure.axes[0]
    assert [bar.get_width() for bar in first.patches] == [0.9183, 0.5108, 0.8417]
    assert labels(first.yaxis) == ["this model", "majority", "words"]
    assert [text.get_text() for text in first.texts] == ["0.918", "0.511", "0.842"]
    np.testing.assert_allclose(first.containers[1].lines[2][0].get_segments()[0][:, 0], [0.9025, 0.9333])
    assert first.get_title(loc="left") == "accuracy (higher is better)"
    assert figure.axes[1].get_title(loc="left") == "log_loss (lower is better)"


def test_metric_bars_of_undefined_values_are_drawn():
    axes = draw(plots.metric_bars([Metric("m", math.nan, (math.nan, 1.0), {"b": -0.5, "c": math.inf})])).axes[0]
    assert [text.get_text() for text in axes.texts] == ["undefined", "−0.500", "undefined"]


# ---- files and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_path_writes_the_figure(tmp_path, ending, start):
    path = tmp_path / f"map.{ending}"
    figure = plots.heat_map(MATRIX, path=path)
    assert path.read_bytes().startswith(start)
    assert figure.axes


CALLS = {
    "heat_map: need weights of shape (T, S), none of it empty; got (2, 3, 3)": lambda: plots.heat_map(
        np.ones((2, 3, 3))
    ),
    "heat_map: need weights of shape (T, S), none of it empty; got (0, 3)": lambda: plots.heat_map(np.ones((0, 3))),
    "heat_map: need one of row_labels for each of 3 positions; got 2": lambda: plots.heat_map(
        np.ones((3, 3)), ["a", "b"]
    ),
    "heat_map: need one of column_labels for each of 4 positions; got 1": lambda: plots.heat_map(
        np.ones((3, 4)), None, ["a"]
    ),
    "head_grid: need weights of shape (layers, heads, T, S) or (heads, T, S), none": lambda: plots.head_grid(
        np.ones((3, 3))
    ),
    "head_grid: need weights of shape (heads, T, S) in each layer": lambda: plots.head_grid([np.ones((1, 2, 3, 3))]),
    "entropy_by_layer: need weights of shape (layers, heads) or": lambda: plots.entropy_by_layer([1.0]),
    "tokens: need one value for each of 2 tokens; got shape (3,)": lambda: plots.tokens(["a", "b"], [1, 2, 3]),
    "tokens: need one value for each of 0 tokens; got shape (0,)": lambda: plots.tokens([], []),
    "training_curves: need at least one curve": lambda: plots.training_curves([]),
    "confusion: need counts of shape (2, 2), one row a label; got (1, 2)": lambda: plots.confusion(
        Confusion(["a", "b"], [[1, 2]])
    ),
    "metric_bars: need at least one metric": lambda: plots.metric_bars([]),
}


@pytest.mark.parametrize("message", CALLS)
def test_wrong_arguments_are_refused(message):
    with pytest.raises(ShapeError) as caught:
        CALLS[message]()
    assert str(caught.value).startswith(message)


def test_no_figure_is_registered_anywhere():
    from matplotlib import _pylab_helpers

    before = len(_pylab_helpers.Gcf.figs)
    plots.heat_map(MATRIX)
    assert len(_pylab_helpers.Gcf.figs) == before


# ---- through the layers ----------------------------------------------------------------------------------------------


def test_alignment_shows_the_map_and_its_path():
    from regard.models.alignment import align

    weights = softmax_weights(1, 2, 9)[0][:, :6]
    found = align(weights, smooth=1)
    figure = draw(plots.alignment(found, list("abcdef"), list("ABCDEFGHI"), "words"))
    axes = figure.axes[0]
    np.testing.assert_allclose(image(axes), found.map)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), found.keys)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), found.queries)
    assert (labels(axes.yaxis), labels(axes.xaxis)) == (list("abcdef"), list("ABCDEFGHI"))
    with pytest.raises(ShapeError):
        plots.alignment(found, list("abc"))


def test_image_overlay_lays_the_patches_over_the_picture(tmp_path):
    picture, patches = np.random.default_rng(0).random((16, 24, 3)), np.arange(6.0).reshape(2, 3)
    figure = draw(plots.image_overlay(picture, patches, "a dog", path=tmp_path / "overlay.png"))
    left, right = figure.axes[:2]
    np.testing.assert_allclose(np.asarray(left.images[0].get_array()), picture)
    over = np.asarray(right.images[1].get_array())
    assert over.shape == (16, 24)
    assert (over[0, 0], over[-1, -1]) == (0, 5)
    assert (tmp_path / "overlay.png").stat().st_size > 1000
    with pytest.raises(ShapeError) as error:
        plots.image_overlay(picture, patches[0])
    assert str(error.value) == (
        "image_overlay: need a picture (height, width, 3) and a map (rows, columns); got (16, 24, 3) and (3,); choose "
        "one example."
    )


EVEN = 1 / 36 + np.linspace(-0.002, 0.002, 36).reshape(6, 6)  # each a little more than the one before
STRONG = np.where(np.arange(36) == 14, 0.3, 0.02).reshape(6, 6)


def colours(kind, values):
    """What stands for each of `values` in a figure of a kind: colours with their strength, or heights of the axis."""
    picture = np.full((6, 6, 3), 0.5)
    if kind == "tokens":
        axes = plots.tokens(["t"] * 36, values.ravel()).axes[0]
        return np.array([patch.get_facecolor() for patch in axes.patches])
    if kind == "words":
        axes = plots.words_in_time([("one", 0.0, 1.0)], values.ravel(), 1 / 36).axes[1]
        low, high = axes.get_ylim()
        return (axes.lines[0].get_ydata()[:, None] - low) / (high - low)
    if kind == "heat_map":
        image = plots.heat_map(values).axes[0].images[0]
    elif kind == "head_grid":
        image = plots.head_grid(values[None]).axes[0].images[0]
    elif kind == "boxes":
        found = SimpleNamespace(label="dog", score=0.9, box=(0.1, 0.1, 0.5, 0.5), patches=values)
        image = plots.boxes(picture, [found]).axes[1].images[1]
    elif kind == "overlay":
        image = plots.image_overlay(picture, values).axes[1].images[1]
    else:
        image = plots.image_overlays(picture[None], values[None]).axes[0].images[1]
    drawn = np.asarray(image.to_rgba(image.get_array()))
    if np.ndim(image.get_alpha()):
        drawn[..., 3] = image.get_alpha()
    return drawn.reshape(36, -1)


@pytest.mark.parametrize("kind", ["tokens", "words", "heat_map", "head_grid", "boxes", "overlay", "overlays"])
def test_what_is_nearly_even_is_not_drawn_as_if_it_were_strong(kind):
    even, strong = colours(kind, EVEN), colours(kind, STRONG)
    assert np.ptp(even, axis=0).max() < 0.15 < np.ptp(strong, axis=0).max()
    most = strong[14]
    assert np.abs(even - most).max(1).min() > 0.25  # nothing even has the colour of what is strong


def test_scales_are_said():
    even = "from 0.026 to 0.03; even would be 0.028"
    picture = np.zeros((6, 6))
    found = SimpleNamespace(label="dog", score=0.9, box=(0.1, 0.1, 0.5, 0.5), patches=EVEN)
    overlay = draw(plots.image_overlay(picture, EVEN))
    assert overlay.axes[2].get_ylabel() == f"share, {even}"
    assert draw(plots.heat_map(EVEN)).axes[1].get_ylabel() == f"weight, {even}"
    assert draw(plots.tokens(["t"] * 36, EVEN.ravel())).get_supxlabel() == even
    assert draw(plots.tokens(["a", "b"], [-0.5, 0.25])).get_supxlabel() == "from -0.5 to 0.25"
    assert draw(plots.boxes(picture, [found])).axes[1].get_title() == "dog 0.90\n" + even.replace("; ", "\n")
    assert draw(plots.image_overlays(picture[None], EVEN[None])).axes[0].texts[0].get_text().split("\n") == (
        even.split("; ")
    )
    words = draw(plots.words_in_time([("one", 0.0, 1.0)], EVEN.ravel(), 1 / 36))
    assert words.axes[1].get_xlabel() == f"seconds; received {even} (dashed)"


def test_small_values_keep_two_digits():
    axes = plots.tokens(["a", "b"], [0.0041, 0.0038]).axes[0]
    assert [text.get_text() for text in axes.texts[1::2]] == ["0.0041", "0.0038"]


def test_words_in_time_and_faithfulness_draw():
    from regard.inspection.faithfulness import faithfulness

    figure = draw(plots.words_in_time([("one", 0.0, 0.4), ("two", 0.4, 1.0)], np.arange(50.0), 0.02, "heard"))
    above, below = figure.axes
    assert [text.get_text() for text in above.texts] == ["one", "two"]
    assert [bar.get_x() for bar in above.patches] == [0.0, 0.4]
    assert below.lines[0].get_xdata()[-1] == pytest.approx(0.98)
    silence = np.concatenate([np.full(51, 0.01), [0.49]])  # what lies behind the last word scales nothing
    below = draw(plots.words_in_time([("one", 0.0, 1.0)], silence, 0.02, "so many words " * 12)).axes[1]
    assert below.get_ylim()[1] < 0.03
    assert below.get_xlabel().endswith("even would be 0.019 (dashed); 49% lie behind 1.0 s")
    assert below.figure.get_suptitle().count("\n") == 1
    effect = np.arange(1.0, 11.0)
    found = faithfulness(lambda kept: kept @ effect, effect, repeats=5)
    figure = draw(plots.faithfulness(found, "how far"))
    for axes, mine in zip(figure.axes, (found.deletion, found.insertion), strict=True):
        [ours] = [line for line in axes.lines if line.get_label() == "this ranking"]
        np.testing.assert_allclose(ours.get_ydata(), mine)


def test_a_long_text_is_a_curve_that_names_its_largest_tokens():
    values = np.random.default_rng(0).random(20_011) / 2
    values[[17, 8_009, 20_010]] = 1.0, 3.0, 2.0
    axes = plots.tokens([f"w{place}" for place in range(len(values))], values).axes[0]
    named = [text.get_text() for text in axes.texts]
    assert len(named) == 12
    assert {"w17 (17)", "w8009 (8009)", "w20010 (20010)"} <= set(named)
    [mean] = [line for line in axes.lines if "mean" in line.get_label()]
    edges = np.arange(512) * len(values) // 512
    expected = [part.mean() for part in np.split(values, edges[1:])]
    np.testing.assert_allclose(mean.get_ydata(), expected)


# ---- several pictures ------------------------------------------------------------------------------------------------


def test_pictures_under_their_maps():
    random = np.random.default_rng(0)
    pictures, maps = random.random((7, 6, 6)), random.random((7, 3, 3))
    figure = draw(plots.image_overlays(pictures, maps, [f"the {n}" for n in range(7)]))
    assert len(figure.axes) == 10
    for axes, picture, given in zip(figure.axes, pictures, maps, strict=False):
        shown, over = (np.asarray(image.get_array()) for image in axes.images)
        np.testing.assert_array_equal(shown, picture)
        np.testing.assert_allclose(over, upsampled(given, (6, 6)))
    assert [axes.get_title() for axes in figure.axes[:7]] == [f"the {n}" for n in range(7)]
    assert [len(axes.images) for axes in figure.axes[7:]] == [0, 0, 0]


def test_maps_that_are_not_as_many_as_pictures():
    with pytest.raises(ShapeError) as caught:
        plots.image_overlays(np.ones((3, 6, 6)), np.ones((2, 3, 3)))
    assert str(caught.value) == (
        "image_overlays: need pictures (n, height, width) and maps (n, rows, columns); got (3, 6, 6) and (2, 3, 3); "
        "choose one map for each picture."
    )


def test_effects_are_on_one_scale_around_zero():
    effect = np.array([[-2.0, 0.5, 1.0], [0.0, 0.25, np.nan]])
    margin = np.array([[0.1, 1.0, 0.1], [0.1, 0.1, np.nan]])
    nothing = np.zeros((4, 2, 3))
    found = Effects("heads", effect, effect - margin, effect + margin, nothing, np.zeros(4), [0, 3], ["a", "b"])
    axes = plots.effects(found, "Heads").axes[0]
    [image] = axes.images
    assert (image.norm.vmin, image.norm.vmax) == (-2.0, 2.0)
    assert sorted(map(tuple, axes.collections[0].get_offsets())) == [(0, 1), (1, 0)]  # those that may be 0
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "3"]
    with pytest.raises(
        ShapeError, match=r"effects: need weights of shape \(layers, heads\), none of it empty; got \(2,"
    ):
        plots.effects(dataclasses.replace(found, effect=effect[:, 0]))
