"""Training from several seeds: the figures, what is left, and going on after an interruption."""

import pytest
import torch
from safetensors.torch import load_file

from regard._files import read_json
from regard.finetuning.conduct import finetune
from regard.finetuning.training import repeats


@pytest.fixture
def small(values):
    values["train"] |= {"max_steps": 6, "evaluate_every": 6}
    values["report"] |= {"baselines": False, "attention": 1}
    return values


@pytest.mark.slow
def test_mean_and_deviation_over_seeds(small, tmp_path, monkeypatch):
    alone = finetune(small | {"output": str(tmp_path / "alone")}, quiet=True)
    measured, done = repeats._measure, []

    def interrupted_once(folder, *given):
        if folder.name == "seed-44" and "interrupted" not in done:
            done.append("interrupted")
            raise KeyboardInterrupt
        done.append(folder.name)
        return measured(folder, *given)

    monkeypatch.setattr(repeats, "_measure", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        finetune(small | {"repeats": 3}, quiet=True)
    run = finetune(small | {"repeats": 3}, resume=True, quiet=True)
    assert done == ["seed-43", "interrupted", "seed-44"]
    found = run.metrics["repeats"]
    assert found["seeds"] == [42, 43, 44]
    accuracies = [run.metrics["accuracy"]] + [
        read_json(run.path / "repeats" / f"seed-{seed}" / "metrics.json")["accuracy"] for seed in (43, 44)
    ]
    assert found["accuracy"]["values"] == accuracies
    assert found["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 3, abs=1e-6)
    assert found["accuracy"]["deviation"] == pytest.approx(torch.tensor(accuracies).std().item(), abs=1e-6)
    folders = [run.path, *sorted((run.path / "repeats").iterdir())]
    losses = [next(e["eval_loss"] for e in read_json(f / "run.json")["history"] if "eval_loss" in e) for f in folders]
    assert len(set(losses)) == 3
    assert "Over 3 seeds" in (run.path / "report.html").read_text()
    assert not list((run.path / "repeats").rglob("*.safetensors"))
    models = [load_file(each.path / "model" / "model.safetensors") for each in (run, alone)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
