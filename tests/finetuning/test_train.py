"""What a configuration asks for is what training does: the loss, the weights that are kept, the memory that is used."""

import gc
import weakref

import pytest
import torch
from safetensors.torch import load_file
from transformers.trainer_utils import set_seed

from conftest import GOOD, write_csv
from regard.finetuning.check import prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.tasks.texts import text_classification as task
from regard.finetuning.training.validation import Tally

SCORES = [0.3, 0.5, 0.9, 0.8, 0.7, 0.6]


@pytest.fixture
def short(values):
    values["train"] |= {"dropout": 0.0}
    return values | {"report": {"baselines": False, "attention": 0}, "monitor": {"every": 0}}


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, {}),
        ({"class_weights": "balanced"}, {"batch_size": 5, "accumulate": 9}),
        ({"label_smoothing": 0.3}, {"max_tokens": 25}),
        ({"class_weights": "balanced", "label_smoothing": 0.3}, {}),
    ],
)
def test_the_loss_of_a_step_is_what_the_options_ask_for(short, finished, tmp_path, options, passes):
    """Of a trained head on rows of which the rare ones are wrong, so that weights and smoothing tell."""
    texts = [*(f"film {word} {other}" for word in GOOD for other in "abcd"), *(f"film {word} x" for word in GOOD[:5])]
    rows = list(zip(texts, ["positive"] * 40 + ["negative"] * 5, strict=True))
    short |= {"model": str(finished.path / "model"), "options": options}
    short["data"]["train"] = str(write_csv(tmp_path / "rare.csv", rows))
    short["train"] |= {"max_steps": 1, "evaluate_every": 1, "batch_size": 45} | passes
    run = finetune(short, quiet=True)
    config = load_config(short)
    prepared = prepare(config)
    set_seed(config.seed)
    model, _ = task.load_model(config.source, prepared.check.spec, 0.0)
    batch = prepared.processor([text for text, _ in rows], padding=True, return_tensors="pt")
    log_odds = model.eval()(**batch).logits.log_softmax(-1)
    labels = torch.tensor([1] * 40 + [0] * 5)
    weights = torch.tensor([45 / (2 * 5), 45 / (2 * 40)]) if "class_weights" in options else torch.ones(2)
    smoothing = options.get("label_smoothing", 0.0)
    truth = torch.nn.functional.one_hot(labels, 2) * (1 - smoothing) + smoothing / 2
    expected = -(truth * weights * log_odds).sum() / 45
    assert run.state["history"][0]["loss"] == pytest.approx(expected.item(), rel=1e-3)


def scored(monkeypatch, scores=SCORES):
    """Let the validations give these scores, one after another."""
    coming = iter(scores)
    monkeypatch.setattr(task, "validate", lambda tally, spec: {"accuracy": 0.5, "macro_f1": next(coming)})


def saved(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "step"), [("best", 3), ("last", 6)])
def test_the_weights_that_are_kept(short, keep, step, monkeypatch):
    scored(monkeypatch)
    short["train"] |= {"max_steps": 6, "evaluate_every": 1, "keep": keep, "keep_checkpoints": True}
    run = finetune(short, quiet=True)
    kept, last = saved(run.path / "model"), saved(run.path / "checkpoints" / "checkpoint-6")
    expected = saved(run.path / "checkpoints" / f"checkpoint-{step}")
    assert all(torch.equal(kept[name], value) for name, value in expected.items())
    assert all(torch.equal(kept[name], value) for name, value in last.items()) == (keep == "last")


def test_patience_ends_a_run_that_gets_no_better(short, monkeypatch):
    scored(monkeypatch)
    short["train"] |= {"max_steps": 100, "evaluate_every": 1, "patience": 2, "keep_checkpoints": True}
    run = finetune(short, quiet=True)
    assert run.state["steps"] == 5
    best = saved(run.path / "checkpoints" / "checkpoint-3")
    assert all(torch.equal(value, best[name]) for name, value in saved(run.path / "model").items())


@pytest.mark.parametrize(("kept", "most"), [(False, 1), (True, 9)])
def test_the_memory_of_a_validation_does_not_grow_with_its_rows(short, monkeypatch, kept, most):
    """Outputs of batches that were counted are gone; where somebody keeps them, it is noticed."""
    alive, seen, held = [], [], []
    count = Tally.__call__
    gc.collect()
    gc.freeze()  # what is there by now; else each look for garbage goes through whatever other tests left

    def counted(self, outputs, compute_result):
        gc.collect()
        alive.append(sum(each() is not None for each in seen))
        seen.append(weakref.ref(outputs.predictions))
        held.extend([outputs.predictions] * kept)
        return count(self, outputs, compute_result)

    monkeypatch.setattr(Tally, "__call__", counted)
    short["train"] |= {"max_steps": 1, "evaluate_every": 1, "batch_size": 4}
    finetune(short, quiet=True)
    gc.unfreeze()
    assert len(alive) == 10
    assert max(alive) <= most
    assert (max(alive) > 1) == kept
