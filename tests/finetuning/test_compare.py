"""Runs side by side: paired intervals against SciPy's bootstrap, what differs, what is refused, and the command."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from scipy.stats import bootstrap
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from conftest import make_values, sentences, write_csv
from regard._files import read_json, write_json
from regard.cli import app
from regard.errors import ConfigError, DataError
from regard.finetuning.conduct import finetune
from regard.finetuning.measure import keep_draws
from regard.finetuning.reporting.compare import compare
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import Score, get_task
from regard.finetuning.tasks.targets import one_label
from regard.finetuning.tasks.texts import text_classification as task

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def pair(tiny, tmp_path_factory):
    """Two runs on the same rows, of which the second learned less."""
    folder = tmp_path_factory.mktemp("pair")
    rows = sentences(260, seed=1)
    for name, part in {"train": rows[:140], "validation": rows[140:180], "test": rows[180:]}.items():
        write_csv(folder / f"{name}.csv", part)
    found = []
    for name, steps in {"long": 140, "short": 30}.items():
        values = make_values(tiny, folder, folder / name)
        values["train"] |= {"max_steps": steps, "evaluate_every": 0.5}
        values["report"] |= {"baselines": False, "attention": 0}
        found.append(finetune(values, quiet=True))
    return found


def hits(run):
    rows = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    return np.array([row["truth"] == row["predicted"] for row in rows]), rows


def test_differences_have_the_intervals_of_a_paired_bootstrap(pair):
    found = compare(*pair)
    measures = {each.name: each for each in found.measures}
    (one, rows), (other, others) = map(hits, pair)
    assert measures["accuracy"].values == [round(one.mean(), 6), round(other.mean(), 6)]
    assert measures["accuracy"].differences == [None, pytest.approx(other.mean() - one.mean(), abs=1e-6)]
    truth = np.array([row["truth"] for row in rows])
    said = [np.array([row["predicted"] for row in each]) for each in (rows, others)]

    def f1(truth, first, second):
        return f1_score(truth, second, average="macro") - f1_score(truth, first, average="macro")

    options = {"paired": True, "vectorized": False, "method": "percentile", "n_resamples": 1000}
    for name, data, statistic in (
        ("accuracy", (one, other), lambda a, b: b.mean() - a.mean()),
        ("macro_f1", (truth, *said), f1),
    ):
        expected = bootstrap(data, statistic, rng=np.random.default_rng(5), **options).confidence_interval
        np.testing.assert_allclose(measures[name].difference_intervals[1], expected, atol=0.02)
    alone = np.subtract(*measures["accuracy"].intervals[1][::-1])
    assert np.subtract(*measures["accuracy"].difference_intervals[1][::-1]) < 2 * alone


def test_rows_that_one_has_right_are_listed(pair):
    found = compare(*pair)
    (one, rows), (other, others) = map(hits, pair)
    assert 0 < len(found.changes) == (one != other).sum()
    for change, number in zip(found.changes, np.flatnonzero(one != other), strict=True):
        assert (change.given, change.truth) == (rows[number]["text"], rows[number]["truth"])
        assert change.answers == [rows[number]["predicted"], others[number]["predicted"]]
        assert change.right == [one[number], other[number]]


def test_settings_that_differ_and_labels_are_side_by_side(pair):
    found = compare(*pair)
    assert found.runs == ["long", "short"]
    assert found.settings == {"train.max_steps": [140, 30]}
    (_, rows), (_, others) = map(hits, pair)
    for label in ("negative", "positive"):
        for n, each in enumerate((rows, others)):
            truth, said = ([row[key] == label for row in each] for key in ("truth", "predicted"))
            assert found.classes[label][n] == pytest.approx(f1_score(truth, said))


def test_of_thousands_of_labels_those_that_differ_most_are_shown(pair):
    found = compare(*pair)
    classes = {f"l{n}": [0.5, 0.5 + (n % 50 == 3) * n / 10_000] for n in range(5000)}
    table = replace(found, classes=classes).tables()[1]
    assert table.title == "F1 of each label; the 100 of 5000 that differ most"
    assert [row[0] for row in table.rows] == [f"l{n}" for n in range(3, 5000, 50)]
    assert found.tables()[1].title == "F1 of each label"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("metrics.json", "{}", "need what a run measured, as it wrote it; got something else;"),
        ("metrics.json", '{"split": "test", "classes": 5}', "need what a run measured, as it wrote it;"),
        ("predictions.jsonl", "none\n", "need one JSON object a line; got 'Expecting value' at line 1;"),
        ("predictions.jsonl", "[1]\n", "need one JSON object a line; got list at line 1;"),
        ("resamples.npz", "none", "need resamples as a run writes them; got a file that cannot be read;"),
        ("resamples.npz", "PK\x03\x04none", "need resamples as a run writes them; got a file that cannot be read;"),
        ("resamples.npz", "", "need resamples as a run writes them; got a file that cannot be read;"),
    ],
)
def test_runs_with_damaged_files_are_told(pair, tmp_path, name, content, told):
    shutil.copytree(pair[1].path, tmp_path / "copy")
    (tmp_path / "copy" / name).write_text(content)
    with pytest.raises(DataError) as caught:
        compare(pair[0], tmp_path / "copy")
    assert str(caught.value).startswith(f"{tmp_path}/copy/{name}: {told}")


def test_a_run_beside_itself_differs_in_nothing(pair):
    found = compare(pair[0], pair[0].path)
    assert found.settings == {}
    assert found.changes == []
    assert found.measures[0].difference_intervals[1] == (0.0, 0.0)
    assert found.verdicts[0].outcome == "unclear"


def test_the_command_prints_writes_and_gives_json(pair, tmp_path):
    paths = [str(run.path) for run in pair]
    page = tmp_path / "page.html"
    printed = CliRunner().invoke(app, ["compare", *paths, "-o", str(page)])
    assert printed.exit_code == 0
    found = compare(*pair)
    for said in (found.verdicts[0].sentence, "train.max_steps", "Matthews correlation", "negative", f"Written: {page}"):
        assert said in printed.output
    html = page.read_text(encoding="utf-8")
    for said in ("<h1>long beside short</h1>", "train.max_steps", found.changes[0].given, "Macro F1"):
        assert said in html
    printed = CliRunner().invoke(app, ["compare", *paths, "--json"])
    assert json.loads(printed.output) == json.loads(json.dumps(found.to_dict()))


def changed(run, folder, **metrics):
    shutil.copytree(run.path, folder)
    write_json(folder / "metrics.json", read_json(folder / "metrics.json") | metrics)
    return folder


def test_what_cannot_be_compared_is_refused(pair, tmp_path):
    first = pair[0]

    def refusal(*runs, error=ConfigError):
        with pytest.raises(error) as caught:
            compare(*runs)
        return str(caught.value)

    assert refusal(first) == "compare: need at least two runs; got 1; name another."
    other = changed(first, tmp_path / "other")
    lines = (other / "predictions.jsonl").read_text().splitlines(keepends=True)
    (other / "predictions.jsonl").write_text("".join(reversed(lines[:70])))
    assert refusal(first, other) == (
        f"compare: need runs measured on the same rows in the same order; got 80 rows in {first.path} and 70 in "
        f"{other}, 70 of them in both; measure both on one file in data.test."
    )
    config = (other / "config.yaml").read_text().replace("text-classification", "masked-language-modeling")
    (other / "config.yaml").write_text(
        config.replace("sentiment", "x").split("options:")[0].replace("    label: x\n", "")
    )
    assert refusal(first, other) == (
        f"compare: need runs of one task; got text-classification in {first.path} and masked-language-modeling in "
        f"{other}; name runs of the same."
    )
    (other / "metrics.json").unlink()
    assert refusal(first, other, error=DataError) == (
        f"{other}: need a measured run; got one without metrics.json or predictions.jsonl; go on with 'regard finetune "
        "--resume'."
    )


def test_runs_without_resamples_are_compared_without_intervals(pair, tmp_path):
    old = changed(pair[1], tmp_path / "old")
    (old / "resamples.npz").unlink()
    found = compare(pair[0], old)
    assert found.measures[0].difference_intervals == [None, None]
    assert found.measures[0].differences[1] is not None


# ---- draws -----------------------------------------------------------------------------------------------------------


def test_what_is_drawn_is_the_same_rows_for_all_models(tmp_path):
    """A model beside one that is right in the same rows and one more: no resample can be worse."""
    truth = RNG.integers(0, 3, 200).astype(str).tolist()
    one = [{"label": t if RNG.random() < 0.7 else "0"} for t in truth]
    worse = [dict(p) for p in one]
    right = [n for n, (t, p) in enumerate(zip(truth, one, strict=True)) if p["label"] == t]
    for n in right[:5]:
        worse[n] = {"label": str((int(truth[n]) + 1) % 3)}
    split, spec = Dataset.from_dict({"label": truth}), one_label.Known(labels=["0", "1", "2"])
    scores, others = (task.measure(split, each, spec)["accuracy"] for each in (one, worse))
    assert (scores.draws >= others.draws).all()
    assert (scores.draws > others.draws).mean() > 0.9
    keep_draws(tmp_path, {"a": scores, "b": Score(0.5)})
    with np.load(tmp_path / "resamples.npz") as kept:
        assert list(kept) == ["a"]
        np.testing.assert_array_equal(kept["a"], scores.draws)


def test_texts_are_right_or_wrong_as_wholes(tmp_path):
    from regard.finetuning.reporting.compare import _is_right

    assert _is_right({"truth": ["a", "b"], "predicted": ["b", "a"]})
    assert not _is_right({"truth": ["a"], "predicted": []})
    assert _is_right({"truth": "one two", "output": "one two"})
    assert _is_right({"truth": 1.5, "predicted": 1.5}) is None
    assert get_task("translation").record({"source": "a", "target": "b"}, {"output": "b"})["truth"] == "b"
    assert Run(tmp_path).path == tmp_path
