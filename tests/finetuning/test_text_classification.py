"""Measures against scikit-learn and SciPy, the loss against PyTorch's own, order and lengths of predictions."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef

from regard.finetuning.configure import load_config
from regard.finetuning.tasks import get_task
from regard.finetuning.tasks.targets import classes, intervals, one_label
from regard.finetuning.tasks.texts import text_classification as task

RNG = np.random.default_rng(5)
CASES = [RNG.integers(0, k, (2, n)) for k, n in [(2, 50), (3, 200), (7, 1000), (4, 9)]] + [np.zeros((2, 5), int)]


@pytest.mark.parametrize("hits", [0, 1, 37, 99, 100])
def test_wilson(hits):
    expected = binomtest(hits, 100).proportion_ci(method="wilson")
    np.testing.assert_allclose(intervals.wilson(hits, 100), (expected.low, expected.high), atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.max() + 1}x{case.shape[1]}")
def test_measures_of_a_confusion_matrix(case):
    truth, predicted = case
    expected = {
        "accuracy": accuracy_score(truth, predicted),
        "macro_f1": f1_score(truth, predicted, average="macro"),
        "mcc": matthews_corrcoef(truth, predicted) if truth.any() else 0.0,
    }
    assert classes.measures(truth, predicted) == pytest.approx(expected, abs=1e-12)
    counts = classes.Tallies(*(np.stack([each] * 2) for each in classes.Tallies.of(truth, predicted, 8)))
    matrix = confusion_matrix(truth, predicted, labels=range(8))
    np.testing.assert_array_equal([each[0] for each in counts], [np.diag(matrix), matrix.sum(1), matrix.sum(0)])
    np.testing.assert_allclose(classes.macro_f1(counts), expected["macro_f1"])
    np.testing.assert_allclose(classes.matthews(counts), expected["mcc"], atol=1e-12)
    odds, spec = np.eye(8)[predicted], one_label.Known(labels=list("abcdefgh"))
    batches = [SimpleNamespace(predictions=odds[n::2], label_ids=truth[n::2]) for n in range(2)]
    found = classes.validate(sum(classes.tally(batch, spec) for batch in batches), spec)
    assert found == pytest.approx({name: expected[name] for name in ("accuracy", "macro_f1")})


def test_drawn_tallies_are_those_of_the_confusion_matrices_of_the_same_rows():
    labels = ["a", "b", "c", "d"]
    truth, predicted = (np.random.default_rng(n).choice(labels, 31).tolist() for n in (1, 2))
    rng = np.random.default_rng(0)
    for number, drawn in enumerate(zip(*classes.resampled(truth, predicted, labels), strict=True)):
        rows = rng.integers(31, size=31)
        matrix = confusion_matrix([truth[n] for n in rows], [predicted[n] for n in rows], labels=labels)
        expected = (np.diag(matrix), matrix.sum(1), matrix.sum(0))
        np.testing.assert_array_equal(drawn, expected, err_msg=f"draw {number}")


def test_intervals_of_thousands_of_labels_are_no_matter_of_gigabytes():
    labels = [str(n) for n in range(classes.MOST_LABELS)]
    tracemalloc.start()
    scores = classes.measure(
        Dataset.from_dict({"label": labels}), [{"label": n} for n in labels], one_label.Known(labels=labels)
    )
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scores["macro_f1"].value == 1
    assert most < 512 * 2**20


def test_very_many_labels_take_no_square_of_memory():
    labels = 100_000
    truth, spec = np.arange(labels), one_label.Known(labels=list(map(str, range(labels))))
    odds = np.zeros((3, labels), np.float32)
    tracemalloc.start()
    found = classes.validate(classes.tally(SimpleNamespace(predictions=odds, label_ids=truth[:3]), spec), spec)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert classes.measures(truth.tolist(), truth.tolist()) == {"accuracy": 1, "macro_f1": 1, "mcc": 1}
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 64 * 2**20


def test_intervals_hold_the_value_and_shrink_with_the_rows():
    def interval(rows):
        truth = [str(n % 2) for n in range(rows)]
        answers = [{"label": t if n % 5 else "0"} for n, t in enumerate(truth)]
        return task.measure(Dataset.from_dict({"label": truth}), answers, one_label.Known(labels=["0", "1"]))

    few, many = interval(50), interval(5000)
    for measure, score in many.items():
        assert score.interval[0] < score.value < score.interval[1]
        assert score.interval[1] - score.interval[0] < 0.2 * (few[measure].interval[1] - few[measure].interval[0])


def test_balanced_loss_is_cross_entropy_with_inverse_frequencies():
    rows = Dataset.from_dict({"labels": [0, 0, 0, 1]})
    config = load_config({"task": "text-classification", "model": "m", "data": {"train": "t"}, "output": "o"})
    spec = one_label.Known(labels=["a", "b"])
    plain = task.loss(rows, spec, config)
    balanced = task.loss(rows, spec, load_config(config, {"options.class_weights": "balanced"}))
    logits, labels = torch.randn(4, 2), torch.tensor([0, 0, 0, 1])
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(plain({"logits": logits}, labels), each.mean())
    expected = (each[:3].mean() + each[3]) / 2
    torch.testing.assert_close(balanced({"logits": logits}, labels), expected)
    torch.testing.assert_close(balanced({"logits": logits}, labels, 8), expected / 2)


def test_predictions_are_in_order_and_do_not_depend_on_the_others(finished):
    texts = ["a superb film", "dull", "the plot and the actors of a film with music", "awful awful story", "."]
    together = finished.predict(texts)
    for text, prediction in zip(texts, together, strict=True):
        alone = finished.predict(text)[0]
        assert alone["label"] == prediction["label"]
        assert alone["probability"] == pytest.approx(prediction["probability"], abs=1e-5)
    assert sum(together[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_what_was_cut_is_told(finished):
    assert [p["tokens_cut"] for p in finished.predict(["film " * 30, "film " * 33])] == [0, 3]


def test_dropout_is_set_everywhere(tiny):
    spec = one_label.Known(labels=["a", "b"])

    def probabilities(model):
        return {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}

    assert probabilities(task.load_model(str(tiny), spec)[0]) == {0.1}
    assert probabilities(task.load_model(str(tiny), spec, 0.0)[0]) == {0.0}
    assert probabilities(task.load_model(str(tiny), spec, 0.25)[0]) == {0.25}


def test_every_task_has_every_name():
    from regard.finetuning.tasks import TASKS, Task

    names = [name for name in (*vars(Task), *Task.__annotations__) if not name.startswith("_")]
    assert len(names) > 12
    for task_name in TASKS:
        assert not [name for name in names if not hasattr(get_task(task_name), name)]
