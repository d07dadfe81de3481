"""What is kept of each head over the steps of training, written and drawn."""

import csv
import json

import numpy as np
import pytest

from regard.errors import ConfigError, ShapeError
from regard.inspection import plots
from regard.inspection.history import MEASURES, History
from regard.models.summary import COLUMNS, Summary

HEADS = (3, 2)  # of each layer
STEPS = (0, 5, 11, 13)


def summary(seed):
    random = np.random.default_rng(seed)
    return Summary(["first", "second"], **{column: [random.random(heads) for heads in HEADS] for column in COLUMNS})


def recorded():
    history = History()
    for step in STEPS:
        history.record(step, summary(step))
    return history


def test_a_history_holds_what_the_summaries_said():
    history = recorded()
    assert (history.steps, history.names) == (list(STEPS), ["first", "second"])
    for measure in MEASURES:
        for place, step in enumerate(STEPS):
            for layer, values in enumerate(getattr(summary(step), measure)):
                assert getattr(history, measure)[place][layer] == values.tolist()


def test_another_model_is_refused():
    history = recorded()
    with pytest.raises(ShapeError) as caught:
        history.record(17, Summary(["first"], **{column: [np.ones(3)] for column in COLUMNS}))
    assert str(caught.value) == (
        "History.record: need the 2 layers of the steps before; got 1, not the same; keep a history for each model."
    )


def test_json_is_read_back(tmp_path):
    recorded().save(tmp_path / "history.json")
    with (tmp_path / "history.json").open() as file:
        assert History(**json.load(file)) == recorded()


def test_csv_has_a_row_for_each_step_layer_and_head(tmp_path):
    recorded().save(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(STEPS) * sum(HEADS)
    assert [(row["step"], row["layer"], row["name"], row["head"]) for row in rows[5:8]] == [
        ("5", "0", "first", "0"),
        ("5", "0", "first", "1"),
        ("5", "0", "first", "2"),
    ]
    assert float(rows[8]["largest_score"]) == summary(5).largest_score[1][0]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        recorded().save(tmp_path / "history.xlsx")
    assert str(caught.value) == ("History.save: need a path that ends in .csv or .json; got 'history.xlsx'; rename it.")


def test_the_plot_has_a_row_for_each_measure_and_a_line_for_each_head(tmp_path):
    history = recorded()
    figure = history.plot(tmp_path / "history.png")
    figure.canvas.draw()
    assert (tmp_path / "history.png").stat().st_size > 10_000
    panels = np.reshape(figure.axes, (len(MEASURES), len(HEADS)))
    for row, measure in zip(panels, MEASURES, strict=True):
        for layer, axes in enumerate(row):
            assert len(axes.lines) == HEADS[layer]
            for head, line in enumerate(axes.lines):
                np.testing.assert_array_equal(line.get_xdata(), STEPS)
                expected = [getattr(summary(step), measure)[layer][head] for step in STEPS]
                np.testing.assert_array_equal(line.get_ydata(), expected)
    assert [axes.get_title() for axes in panels[0]] == ["layer 0", "layer 1"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == [
        "entropy (nats)", "largest score", "distance (positions)", "weight on the first",
    ]  # fmt: skip
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["head 0", "head 1", "head 2"]


def test_many_layers_and_heads_are_drawn(tmp_path):
    history = History(steps=[0], names=[str(layer) for layer in range(24)])
    for measure in MEASURES:
        setattr(history, measure, np.random.default_rng(0).random((1, 24, 16)).tolist())
    figure = plots.attention_history(history)
    figure.canvas.draw()
    assert len(figure.axes) == 96
    assert not figure.legends


def test_nothing_recorded_says_so():
    with pytest.raises(ShapeError) as caught:
        History().plot()
    assert str(caught.value) == ("attention_history: need at least one step; got none; train with the monitor first.")
