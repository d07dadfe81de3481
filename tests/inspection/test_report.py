"""The page of a report: what it says, what it must never do, and that it needs nothing but itself."""

import base64
import dataclasses
import json
import math
import os
import re
import tracemalloc

import numpy as np
import pytest
from page_checks import Page, problems
from reports import PIXEL, TOKENS, bare, full, softmax_weights

from regard.errors import ShapeError
from regard.inspection.report import (
    Calibration,
    ClassScore,
    Confusion,
    Curve,
    Example,
    Finding,
    Metric,
    Picture,
    Sound,
    Source,
    Table,
    TokenAttention,
    Verdict,
    charts,
    measures,
    packing,
    render_report,
    write_report,
)
from regard.inspection.report.verdict import apart, judge

HOSTILE = "</script></style><img src=x onerror=alert(1)>{{ 7*7 }}<!--\"' & \u2028 <b>"


def examples_of(page):
    facts = [json.loads(text) for a, text in page.scripts if a.get("class") == "example"]
    packed = [text for a, text in page.scripts if a.get("class") == "weights"]
    arrays = []
    for fact, text in zip(facts, packed, strict=True):
        kind = {"float16": "<f2", "uint8": "u1"}[fact["format"]]
        n = len(fact["tokens"])
        numbers = np.frombuffer(base64.b64decode(text, validate=True), kind).reshape(
            fact["layers"], fact["heads"], n, n
        )
        arrays.append(numbers.astype(np.float64) / (255 if kind == "u1" else 1))
    return facts, arrays


# ---- the page as a whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [full(), bare(), full(confusion=None, curves=[], attention=[])])
def test_page_has_no_problems(report):
    assert problems(render_report(report)) == []


SAID = """
Film reviews|91.8 %|90.2 %|93.3 %|51.1 %|84.2 %|0.241|0.212|0.274|0.693|412.4|0.690 → 0.200|541|46|52|561|92.2 %|8.5 %
587|613|61.4 %|99.3 %|Very sure indeed.|All rows were read.|Seven labels are empty.|1729|2 cores|looked at once
task: text-classification|it is not by itself an explanation of the decision|the surprise at the truth
28 November 2026|reviews.csv|4321|abcdef0123456789|recalled|71.2 %|33.3 %|0.454|4.2 %|1.370
9.9 %|95.5 %|88.8 %|Rightly judged.|16 GB
the share of examples that get the right answer|Where it looked|One point of it.|Largest shares|row 3, column 5|17.3 %
"""


@pytest.mark.parametrize("said", re.split(r"[|\n]", SAID.strip()))
def test_page_says_everything(said):
    assert said in Page(render_report(full())).text


def test_metrics_table_has_each_number_in_its_column():
    table = Page(render_report(full())).tables[0]
    clean = [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in table]
    assert clean[0] == ["Measure", "This model", "95 % interval", "majority", "words"]
    assert clean[1][1:] == ["91.8 %", "90.2 % to 93.3 %", "51.1 %", "84.2 %"]
    assert clean[2][1:] == ["0.241", "0.212 to 0.274", "0.693", "–"]
    assert clean[3][1:] == ["412.4", "–", "–", "–"]


def test_confusion_table_has_true_labels_in_rows():
    table = next(t for t in Page(render_report(full())).tables if any("541" in c for row in t for c in row))
    assert [re.sub(r"\s+", " ", cell).strip() for cell in table[2]] == ["complaint", "541 92.2 %", "46 7.8 %", "587"]
    assert [re.sub(r"\s+", " ", cell).strip() for cell in table[3]] == ["praise", "52 8.5 %", "561 91.5 %", "613"]


SECTIONS = {
    "result": {"metrics": []},
    "caveats": {"findings": []},
    "data": {"findings": [], "sources": []},
    "classes": {"classes": []},
    "calibration": {"calibration": None},
    "right": {"right": []},
    "training": {"curves": []},
    "confusion": {"confusion": None},
    "mistakes": {"mistakes": []},
    "attention": {"attention": []},
    "pictures": {"pictures": []},
    "tables": {"tables": []},
    "facts": {"facts": [], "hardware": []},
    "notes": {"notes": []},
    "config": {"config": ""},
}


