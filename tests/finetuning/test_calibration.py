"""Temperatures, thresholds and reliability against other libraries; what is fitted stays with the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import f1_score, log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from conftest import make_values, sentences, write_csv
from regard.errors import ConfigError
from regard.finetuning.conduct import finetune
from regard.finetuning.export import export
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks.targets import calibration

RNG = np.random.default_rng(7)


def overconfident(rows=400, labels=4, by=3.0):
    """Logits of a model that is right as often as softmax of a third of them says."""
    honest = RNG.normal(size=(rows, labels)) * 2
    truth = np.array([RNG.choice(labels, p=softmax(row)) for row in honest])
    return honest * by, truth


def test_the_temperature_is_where_cross_entropy_is_least():
    logits, truth = overconfident()
    found = calibration.fit_temperature(logits, truth)
    near = [log_loss(truth, softmax(logits / (found * by), axis=-1)) for by in (0.98, 1.0, 1.02)]
    assert min(near) == near[1]
    assert 2.3 < found < 3.9


def test_the_temperature_of_several_labels_is_where_binary_cross_entropy_is_least():
    honest = RNG.normal(size=(300, 3)) * 2
    truth = RNG.random((300, 3)) < expit(honest)
    found = calibration.fit_temperature(honest * 2, truth)
    near = [log_loss(truth.ravel(), expit(2 * honest / (found * by)).ravel()) for by in (0.98, 1.0, 1.02)]
    assert min(near) == near[1]
    assert 1.6 < found < 2.5


def test_where_all_answers_are_right_no_temperature_is_best():
    truth = RNG.integers(0, 3, 50)
    assert calibration.fit_temperature(np.eye(3)[truth], truth) is None
    assert calibration.fit_temperature(np.eye(3)[truth] - 0.5, np.eye(3)[truth] > 0) is None


def test_the_expected_calibration_error_is_that_of_torchmetrics():
    logits, truth = overconfident()
    chances = softmax(logits, axis=-1)
    bins, error = calibration.reliability(*calibration._outcomes(chances, truth))
    expected = multiclass_calibration_error(torch.tensor(chances), torch.tensor(truth), 4, n_bins=10, norm="l1")
    assert error == pytest.approx(expected.item(), abs=1e-6)
    assert sum(count for *_, count in bins) == 400
    several = RNG.random((200, 3)) < 0.3
    stated = RNG.random((200, 3))
    _, error = calibration.reliability(*calibration._outcomes(stated, several))
    expected = binary_calibration_error(torch.tensor(stated.ravel()), torch.tensor(several.ravel()).int(), n_bins=10)
    assert error == pytest.approx(expected.item(), abs=1e-6)


def test_what_probabilities_would_be_without_a_temperature():
    logits, _ = overconfident(50)
    scaled = softmax(logits / 2.5, axis=-1)
    np.testing.assert_allclose(calibration._without(scaled, 2.5, False), softmax(logits, axis=-1), atol=1e-9)
    np.testing.assert_allclose(calibration._without(expit(logits / 2.5), 2.5, True), expit(logits), atol=1e-9)


def test_thresholds_have_the_best_f1_of_all():
    truth = RNG.random((150, 3)) < [0.1, 0.5, 0.02]
    stated = np.clip(0.25 * truth + RNG.random((150, 3)) * 0.6, 0, 1)
    truth[:, 2] = False
    found = calibration.fit_thresholds(stated, truth, ["rare", "even", "never"])
    assert found["never"] == 0.5
    for number, label in enumerate(("rare", "even")):
        grid = np.append(np.unique(stated[:, number]) - 1e-9, 0.5)
        best = max(f1_score(truth[:, number], stated[:, number] > cut) for cut in grid)
        assert f1_score(truth[:, number], stated[:, number] > found[label]) == pytest.approx(best)
        assert best > f1_score(truth[:, number], stated[:, number] > 0.5, zero_division=0)


def test_of_thresholds_as_good_as_each_other_the_nearest_to_a_half_is_taken():
    stated, truth = np.array([0.1] * 10 + [0.2] * 10)[:, None], np.array([False] * 10 + [True] * 10)[:, None]
    assert calibration.fit_thresholds(stated, truth, ["a"]) == {"a": 0.15}
    stated = np.where(truth, 0.9, 0.1)
    assert calibration.fit_thresholds(stated, truth, ["a"]) == {"a": 0.5}


# ---- whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(tiny, tmp_path_factory):
    """A run on sentences of which some carry the wrong label, so that no model is sure with good reason."""
    folder = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(2)
    rows = [(t, label if rng.random() > 0.2 else "negative") for t, label in sentences(400, seed=4)]
    for name, part in {"train": rows[:200], "validation": rows[200:300], "test": rows[300:]}.items():
        write_csv(folder / f"{name}.csv", part)
    values = make_values(tiny, folder, folder / "run")
    values["options"] = {"calibrate": True}
    values["report"] |= {"baselines": False}
    return finetune(values, quiet=True)


def plain_logits(folder, texts):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy(), model.config


def test_predictions_are_those_of_transformers_divided_by_the_temperature(calibrated):
    texts = ["a superb film", "the plot", "dull dull story"]
    logits, config = plain_logits(calibrated.path / "model", texts)
    temperature = config.calibration["temperature"]
    assert temperature == calibrated.metrics["fitted"]["temperature"] != 1
    found = [list(p["probabilities"].values()) for p in Run.load(calibrated.path).predict(texts)]
    np.testing.assert_allclose(found, softmax(logits / temperature, axis=-1), atol=2e-6)
    assert np.abs(softmax(logits, axis=-1) - found).max() > 1e-3


def test_the_temperature_is_the_best_for_the_validation_rows_and_the_report_says_so(calibrated):
    rows = [line.rsplit(",", 1) for line in Path(calibrated.config.data.validation).read_text().splitlines()[1:]]
    logits, _ = plain_logits(calibrated.path / "model", [text for text, _ in rows])
    truth = np.array([label == "positive" for _, label in rows]).astype(int)
    temperature = calibrated.metrics["fitted"]["temperature"]
    near = [log_loss(truth, softmax(logits / (temperature * by), axis=-1)) for by in (0.98, 1.0, 1.02)]
    assert min(near) == near[1]
    found = calibrated.metrics["calibration"]
    rows = [json.loads(line) for line in (calibrated.path / "predictions.jsonl").read_text().splitlines()]
    chances = torch.tensor([list(row["probabilities"].values()) for row in rows])
    right = torch.tensor([int(row["truth"] == "positive") for row in rows])
    for key, stated in (("error", chances), ("uncalibrated", chances**temperature)):
        stated = stated / stated.sum(-1, keepdim=True)
        expected = multiclass_calibration_error(stated, right, 2, n_bins=10, norm="l1").item()
        assert found[key] == pytest.approx(expected, abs=1e-3)
    page = (calibrated.path / "report.html").read_text(encoding="utf-8")
    assert "expected calibration error" in page
    assert f"{temperature:.3f}" in page


def test_what_is_exported_is_calibrated_too(calibrated, tmp_path):
    export(calibrated, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["calibration"] == calibrated.metrics["fitted"]


def test_a_model_that_goes_on_from_a_calibrated_one_does_not_inherit_it(calibrated, values):
    values |= {"model": str(calibrated.path / "model")}
    values["train"] |= {"max_steps": 1, "evaluate_every": 1}
    values["report"] |= {"baselines": False}
    run = finetune(values, quiet=True)
    assert "fitted" not in run.metrics
    assert "calibration" not in json.loads((run.path / "model" / "config.json").read_text())


def test_each_of_several_labels_has_a_threshold_that_predictions_go_by(values, tmp_path):
    rng = np.random.default_rng(3)
    rows = []
    for text, label in sentences(300, seed=6):
        rare = [label] if label == "positive" and rng.random() < 0.3 else []
        rows.append((text, ";".join(["film", *rare] if "film" in text else rare)))
    for name, part in {"train": rows[:150], "validation": rows[150:220], "test": rows[220:]}.items():
        write_csv(tmp_path / f"{name}.csv", part)
    values["data"] |= {name: str(tmp_path / f"{name}.csv") for name in ("train", "validation", "test")}
    values["options"] = {"kind": "multi"}
    values["train"] |= {"epochs": 3}
    values["report"] |= {"baselines": False}
    run = finetune(values, quiet=True)
    thresholds = run.metrics["fitted"]["thresholds"]
    assert set(thresholds) == {"film", "positive"}
    assert thresholds["positive"] < 0.5
    assert {label: each["threshold"] for label, each in run.metrics["classes"].items()} == thresholds
    reopened = Run.load(run.path)
    for prediction in reopened.predict([text for text, _ in rows[220:]]):
        expected = [label for label, p in prediction["probabilities"].items() if p > thresholds[label]]
        assert prediction["labels"] == expected
    assert "Given from" in (run.path / "report.html").read_text(encoding="utf-8")
    values |= {"options": {"kind": "multi", "thresholds": "half"}, "output": str(tmp_path / "half")}
    assert "fitted" not in finetune(values, quiet=True).metrics


def test_numbers_have_nothing_to_calibrate(values):
    values["options"] = {"kind": "regression", "calibrate": True}
    with pytest.raises(ConfigError) as caught:
        finetune(values, quiet=True)
    assert str(caught.value) == (
        "options.calibrate: need labels to apply it to; got numbers; leave it out or set options.kind."
    )
