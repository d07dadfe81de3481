"""Several labels a text, and numbers: measures against scikit-learn and SciPy, losses against sums by hand, runs."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.stats import bootstrap, pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from conftest import BAD, GOOD, PLAIN
from regard.errors import ConfigError, DataError
from regard.finetuning.check import check, prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks.targets import label_sets, numbers, one_label
from regard.finetuning.tasks.texts import text_classification as task
from regard.finetuning.training.validation import Tally

RNG = np.random.default_rng(11)
NAMES = ["bad", "good", "long"]
SETS = label_sets.Known(kind="multi", labels=NAMES)
SCALE = numbers.Known(kind="regression", labels=["value"], mean=1.5, deviation=4.0)


def review(words):
    good = sum(word in GOOD for word in words)
    bad = sum(word in BAD for word in words)
    labels = [name for name, there in zip(NAMES, (bad, good, len(words) > 12), strict=True) if there]
    return {"sentence": " ".join(words), "labels": labels, "rating": good - bad + 0.5}


def write(path, count, seed):
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(count):
            words = rng.choice(PLAIN, rng.integers(3, 18)).tolist()
            words += rng.choice(GOOD, rng.integers(0, 3)).tolist() + rng.choice(BAD, rng.integers(0, 3)).tolist()
            file.write(json.dumps(review(rng.permutation(words).tolist())) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    return {
        name: write(folder / f"{name}.jsonl", count, seed)
        for seed, (name, count) in enumerate({"train": 240, "validation": 60, "test": 80}.items())
    }


@pytest.fixture
def several(values, files):
    values["data"] = {**files, "columns": {"text": "sentence", "label": "labels"}}
    return values


@pytest.fixture
def rated(values, files):
    values["data"] = {**files, "columns": {"text": "sentence", "label": "rating"}}
    return values


def split_of(**columns):
    return Dataset.from_dict(columns)


def outcomes(rows=60):
    truth = RNG.random((rows, 3)) < [0.2, 0.5, 0.7]
    answers = truth ^ (RNG.random((rows, 3)) < 0.2)
    sets = [[name for name, there in zip(NAMES, row, strict=True) if there] for row in truth]
    said = [{"labels": [name for name, there in zip(NAMES, row, strict=True) if there]} for row in answers]
    return truth, answers, sets, said


def validated(spec, logits, labels, batch=17):
    """What Trainer is told, which hands over one batch after another."""
    measure = Tally(task, spec)
    for _ in range(2):  # and begins anew
        for start in range(0, len(labels), batch):
            part = slice(start, start + batch)
            outputs = SimpleNamespace(predictions=torch.tensor(logits[part]), label_ids=torch.tensor(labels[part]))
            last = start + batch >= len(labels)
            found = measure(outputs, last)
            assert bool(found) == last
    return found


def test_a_validation_in_batches_measures_as_scikit_learn_does():
    truth, logits = RNG.integers(0, 3, 100), RNG.normal(size=(100, 3))
    expected = {
        "accuracy": accuracy_score(truth, logits.argmax(-1)),
        "macro_f1": f1_score(truth, logits.argmax(-1), average="macro"),
    }
    assert validated(one_label.Known(labels=["a", "b", "c"]), logits, truth) == pytest.approx(expected)


def test_measures_of_sets_are_those_of_scikit_learn():
    truth, answers, sets, said = outcomes()
    scores = task.measure(split_of(label=sets), said, SETS)
    assert scores["macro_f1"].value == pytest.approx(f1_score(truth, answers, average="macro"))
    assert scores["micro_f1"].value == pytest.approx(f1_score(truth, answers, average="micro"))
    assert scores["subset_accuracy"].value == pytest.approx(accuracy_score(truth, answers))
    for score in scores.values():
        assert score.interval[0] < score.value < score.interval[1]
    logits = np.where(answers, 1.5, -0.1)
    watched = validated(SETS, logits, truth.astype(np.float32))
    assert watched == pytest.approx({name: score.value for name, score in scores.items()})


def test_measures_of_numbers_are_those_of_scipy():
    truth = RNG.normal(size=200).round(1)
    said = truth + RNG.normal(size=200)
    scores = task.measure(split_of(label=truth), [{"value": value} for value in said], SCALE)
    expected = {
        "spearman": spearmanr(truth, said).statistic,
        "pearson": pearsonr(truth, said).statistic,
        "mean_absolute_error": mean_absolute_error(truth, said),
    }
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected)
    resampled = bootstrap(
        (truth, said), lambda x, y: pearsonr(x, y).statistic, paired=True, vectorized=False, n_resamples=1000,
        method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(scores["pearson"].interval, resampled, atol=0.02)
    assert validated(SCALE, said[:, None], truth.astype(np.float32)) == pytest.approx(
        {"pearson": expected["pearson"]}, abs=1e-5
    )


def test_a_constant_answer_has_no_correlation():
    scores = task.measure(split_of(label=[1.0, 2.0, 4.0]), [{"value": 0.1}] * 3, SCALE)
    assert scores["spearman"].value == scores["pearson"].value == 0.0
    assert scores["mean_absolute_error"].value == pytest.approx(6.7 / 3)


def configured(**options):
    values = {"task": "text-classification", "model": "m", "data": {"train": "t"}, "output": "o", "options": options}
    return load_config(values)


def test_the_loss_of_sets():
    truth, *_ = outcomes(40)
    logits = torch.randn(40, 3, dtype=torch.float64)
    rows, labels = split_of(labels=truth.astype(float)), torch.tensor(truth.astype(float))
    chances = logits.sigmoid()
    yes, no = -labels * chances.log(), -(1 - labels) * (1 - chances).log()
    outputs = {"logits": logits}

    def found(items=None, **options):
        return task.loss(rows, SETS, configured(**options))(outputs, labels, items)

    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(found().double(), (yes + no).mean(), **close)
    torch.testing.assert_close(found(items=240).double(), (yes + no).sum() / 240, **close)
    there = labels.sum(0)
    balanced = (yes * (40 - there) / there + no).mean()
    torch.testing.assert_close(found(class_weights="balanced").double(), balanced, **close)
    soft = labels * 0.8 + 0.1
    smoothed = -(soft * chances.log() + (1 - soft) * (1 - chances).log()).mean()
    torch.testing.assert_close(found(label_smoothing=0.2).double(), smoothed, **close)


def test_the_loss_of_numbers_and_of_smoothed_labels():
    logits, labels = torch.randn(7, 1), torch.randn(7)
    loss = task.loss(split_of(labels=labels.tolist()), SCALE, configured())
    torch.testing.assert_close(loss({"logits": logits}, labels), (logits[:, 0] - labels).square().mean())
    torch.testing.assert_close(loss({"logits": logits}, labels, 21), (logits[:, 0] - labels).square().sum() / 21)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    spec = one_label.Known(labels=["a", "b", "c"])
    loss = task.loss(split_of(labels=labels.tolist()), spec, configured(label_smoothing=0.3))
    soft = torch.nn.functional.one_hot(labels, 3) * 0.7 + 0.1
    torch.testing.assert_close(loss({"logits": logits}, labels), -(soft * logits.log_softmax(-1)).sum(-1).mean())


def test_labels_in_a_text_are_separated():
    reading = {"form": "separator", "separator": ";"}
    split = task.read(split_of(label=["good; long", "", "bad;bad"]), reading, "t.csv")
    assert label_sets.sets_of(split) == [["good", "long"], [], ["bad"]]
    assert label_sets.targets(split, SETS) == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(numbers.targets(split_of(label=["5.5", "-2.5"]), SCALE), [1, -1])


def test_a_run_with_several_labels(several):
    found = check(several)
    assert found.spec.dump() == {"kind": "multi", "labels": NAMES, "reading": {"form": "lists"}}
    assert "train: the labels are lists, so a text may have several (options.kind: multi)" in [
        finding.message for finding in found.findings
    ]
    several["train"] |= {"epochs": 10, "evaluate_every": 150}
    several["report"] |= {"attention": 1}
    run = finetune(several, quiet=True)
    metrics = run.metrics
    assert metrics["macro_f1"] > 0.8
    assert metrics["macro_f1"] > metrics["baselines"]["commonest set of labels"]["macro_f1"]
    assert set(metrics["intervals_95"]) == {"macro_f1", "micro_f1", "subset_accuracy"}
    answer = run.predict("a superb film of dull music")[0]
    assert set(answer["labels"]) >= {"bad", "good"}
    assert list(answer["probabilities"]) == NAMES
    assert all((p > 0.5) == (name in answer["labels"]) for name, p in answer["probabilities"].items())
    line = json.loads((run.path / "predictions.jsonl").read_text().splitlines()[0])
    assert isinstance(line["truth"], list)
    assert isinstance(line["predicted"], list)
    assert run.model.config.problem_type == "multi_label_classification"
    scores = Run.load(run.path).evaluate(several["data"]["test"])
    assert scores["micro_f1"].value == pytest.approx(metrics["micro_f1"], abs=1e-6)
    assert "commonest set of labels" in (run.path / "report.html").read_text()


@pytest.mark.slow
def test_a_run_with_numbers(rated):
    found = check(rated)
    assert found.spec.kind == "regression"
    rated["train"] |= {"epochs": 6, "evaluate_every": 90}
    rated["report"] |= {"attention": 1}
    run = finetune(rated, quiet=True)
    metrics = run.metrics
    assert metrics["spearman"] > 0.7
    assert metrics["baselines"]["mean of the training rows"]["spearman"] == 0.0
    assert metrics["mean_absolute_error"] < metrics["baselines"]["mean of the training rows"]["mean_absolute_error"]
    good, bad = (run.predict(text)[0]["value"] for text in ("a superb wonderful film", "a dull dreary film"))
    assert good > 1 > 0 > bad
    line = json.loads((run.path / "predictions.jsonl").read_text().splitlines()[0])
    assert {type(line["truth"]), type(line["predicted"])} == {float}
    page = (run.path / "report.html").read_text()
    assert "Mean absolute error" in page
    assert "Predictions by truth" in page
    assert math.isclose(run.evaluate(rated["data"]["test"])["pearson"].value, metrics["pearson"], abs_tol=1e-6)


def refusal(function, *args, error=DataError):
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def test_labels_that_training_never_saw(several, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"sentence": "a film", "labels": ["good", "funny"]}) + "\n")
    several["data"]["test"] = str(path)
    assert refusal(check, several) == (
        f"{path}: need labels that are in the training data too ('bad', 'good', 'long'); got 'funny' in row 1; correct "
        "it, or add training rows of it."
    )
    path.write_text(json.dumps({"sentence": "a film", "labels": None}) + "\n")
    assert refusal(check, several) == (
        f"{path}: need a list of labels in each row; got None in row 1; fill it in or drop the row."
    )


def test_numbers_that_are_none(rated, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"sentence": "a film", "rating": "many"}) + "\n")
    rated["data"]["test"] = str(path)
    assert refusal(check, rated) == (
        f"{path}: need a number in each row; got 'many' in row 1; correct it, or set options.kind to single or multi."
    )
    rated["data"] |= {"test": None, "train": str(path), "validation": str(path)}
    path.write_text("".join(json.dumps({"sentence": f"a film {n}", "rating": 2.5}) + "\n" for n in range(4)))
    assert refusal(check, rated) == (
        f"{path}: need numbers that differ; got 2.5 in each row; name another column in data.columns.label."
    )


def test_labels_that_every_text_has(several, tmp_path):
    path = tmp_path / "same.jsonl"
    path.write_text("".join(json.dumps({"sentence": f"a film {n}", "labels": ["x", "y"]}) + "\n" for n in range(4)))
    several["data"] |= {"test": None, "train": str(path), "validation": str(path)}
    assert refusal(check, several) == (
        f"{path}: need labels that some rows have and others have not; got 'x', 'y' in each row; name another column "
        "in data.columns.label."
    )


def test_options_that_mean_nothing(rated, values):
    rated["options"] = {"class_weights": "balanced"}
    assert refusal(check, rated, error=ConfigError) == (
        "options.class_weights: need labels to apply it to; got numbers; leave it out or set options.kind."
    )


def test_the_kind_can_be_told(rated):
    rated["options"] = {"kind": "single"}
    spec = prepare(load_config(rated)).check.spec
    assert "kind" not in spec.dump()
    assert "0.5" in spec.labels
