"""What a run knows of its training data: typed in the program, plain JSON in the run, readable whatever its age."""

import json

import pytest

from regard.errors import DataError
from regard.finetuning.tasks import TASKS, load_spec

SIZES = {"layers": 2, "width": 16, "heads": 2}
VOICE = {"vocoder": None, "longest": None, "guide": 10.0, "scheduled_sampling": 0.0, "recognizer": None}
VOICE |= {"normalizer": "basic", "from_scratch": None, "tokens": 81, "frames_per_token": 5.12}
WRITER = {"prefix": "", "beams": 4, "max_output": 128, "from_scratch": SIZES}
SAVED = [
    ("text-classification", {"labels": ["bad", "good"]}),
    ("text-classification", {"labels": ["bad", "good"], "reading": {"form": "names", "one": True}}),
    ("text-classification", {"kind": "multi", "labels": ["a", "b"], "reading": {"form": "lists"}}),
    ("text-classification", {"kind": "regression", "labels": ["value"], "mean": 2.5, "deviation": 0.1}),
    ("translation", {**WRITER, "source_language": None, "target_language": "deu_Latn"}),
    ("summarization", WRITER),
    ("image-classification", {"labels": ["cat", "dog"], "from_scratch": None}),
    ("object-detection", {"boxes": "xywh", "units": "pixels", "from_scratch": SIZES, "labels": ["cat"]}),
    ("image-generation", {"labels": ["1", "2"], "guidance": 3.0, "steps": 40, "from_scratch": None}),
    (
        "speech-recognition",
        {
            "kind": "ctc",
            "characters": ["a"],
            "window": None,
            "language": None,
            "normalizer": "none",
            "from_scratch": SIZES,
        },
    ),
    ("speech-synthesis", VOICE),
    ("masked-language-modeling", {"from_scratch": None}),
]


@pytest.mark.parametrize(("task", "saved"), SAVED)
def test_what_is_saved_is_read_and_saved_alike(task, saved):
    """The same keys in the same order, none more."""
    assert json.dumps(load_spec(task, json.loads(json.dumps(saved)), "run").dump()) == json.dumps(saved)


def test_every_task_is_here():
    assert {task for task, _ in SAVED} == {*TASKS}


def test_runs_of_other_ages_are_read():
    """One from before a key was, and one with a key that is no more."""
    older = {key: value for key, value in VOICE.items() if key != "scheduled_sampling"}
    assert load_spec("speech-synthesis", older, "run").scheduled_sampling == 0.0
    assert load_spec("image-classification", {"labels": ["a"], "from_scratch": None, "gone": 1}, "run").labels == ["a"]


@pytest.mark.parametrize(
    ("task", "saved", "where"),
    [
        ("image-classification", {"labels": "cat", "from_scratch": None}, "spec.labels"),
        ("summarization", {key: WRITER[key] for key in WRITER if key != "beams"}, "spec.beams"),
        ("object-detection", None, "spec"),
    ],
)
def test_what_is_saved_otherwise_is_refused(task, saved, where):
    with pytest.raises(DataError) as caught:
        load_spec(task, saved, "runs/mine")
    assert str(caught.value) == f"runs/mine: need what a run of {task} knows; got '{where}' otherwise; train again."


def test_nobody_changes_what_is_known():
    spec = load_spec("text-classification", {"labels": ["a"]}, "run")
    with pytest.raises(ValueError, match="frozen"):
        spec.labels = ["b"]
