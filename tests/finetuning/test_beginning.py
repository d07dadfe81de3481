"""A run that is replaced comes back unless there is a better one, whenever a process dies."""

import os
from pathlib import Path

import pytest

from regard.errors import RegardError
from regard.finetuning.conduct import finetune
from regard.finetuning.runs.beginning import BEFORE, put_aside, put_back, recover, replacing
from regard.finetuning.runs.run import STATE
from regard.finetuning.training.interrupts import Interrupted


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def old(tmp_path):
    """A directory with what a run leaves."""
    for name in ("model/weights", "config.yaml", "report.html", STATE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"old": 1}')
    return tmp_path


@pytest.mark.parametrize("renames", range(8))
def test_a_kill_between_any_two_moves_loses_nothing(old, monkeypatch, renames):
    before, left = contents(old), iter(range(renames))
    rename = Path.rename

    def dying(path, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for _ in range(2):
            put_aside(old)
            put_back(old)
    monkeypatch.undo()
    recover(old)
    assert contents(old) == before
    assert not [path for path in old.iterdir() if path.name.startswith(".")]


def test_a_run_that_fails_early_gives_way_to_the_old_one(old):
    before = contents(old)
    with pytest.raises(RegardError), replacing(old):  # noqa: PT012
        put_aside(old)
        (old / STATE).write_text('{"new": 1}')
        raise RegardError("no")
    assert contents(old) == before


@pytest.mark.parametrize("kept", ["checkpoints/checkpoint-1", "model"])
def test_what_is_worth_keeping_is_kept(old, kept):
    with pytest.raises(RegardError), replacing(old):  # noqa: PT012
        put_aside(old)
        (old / STATE).write_text('{"new": 1}')
        (old / kept).mkdir(parents=True)
        raise RegardError("no")
    assert (old / STATE).read_text() == '{"new": 1}'
    assert (old / BEFORE / STATE).read_text() == '{"old": 1}'


def test_the_old_run_goes_when_there_is_a_new_one(old):
    with replacing(old):
        put_aside(old)
        (old / STATE).write_text('{"new": 1}')
        (old / "model").mkdir()
    assert contents(old) == {STATE: b'{"new": 1}'}


def test_a_run_put_aside_twice_is_the_first(old):
    before = contents(old)
    put_aside(old)
    (old / STATE).write_text('{"new": 1}')
    put_aside(old)
    recover(old)
    assert contents(old) == before


@pytest.mark.slow
def test_ctrl_c_in_the_last_step_stops_the_run_too(values, monkeypatch):
    """It is saved with all its steps, and its model is made when it is resumed."""
    import signal

    from regard.finetuning.training import checkpoints

    values["train"] |= {"max_steps": 2, "evaluate_every": 1}
    values["report"] |= {"baselines": False, "attention": 0}
    step, calls = checkpoints.Trainer.training_step, iter(range(2))

    def pressed(*args, **options):
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Trainer, "training_step", pressed)
        with pytest.raises(Interrupted, match="interrupted after step 2 of 2"):
            finetune(values, quiet=True)
    assert not (Path(values["output"]) / "model").exists()
    assert finetune(values, resume=True, quiet=True).state["steps"] == 2
