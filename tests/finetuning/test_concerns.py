"""What a report warns of, in its exact words; the files, the machine and the course of training that it tells."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from regard.finetuning.configure import load_config
from regard.finetuning.measure import _summary
from regard.finetuning.reporting import concerns as module
from regard.finetuning.reporting.environment import hardware
from regard.finetuning.reporting.facts import best_step, course, sources
from regard.finetuning.runs.inputs import describe_data, fingerprint
from regard.finetuning.tasks.targets import one_label
from regard.inspection.report.content import Calibration, ClassScore, Metric


def prepared(rows=None, **changes):
    values = {"task": "text-classification", "model": "m", "data": {"train": "t.csv"}, "output": "o"}
    check = SimpleNamespace(rows={"train": 90, "test": 80, **(rows or {})}, spec=one_label.Known(labels=["a", "b"]))
    return SimpleNamespace(config=load_config(values, changes), check=check)


def history(*scores, step=10):
    return [{"step": step * (n + 1), "eval_macro_f1": score} for n, score in enumerate(scores)]


def told(metric=None, shown=None, split="test", state=None, **changes):
    run = SimpleNamespace(state=state or {"steps": 30, "history": history(0.5, 0.6, 0.4)}, path=SimpleNamespace())
    run.path = Path("nowhere")
    metric = metric or Metric("Accuracy", 0.9, (0.88, 0.92), {"a": 0.5})
    return [f.message for f in module.concerns(run, prepared(**changes), split, [metric], shown or {})]


def test_nothing_is_warned_of_without_reason():
    assert told() == []


def test_few_rows_and_missing_baselines_are_told():
    assert told(Metric("Accuracy", 0.8, (0.7, 0.87)), split="test") == [
        "Only 80 rows were measured, so accuracy may as well be 70.0\u00a0% as 87.0\u00a0%: measure more before small "
        "differences count.",
        "No baseline was measured (report.baselines): whether training was worth it is not known.",
    ]


def test_rows_that_chose_the_checkpoint_are_told_of_by_the_check_alone():
    assert _summary(Metric("Accuracy", 0.9), "validation", 80) == "Accuracy 90.0\u00a0% on 80 validation rows."
    assert told(split="validation", rows={"validation": 80}) == []


def test_labels_that_are_missed_or_absent_are_named():
    classes = [ClassScore("a", 1, 0.9, 0.9, 50), ClassScore("b", 1, 0.2, 0.3, 10), ClassScore("c", 0, 0, 0, 0)]
    assert told(shown={"classes": classes}) == [
        "It misses most rows of some labels; it finds 'b' (20.0\u00a0% of 10).",
        "No measured row has label 'c': nothing is known of it.",
    ]


@pytest.mark.parametrize(
    ("bins", "sentence"),
    [
        ([(0.9, 0.6, 10), (0.7, 0.5, 10)], "surer of itself than it should be: its percentages are off by "
        "25.0\u00a0% on "
         "average (it says 80.0\u00a0%, and 55.0\u00a0% are right); options.calibrate: true corrects that."),
        ([(0.6, 0.85, 20)], "less sure of itself than it could be: its percentages are off by 25.0\u00a0% on "
        "average (it "
         "says 60.0\u00a0%, and 85.0\u00a0% are right); options.calibrate: true corrects that."),
    ],
)  # fmt: skip
def test_probabilities_that_mislead_are_told(bins, sentence):
    assert told(shown={"calibration": Calibration(bins, 0.25)}) == [f"It is {sentence}"]
    assert told(shown={"calibration": Calibration(bins, 0.05)}) == []
    calibrated = told(shown={"calibration": Calibration(bins, 0.25, 1.5, 0.3)}, **{"options.calibrate": True})
    assert calibrated == [f"It is {sentence.split(';')[0]}."]


def test_a_gain_within_what_seeds_do_is_told():
    metric = Metric("Accuracy", 0.9, (0.88, 0.92), {"a": 0.88}, repeats=(0.9, 0.86, 0.94))
    assert told(metric) == [
        "What it is better by is about what accuracy varies by from seed to seed: 86.0\u00a0% to 94.0\u00a0%, a "
        "standard "
        "deviation of 4.0 points."
    ]


def test_training_that_ended_too_soon_is_told():
    state = {"steps": 30, "history": history(0.5, 0.6, 0.7)}
    assert told(state=state) == ["It was still getting better when training ended: more epochs may help."]


def test_the_course_says_what_was_planned_and_which_step_is_the_model():
    state = {"steps": 40, "planned": 100, "history": history(0.5, 0.7, 0.7, 0.6)}
    assert best_step(prepared(), state) == 20
    assert course(prepared(**{"train.patience": 2}), state) == (
        "40 steps of 32 rows, of 100 planned: stopped early, 2 validations after the best; step 20 validated "
        "best and is "
        "the model"
    )
    last = course(prepared(**{"train.keep": "last"}), {"steps": 40, "history": history(0.5, 0.7, 0.6)})
    assert last == "40 steps of 32 rows; step 20 validated best, the last is the model"
    assert course(prepared(**{"train.keep": "last"}), {"steps": 9, "history": []}) == "9 steps of 32 rows"


def test_files_have_their_rows_and_the_fingerprints_of_what_was_trained_on(tmp_path):
    file, folder = tmp_path / "train.csv", tmp_path / "pictures"
    file.write_bytes(b"text,label\n")
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "a.png").write_bytes(b"a")
    given = prepared(rows={"validation": 9}, **{"data.train": str(file), "data.test": str(folder)})
    inputs = describe_data(given.config)
    found = sources(given.config, given.check.rows, inputs)
    assert [(s.role, s.name, s.rows) for s in found] == [
        ("train", "train.csv", 90), ("validation", "10% of train.csv, set aside", 9), ("test", "pictures", 80),
    ]  # fmt: skip
    assert found[0].fingerprint == found[1].fingerprint == hashlib.sha256(b"text,label\n").hexdigest()
    inside = f"cats/a.png {hashlib.sha256(b'a').hexdigest()}\n".encode()
    assert found[2].fingerprint == hashlib.sha256(inside).hexdigest()
    part = sources(load_config(given.config, {"data.test": str(folder / "cats")}), given.check.rows, inputs)[2]
    assert part.fingerprint == hashlib.sha256(inside.removeprefix(b"cats/")).hexdigest()
    file.write_bytes(b"others by now\n")
    (folder / "cats" / "a.png").rename(folder / "b.png")
    assert sources(given.config, given.check.rows, inputs) == found
    (folder / "b.png").rename(folder / "c.png")
    assert fingerprint(folder, describe_data(given.config)) != found[2].fingerprint
    assert [each.fingerprint for each in sources(given.config, given.check.rows, {})] == ["", "", ""]


def test_the_machine_says_what_it_is_made_of():
    found = hardware()
    assert set(found) >= {"Processor", "Accelerator", "System"}
    assert "cores" in found["Processor"]
