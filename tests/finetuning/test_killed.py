"""Runs killed by the system between two writes go on to what a run leaves that was never stopped, bit by bit.

A few chosen moments; `tests/kills.py` kills at random ones.
"""

import pytest
import yaml

import kills
from conftest import make_values
from processes import kill

PUT_ASIDE = "regard.finetuning.runs.beginning:write_json"  # the former run is aside, the new one has nothing yet
WITHOUT_NAME = "regard.finetuning.training.saving:close_training"  # the model is on the disk, without its name
OTHER_SEED = "regard.finetuning.training.repeats:write_json"  # the other seed's model is measured, and nothing says so
UNSEALED = "regard.finetuning.frameworks.keras.checkpoints:seal"  # Keras' checkpoint is written, without seal and name

pytestmark = pytest.mark.slow


def place(folder, model, tables, **changes):
    """A folder with a configuration, whose run lies beside it: reports name files, so all runs need the same paths."""
    folder.mkdir()
    values = make_values(model, tables, "run") | {"report": {"baselines": False, "attention": 1}} | changes
    values["train"] |= {"max_steps": 12, "evaluate_every": 4}
    (folder / "c.yaml").write_text(yaml.safe_dump(values))
    return folder


def killed_and_whole(moments, tmp_path, monkeypatch, tiny, tables, *options, former=None, **changes):
    """Kill a run at each moment in turn, let it end, and compare it with one that was never stopped."""
    stopped, whole = (place(tmp_path / name, tiny, tables, **changes) for name in ("stopped", "whole"))
    monkeypatch.chdir(stopped)
    if former:
        kills.complete(stopped, *former)
    for moment, call in moments:
        kill(stopped / "c.yaml", moment, call, *options)
        left = kills.how_to_go_on(stopped / "run", "overwrite" if former else "plain")
        assert left is not None, moment
        options = left
    kills.complete(stopped, *options)
    monkeypatch.chdir(whole)
    kills.complete(whole)
    kills.require_same(stopped / "run", whole / "run")
    return stopped / "run"


def test_a_run_that_replaces_another_and_trains_twice(tiny, tables, tmp_path, monkeypatch):
    moments = [(PUT_ASIDE, 1), (WITHOUT_NAME, 1), (OTHER_SEED, 1)]
    former = ["--set", "seed=43", "--set", "train.max_steps=1", "--set", "train.evaluate_every=1"]
    run = killed_and_whole(moments, tmp_path, monkeypatch, tiny, tables, "--overwrite", former=former, repeats=2)
    whole = run.parents[1] / "whole" / "run"
    weights = whole / "model" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(AssertionError, match="other bytes in model"):
        kills.require_same(run, whole)  # the comparison can fail


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_a_run_in_keras(tiny, tables, tmp_path, monkeypatch):
    moments = [(UNSEALED, 2)]
    killed_and_whole(moments, tmp_path, monkeypatch, tiny, tables, framework="tensorflow")