@pytest.mark.parametrize("section", SECTIONS)
def test_empty_section_vanishes(section):
    with_it, without = Page(render_report(full())), Page(render_report(full(**SECTIONS[section])))
    assert with_it.find("section", id=section)
    assert not without.find("section", id=section)
    assert not without.find("a", href=f"#{section}")
    assert set(with_it.ids()) - set(without.ids()) >= {section}


def test_bare_report_has_no_sections():
    page = Page(render_report(bare()))
    assert page.find("section") == []
    assert [text for _, text in page.headings] == ["Nothing yet"]


def test_fingerprints_that_were_not_recorded_are_said_to_be_missing():
    report = full(sources=[Source("train", "reviews.csv", 4321)])
    assert "reviews.csv 4321 not recorded when the run began" in re.sub(r"\s+", " ", Page(render_report(report)).text)


def test_mistakes_are_sorted_by_confidence():
    text = Page(render_report(full())).text
    assert text.index("Very sure indeed.") < text.index("Quite sure.")


def test_findings_put_errors_first():
    text = Page(render_report(full())).text
    assert text.index("Seven labels are empty.") < text.index("All rows were read.")


def test_many_mistakes_unfold():
    mistakes = [Example(f"mistake number {i}", "a", "b", i / 100) for i in range(30)]
    text = Page(render_report(full(mistakes=mistakes))).text
    assert "22 more" in text
    assert [int(i) for i in re.findall(r"mistake number (\d+)", text)] == list(range(29, -1, -1))


def test_many_labels_become_a_list_of_confusions():
    n = 31
    counts = np.eye(n, dtype=int) * 100
    counts[4, 17] = 25
    counts[3, 2] = 7
    page = Page(render_report(full(confusion=Confusion([f"label {i}" for i in range(n)], counts.tolist()))))
    table = next(t for t in page.tables if t[0] == ["True", "Predicted", "Times", "Share of the true label"])
    assert table[1:] == [["label 4", "label 17", "25", "20.0\u00a0%"], ["label 3", "label 2", "7", "6.5\u00a0%"]]


def test_thousands_of_labels_cost_no_more_than_their_counts():
    n = 2000
    labels = [f"label {i}" for i in range(n)]
    cells = {(i, i): 9 for i in range(n)} | {(i, (i + 1) % n): 1 + i % 7 for i in range(n)} | {(5, 1999): 50}
    classes = [ClassScore(label, 0.9, 0.9, 0.5 + i / 10000, 0 if i < 9 else 5) for i, label in enumerate(labels)]
    tracemalloc.start()
    html = render_report(full(confusion=Confusion(labels, cells), classes=classes))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    page = Page(html)
    assert most < 20e6
    assert len(html) < 200e3
    table = next(t for t in page.tables if t[0][:2] == ["True", "Predicted"])
    assert table[1] == ["label 5", "label 1999", "50", "76.9\u00a0%"]
    assert (len(table), table[2]) == (31, ["label 6", "label 7", "7", "43.8\u00a0%"])
    shown = next(t for t in page.tables if t[0][:2] == ["Label", "Precision"])
    assert [row[0] for row in shown[1:]] == labels[9:109]
    assert "100 of 2000 labels with the lowest F1" in page.text


def test_sparse_counts_are_the_same_table():
    dense, sparse = [[3, 0], [1, 0]], {(0, 0): 3, (1, 0): 1}
    pages = [render_report(full(confusion=Confusion(["a", "b"], counts))) for counts in (dense, sparse)]
    assert pages[0] == pages[1]


