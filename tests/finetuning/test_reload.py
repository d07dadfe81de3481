"""A saved model is asked in a process of its own, and what does not answer as it did is not kept."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from regard.errors import RegardError
from regard.finetuning.check import prepare
from regard.finetuning.configure import load_config
from regard.finetuning.tasks.texts import text_classification as task
from regard.finetuning.training import reload


@pytest.fixture
def saved(values, tmp_path, monkeypatch):
    """A model, the folder that it was saved in, and what it was to be trained on."""
    monkeypatch.setattr(reload, "FRESH", True)
    prepared = prepare(load_config(values))
    torch.manual_seed(3)
    model, _ = task.load_model(prepared.config.source, prepared.check.spec)
    folder = tmp_path / "model"
    model.eval().save_pretrained(folder)
    prepared.processor.save_pretrained(folder)
    return model, folder, prepared


def test_a_new_process_gives_the_same_answers(saved, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as in the first of two processes
    monkeypatch.setenv("RANK", "0")
    reload.require_same_answers(*saved)


@pytest.mark.slow
def test_other_answers_are_noticed(saved):
    model, folder, prepared = saved
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] += torch.tensor([0.01, 0.0])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RegardError) as caught:
        reload.require_same_answers(model, folder, prepared)
    assert str(caught.value) == (
        f"{folder}: need the saved model to answer as the trained one; it does not; please report this."
    )


def test_what_does_not_load_is_told(saved):
    model, folder, prepared = saved
    (folder / "model.safetensors").unlink()
    with pytest.raises(RegardError) as caught:
        reload.require_same_answers(model, folder, prepared)
    assert str(caught.value).startswith(f"{folder}: need the saved model to load in a new process; got '")
    assert "ConfigError: " in str(caught.value)
    assert "save or fetch them again." in str(caught.value)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"label": "a", "boxes": [[0.5, 1.0]]}, True),
        ({"label": "a", "boxes": [[0.50001, 1.0]]}, True),
        ({"label": "a", "boxes": [[0.51, 1.0]]}, False),
        ({"label": "b", "boxes": [[0.5, 1.0]]}, False),
        ({"label": "a", "boxes": []}, False),
        ({"label": "a"}, False),
    ],
)
def test_predictions_are_compared_to_within_rounding(other, same):
    assert reload.alike({"label": "a", "boxes": [[0.5, 1.0]]}, other) == same