def test_hostile_text_stays_text_everywhere():
    example = Example(HOSTILE, HOSTILE, HOSTILE, 0.5)
    report = full(
        title=HOSTILE,
        summary=HOSTILE,
        facts=[(HOSTILE, HOSTILE)],
        metrics=[Metric(HOSTILE, 0.5, (0.4, 0.6), {HOSTILE: 0.3})],
        curves=[Curve(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: [(0, 1), (1, 2)]})],
        confusion=Confusion([HOSTILE, "b"], [[1, 2], [3, 4]]),
        mistakes=[example, dataclasses.replace(example, text=HOSTILE * 20)],
        attention=[TokenAttention(example, [HOSTILE, "b"], softmax_weights(1, 1, 2))],
        pictures=[Picture(HOSTILE, PIXEL, HOSTILE)],
        sounds=[Sound(HOSTILE, b"RIFF")],
        tables=[Table(HOSTILE, [HOSTILE], [[HOSTILE]])],
        findings=[Finding("ok", HOSTILE), Finding(HOSTILE, "unknown level")],
        verdict=Verdict("worse", HOSTILE, [HOSTILE]),
        date=HOSTILE,
        sources=[Source(HOSTILE, HOSTILE, 1, HOSTILE)],
        classes=[ClassScore(HOSTILE, 0.5, 0.5, 0.5, 1)],
        calibration=Calibration([(0.5, 0.5, 1)], 0.1, what=HOSTILE),
        right=[example],
        hardware=[(HOSTILE, HOSTILE)],
        notes=[HOSTILE],
        config=HOSTILE,
    )
    html = render_report(report)
    page = Page(html)
    assert problems(html) == []
    assert [tag for tag in page.find("img") if not tag["src"].startswith("data:image/png;base64,")] == []
    assert [tag["src"] for tag in page.find("audio")] == [f"data:audio/wav;base64,{base64.b64encode(b'RIFF').decode()}"]
    assert len(page.scripts) == len(Page(render_report(full())).scripts)
    expected = re.sub(r"\s+", " ", HOSTILE)
    assert page.text.count(expected) >= 15
    facts, _ = examples_of(page)
    assert facts[0]["text"] == HOSTILE
    assert facts[0]["tokens"] == [HOSTILE, "b"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_said_to_be_undefined(value):
    report = full(
        metrics=[Metric("accuracy", value, (value, 0.9), {"majority": 0.5, "other": value})],
        curves=[
            Curve("Loss", "step", "nats", {"a": [(0, value), (1, 0.5)], "b": [(0, value)]}),
            Curve("No", "x", "y", {}),
        ],
        mistakes=[Example("a", "b", "c", value), Example("d", "e", "f", 0.25)],
    )
    html = render_report(report)
    assert problems(html) == []
    assert "undefined" in Page(html).text
    assert not re.search(r"(nan|inf)[;\" %]", re.sub(r"<script.*?</script>", "", html, flags=re.S))


# ---- the file --------------------------------------------------------------------------------------------------------


def test_a_page_in_chinese(monkeypatch):
    """All that is ours is Chinese; names, labels, texts and settings are as they were."""
    english = Page(render_report(full()))
    monkeypatch.setenv("REGARD_LANGUAGE", "zh")
    html = render_report(full())
    page = Page(html)
    assert problems(html) == []
    assert '<html lang="zh">' in html
    assert "优于两个基线：" in page.text
    theirs, ours, kept = (set(re.findall(r"\b[a-z]{3,}\b", text)) for text in (repr(full()), english.text, page.text))
    assert kept & (ours - theirs) <= {"logits", "seed"}, "the field's own word, and a key of the configuration"
    words = json.loads(next(text for attributes, text in page.scripts if attributes.get("id") == "translations"))
    said = set(re.findall(r'told\("([^"]*)"', html))
    assert said == set(words)
    assert not {word for word in words.values() if re.search("[a-z]{3,} [a-z]{3,}", word)}


def test_a_page_in_english_brings_no_translations():
    page = Page(render_report(full()))
    assert next(text for attributes, text in page.scripts if attributes.get("id") == "translations") == "{}"


def test_write_report_writes_the_page_and_nothing_else(tmp_path):
    path = write_report(full(), tmp_path / "deep" / "report.html")
    assert path == tmp_path / "deep" / "report.html"
    assert path.read_text(encoding="utf-8") == render_report(full())
    assert os.listdir(path.parent) == ["report.html"]


def test_write_report_replaces_an_older_page(tmp_path):
    path = write_report(full(), str(tmp_path / "report.html"))
    write_report(full(title="Second"), path)
    assert "<h1>Second</h1>" in path.read_text(encoding="utf-8")


def test_write_report_that_fails_leaves_the_older_page(tmp_path):
    path = write_report(full(), tmp_path / "report.html")
    before = path.read_bytes()
    wrong = TokenAttention(Example("a", "b", "c", 0.5), ["one", "two"], softmax_weights(1, 1, 3))
    with pytest.raises(ShapeError):
        write_report(full(attention=[wrong]), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.html"]


def test_text_that_is_not_unicode_does_not_stop_the_page(tmp_path):
    path = write_report(full(notes=["lone \ud83d surrogate"]), tmp_path / "report.html")
    assert "lone ? surrogate" in path.read_text(encoding="utf-8")


# ---- attention -------------------------------------------------------------------------------------------------------


def test_weights_come_back_as_float16_where_that_is_cheap():
    facts, arrays = examples_of(Page(render_report(full())))
    weights = softmax_weights(3, 5, len(TOKENS))
    assert facts[0]["format"] == "float16"
    np.testing.assert_array_equal(arrays[0], weights.astype(np.float16).astype(np.float64))


def test_weights_come_back_within_half_a_step_of_255():
    weights = softmax_weights(6, 12, 100)
    attention = TokenAttention(Example("a", "b", "c", 0.5), [f"t{i}" for i in range(100)], weights)
    facts, arrays = examples_of(Page(render_report(full(attention=[attention]))))
    assert facts[0]["format"] == "uint8"
    assert np.abs(arrays[0] - weights).max() <= 0.5 / 255 + 1e-7
    assert np.abs(arrays[0] - weights).max() > 0.1 / 255


@pytest.mark.parametrize(("n", "block"), [(128, 1), (129, 2), (300, 3), (1000, 8)])
def test_long_inputs_are_pooled_and_keep_the_sum_of_their_rows(n, block):
    weights = softmax_weights(1, 2, n)
    packed = packing.pack(TokenAttention(Example("a", "b", "c", 0.5), [f"t{i}" for i in range(n)], weights))
    size = -(-n // block)
    assert (packed.block, packed.token_count, len(packed.pieces)) == (block, n, size)
    pooled = packing.pool(weights, block)
    assert pooled.shape == (1, 2, size, size)
    np.testing.assert_allclose(pooled.sum(-1), 1, rtol=1e-4)
    by_hand = weights[0, 1, block : 2 * block, :block].sum(-1).mean()
    np.testing.assert_allclose(pooled[0, 1, 1, 0], by_hand, rtol=1e-5)


def test_many_heads_are_pooled_to_stay_small():
    weights = np.full((48, 24, 100, 100), 0.01, dtype=np.float16)
    packed = packing.pack(TokenAttention(Example("a", "b", "c", 0.5), ["t"] * 100, weights))
    assert packed.block == 2
    assert len(packed.data) * 3 / 4 <= packing.MAX_BYTES


def test_weights_that_are_not_finite_are_counted_and_shown_as_zero():
    weights = softmax_weights(1, 1, 3)
    weights[0, 0, 1, 1:] = np.nan, np.inf
    facts, arrays = examples_of(
        Page(render_report(full(attention=[TokenAttention(Example("a", "b", "c", 0.5), list("abc"), weights)])))
    )
    assert facts[0]["notFinite"] == 2
    assert arrays[0][0, 0, 1, 1:].tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3), (1, 2, 3, 4), (1, 2, 4, 4), (0, 2, 3, 3)])
def test_wrong_weights_are_refused_with_their_shape(shape):
    attention = TokenAttention(Example("a", "b", "c", 0.5), list("abc"), np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match=re.escape(f"n = 3, the number of tokens; got {shape};")):
        packing.pack(attention)


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (TOKENS, [("[CLS]", 0), ("un", 0), ("for", 1), ("get", 1), ("table", 1), ("film", 0), ("[SEP]", 0)]),
        (
            ["<s>", "An", "Ġun", "for", "get", "</s>"],
            [("<s>", 0), ("An", 0), ("un", 0), ("for", 1), ("get", 1), ("</s>", 0)],
        ),
        (["▁An", "▁", "x"], [("An", 0), ("␣", 0), ("x", 1)]),
        (["##", "#", "", "a"], [("##", 0), ("#", 0), ("␣", 0), ("a", 0)]),
    ],
)
def test_pieces_read_like_text(tokens, shown):
    assert [(piece.text, int(piece.joined)) for piece in packing.pieces(tokens)] == shown


# ---- measures and charts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "explained"),
    [
        ("accuracy", True),
        ("macro-F1", True),
        ("macro_f1", True),
        ("MCC", True),
        ("log loss", True),
        ("eval_wow", False),
    ],
)
def test_known_measures_are_explained_and_unknown_ones_are_not(name, explained):
    assert bool(measures.explain(name)) is explained


@pytest.mark.parametrize("alias", measures._ALIASES)
def test_every_alias_leads_to_a_measure(alias):
    assert measures.explain(alias)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0.000"),
        (0.12345, "0.123"),
        (-0.5, "−0.500"),
        (12.345, "12.35"),
        (412.37, "412.4"),
        (12345.6, "12\u202f346"),
        (0.01, "0.010"),
        (0.00123, "0.0012"),
        (2e-5, "2e\u221205"),
        (-3.21e-9, "\u22123.2e\u221209"),
    ],
)
def test_numbers_are_written_for_reading(value, written):
    assert measures.number(value) == written


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0, "0.0"),
        (0.5, "50.0"),
        (0.00999, "1"),
        (0.0042, "0.42"),
        (2e-5, "0.002"),
        (-3e-8, "\u22123e\u221206"),
        (1, "100.0"),
    ],
)
def test_small_shares_keep_their_digits(share, written):
    assert measures.percent(share) == f"{written}\u00a0%"
    assert apart(Metric("accuracy", 0.5), share) == written


def test_no_number_of_the_page_reads_as_nothing():
    metrics = [
        Metric("mean squared error", 2e-5, (1.2e-5, 3.4e-5), {"mean": 0.00071}, repeats=(2e-5, 2.3e-5, 2.9e-5)),
        Metric("word error rate", 4.4e-5, (3.1e-6, 8.2e-5), {"other": 0.00012}),
    ]
    text = Page(render_report(full(metrics=metrics, calibration=None, curves=[], classes=[]))).text.replace(
        "\u2212", "-"
    )
    for told in ("2e-05", "1.2e-05", "3.4e-05", "0.00071", "4.6e-06", "0.0044", "0.00031", "0.0082", "0.012"):
        assert told in text
    assert "0.000" not in re.sub(r"0\.000\d", "", text)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 17, [5, 10, 15]), (-1, 1, [-1, -0.5, 0, 0.5, 1]), (2, 2, [2])],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_line_chart_puts_points_where_they_belong():
    chart = charts.line_chart(Curve("c", "x", "y", {"s": [(0, 0), (5, 1), (10, 2)]}))
    (left, bottom), middle, (right, top) = chart.lines[0].dots
    assert (left, right) == (charts.LEFT, charts.WIDTH - charts.RIGHT)
    assert bottom == charts.HEIGHT - charts.BOTTOM
    assert charts.TOP < top < bottom
    assert middle == (pytest.approx((left + right) / 2), pytest.approx((bottom + top) / 2, abs=0.02))
    zero = next(tick for tick in chart.y_ticks if tick.label == "0")
    assert zero.at == bottom


def test_line_chart_of_nothing_is_nothing():
    assert charts.line_chart(Curve("c", "x", "y", {"s": [(0, math.nan)]})) is None


def test_bars_share_one_scale_with_zero_and_the_interval():
    model, base = charts.bars(Metric("MCC", 0.5, (0.4, 0.8), {"chance": -0.2}))
    assert (base.start, base.stop) == (0.0, 0.2)
    assert (model.start, model.stop, model.low, model.high) == (0.2, 0.7, 0.6, 1.0)


def test_bars_of_shares_reach_to_one():
    (model,) = charts.bars(Metric("accuracy", 0.5))
    assert (model.start, model.stop) == (0.0, 0.5)


JUDGED = [
    (0.9, (0.8, 0.95), True, "Better than both baselines: score 0.900 against 0.700 for b, the best of them; "
     "0.200 more (95 % interval 0.100 to 0.250)."),
    (0.9, (0.6, 0.95), True, "Not clearly better than the baseline b: score 0.900 against 0.700; "
     "0.200 more (95 % interval −0.100 to 0.250), so it may be chance."),
    (0.4, (0.3, 0.5), True, "A baseline wins: b has score 0.700, this model 0.400; "
     "0.300 less (95 % interval 0.200 to 0.400)."),
    (0.6, (0.4, 0.8), True, "A baseline is ahead: b has score 0.700, this model 0.600; "
     "0.100 less (95 % interval −0.100 to 0.300), so it may be chance."),
    (0.2, (0.1, 0.3), False, "Better than both baselines: score 0.200 against 0.500 for a, the best of them; "
     "0.300 less (95 % interval 0.200 to 0.400)."),
    (0.9, (0.8, 1.0), False, "A baseline wins: a has score 0.500, this model 0.900; "
     "0.400 more (95 % interval 0.300 to 0.500)."),
    (0.7, None, True, "Not clearly better than the baseline b: score 0.700 against 0.700; "
     "0.000 more, so it may be chance."),
    (0.9, None, True, "Better than both baselines: score 0.900 against 0.700 for b, the best of them; 0.200 more."),
    (0.9, (math.nan, 1.0), True, "Better than both baselines: score 0.900 against 0.700 for b, the best of them; "
     "0.200 more."),
]  # fmt: skip


@pytest.mark.parametrize(("value", "interval", "higher", "sentence"), JUDGED)
def test_the_page_begins_with_a_verdict(value, interval, higher, sentence):
    metric = Metric("score", value, interval, {"a": 0.5, "b": 0.7, "c": math.nan}, higher_is_better=higher)
    text = Page(render_report(full(metrics=[metric]))).text
    assert sentence in text
    assert text.index(sentence) < text.index("Warnings")


def test_a_verdict_goes_by_the_interval_of_the_difference():
    known = {"a": 0.5, "b": 0.7}
    metric = Metric("Accuracy", 0.72, (0.6, 0.8), known, differences={"a": (0.1, 0.3), "b": (0.01, 0.03)})
    expected = (
        "Better than both baselines: accuracy 72.0 % against 70.0 % for b, the best of them; "
        "2.0 points more (95 % interval 1.0 to 3.0)."
    )
    assert judge([metric]).sentence.replace("\u00a0", " ") == expected
    assert judge([dataclasses.replace(metric, differences={"a": (-0.01, 0.3), "b": (0.01, 0.03)})]).outcome == "unclear"
    lower = Metric("word_error_rate", 0.2, None, {"a": 0.3}, higher_is_better=False, differences={"a": (-0.15, -0.05)})
    expected = (
        "Better than the baseline: word_error_rate 20.0 % against 30.0 % for a; "
        "10.0 points less (95 % interval 5.0 to 15.0)."
    )
    assert judge([lower]).sentence.replace("\u00a0", " ") == expected


def test_what_no_model_can_better_does_not_win():
    metric = Metric(
        "mel cepstral distortion", 6.0, (5.5, 6.5), {"recordings": 1.0, "others": 9.0}, False, {}, ("recordings",)
    )
    verdict = judge([metric])
    assert verdict.outcome == "better"
    assert verdict.details == ["No model can better recordings: 1.000."]


def test_a_verdict_says_where_a_baseline_is_ahead_and_how_seeds_differ():
    first = Metric("Accuracy", 0.9, None, {"a": 0.5}, repeats=(0.9, 0.8, 0.85))
    verdict = judge([first, Metric("Macro F1", 0.6, None, {"a": 0.7})])
    assert [detail.replace("\u00a0", " ") for detail in verdict.details] == [
        "By macro F1, a is ahead: 0.700 against 0.600.",
        "Trained with 3 seeds, accuracy is 80.0 % to 90.0 %: mean 85.0 %, standard deviation 5.0 points.",
    ]


def test_without_baselines_nothing_is_claimed():
    assert judge([]) is None
    assert judge([Metric("MCC", 0.5)]).sentence == "Not compared with any baseline: MCC is 0.500."
    assert judge([Metric("MCC", math.nan, None, {"a": 0.5})]).outcome == "alone"


def test_the_page_is_the_same_each_time():
    assert render_report(full()) == render_report(full())
