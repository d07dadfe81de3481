"""A run that is killed at any moment goes on from its last checkpoint, to the weights of a run that never stopped."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from processes import ENVIRONMENT, kill
from regard.errors import DataError, RegardError
from regard.finetuning.conduct import finetune
from regard.finetuning.runs.run import ATTENTION, STATE
from regard.finetuning.training import checkpoints, train
from regard.finetuning.training.checkpoints import last_checkpoint, room_on_disk

STEP = "transformers:Trainer.training_step"
WRITING = "transformers:Trainer._save_optimizer_and_scheduler"  # the weights are on the disk, the rest is not
WRITTEN = (
    "regard.finetuning.training.checkpoints:rotate_checkpoints"  # it has its name; those before it are still there
)
FINISHING = "regard.finetuning.training.saving:require_same_answers"  # the model is on the disk, without its name
MEASURING = "regard.finetuning.measure:_report"


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that two runs can be compared bit by bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def short(values, tmp_path):
    """A configuration of 60 steps, 25 an epoch, with a checkpoint every 15."""
    values["train"] |= {"max_steps": 60, "evaluate_every": 15, "keep_checkpoints": True, "keep": "last"}
    values["report"] |= {"baselines": False, "attention": 0}
    return values


@pytest.fixture
def config(short, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(short))
    return path


@pytest.fixture
def stopped(short, tmp_path):
    """The directory of a run of 60 steps that stopped after 15, with checkpoints of steps 10 and 15."""
    short["train"] |= {"evaluate_every": 5}
    calls = iter(range(100))

    def stop(*args, **options):
        if next(calls) == 15:
            raise KeyboardInterrupt
        return step(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        step = checkpoints.Trainer.training_step
        patch.setattr(checkpoints.Trainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(short, quiet=True)
    return tmp_path / "run"


def interrupted(*_):
    raise KeyboardInterrupt


def steps(output):
    return sorted(int(path.name.rpartition("-")[2]) for path in (output / "checkpoints").iterdir())


def weights(run):
    return load_file(run.path / "model" / "model.safetensors")


def require_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_killed_while_a_checkpoint_is_written(config, short, tmp_path):
    output = tmp_path / "run"
    kill(config, WRITING, 2)
    assert steps(output) == [15]
    assert (output / "checkpoint.tmp" / "checkpoint-30" / "model.safetensors").is_file()
    resumed = finetune(config, resume=True, quiet=True)
    assert steps(output)[-1] == 60
    assert not (output / "checkpoint.tmp").exists()
    whole = finetune(short | {"output": str(tmp_path / "whole")}, quiet=True)
    require_same_weights(weights(resumed), weights(whole))


@pytest.mark.slow
def test_killed_again_and_again(config, short, tmp_path):
    """In a step of the second epoch, in a checkpoint, right after one, before the model has its name, at the end."""
    output = tmp_path / "run"
    short["train"] |= {"keep": "best"}
    config.write_text(yaml.safe_dump(short))
    kill(config, STEP, 29)
    assert steps(output) == [15]
    kill(config, WRITING, 1, "--resume")
    assert steps(output) == [15]
    kill(config, WRITTEN, 1, "--resume")
    assert steps(output) == [15, 30]
    kill(config, FINISHING, 1, "--resume")
    assert not (output / "model").exists()
    kill(config, MEASURING, 1, "--resume")
    assert (output / "model").exists()
    resumed = finetune(config, resume=True, quiet=True)
    whole = finetune(short | {"output": str(tmp_path / "whole")}, quiet=True)
    require_same_weights(weights(resumed), weights(whole))
    assert (resumed.path / ATTENTION).read_text() == (whole.path / ATTENTION).read_text()
    assert {k: v for k, v in resumed.metrics.items() if k != "seconds"} == {
        k: v for k, v in whole.metrics.items() if k != "seconds"
    }


@pytest.mark.slow
def test_another_seed_gives_other_weights(short, tmp_path):
    """The comparison above can fail."""
    short["train"] |= {"max_steps": 2, "evaluate_every": 2}
    one = finetune(short, quiet=True)
    other = finetune(short | {"seed": 43, "output": str(tmp_path / "other")}, quiet=True)
    with pytest.raises(AssertionError):
        require_same_weights(weights(one), weights(other))


@pytest.mark.slow
def test_killed_after_the_last_step(short, tmp_path, monkeypatch):
    """The last checkpoint holds all steps; there is none left to take."""
    short["train"] |= {"max_steps": 4, "evaluate_every": 2}
    with monkeypatch.context() as patch:
        patch.setattr(train, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(short, quiet=True)
    resumed = finetune(short, resume=True, quiet=True)
    assert resumed.state["steps"] == 4
    saved = load_file(resumed.path / "checkpoints" / "checkpoint-4" / "model.safetensors")
    require_same_weights(weights(resumed), saved)


def test_a_run_that_was_moved_finds_its_best_checkpoint(stopped, tmp_path):
    moved = tmp_path / "moved"
    stopped.rename(moved)
    values = yaml.safe_load((moved / "config.yaml").read_text()) | {"output": str(moved)}
    run = finetune(values, resume=True, quiet=True)
    state = json.loads(((moved / "checkpoints" / f"checkpoint-{steps(moved)[-1]}") / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]).parent == moved / "checkpoints"
    assert run.state["steps"] == 60


def spoil(how, folder):
    name = folder / "optimizer.pt"
    data = bytearray(name.read_bytes())
    if how == "truncated":
        name.write_bytes(data[:1000])
        return f"1000 of the {len(data)} bytes of optimizer.pt"
    if how == "changed":
        data[500] ^= 1
        name.write_bytes(data)
        return "other bytes in optimizer.pt"
    if how == "incomplete":
        name.unlink()
        return "one without optimizer.pt"
    if how == "unsealed":
        (folder / checkpoints.SEAL).unlink()
        return "one without checkpoint.json"
    if how == "seal cut":
        (folder / checkpoints.SEAL).write_text("{")
        return "one whose checkpoint.json is no JSON"
    state = json.loads((folder.parents[1] / STATE).read_text())
    (folder.parents[1] / STATE).write_text(json.dumps(state | {"id": "another"}))
    return "one of another run"


@pytest.mark.parametrize("how", ["truncated", "changed", "incomplete", "unsealed", "seal cut", "foreign"])
def test_a_checkpoint_that_is_not_as_it_was_written_is_refused(stopped_once, tmp_path, how):
    run = tmp_path / "copy"
    shutil.copytree(stopped_once, run)
    folder = run / "checkpoints" / "checkpoint-15"
    assert last_checkpoint(run) == folder
    found = spoil(how, folder)
    with pytest.raises(DataError) as caught:
        last_checkpoint(run)
    assert str(caught.value) == (
        f"{folder}: need a checkpoint as this run wrote it; got {found}; delete it to go on from step 10."
    )


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """A run directory with sealed checkpoints, which nobody changes."""
    run = tmp_path_factory.mktemp("sealed")
    (run / STATE).write_text('{"id": "one"}')
    for step in (9, 10, 15):
        folder = run / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "optimizer.pt").write_bytes(bytes(range(256)) * 8)
        checkpoints.seal(folder, "one")
    return run


def test_no_checkpoint_is_no_fault(tmp_path):
    assert last_checkpoint(tmp_path) is None


FULL = """
import resource, shutil, sys
from regard.cli import main
from regard.finetuning.training import checkpoints

config, output, how = sys.argv[1:]
publish = checkpoints.CheckpointTrainer._publish

def then_full(self, folder):
    publish(self, folder)
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    else:
        fill(folder)

def fill(folder):
    assert shutil.disk_usage(folder).total < 10e6, "a disk of our own"
    with open(folder / "filling", "wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            pass

checkpoints.CheckpointTrainer._publish = then_full
sys.argv = ["regard", "finetune", config, "--quiet", "--set", "output=" + output]
main()
"""


def run_until_full(config, output, how):
    command = [sys.executable, "-c", FULL, str(config), str(output), how]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"regard: {output}: need room to write; got a disk with ")
    assert done.stderr.endswith("the checkpoint of step 15 is whole: make room and go on with --resume.\n")
    assert not (output / "checkpoint.tmp").exists()
    assert last_checkpoint(output) == output / "checkpoints" / "checkpoint-15"


@pytest.mark.slow
def test_no_room_for_a_file_stops_the_run_with_its_last_checkpoint_whole(config, tmp_path):
    run_until_full(config, tmp_path / "run", "limit")
    assert finetune(config, resume=True, quiet=True).state["steps"] == 60


@pytest.mark.slow
def test_a_full_disk_stops_the_run_with_its_last_checkpoint_whole(config, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        run_until_full(config, disk / "run", "fill")
        (disk / "run" / "checkpoints" / "filling").unlink()
        shutil.copytree(disk / "run", tmp_path / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert finetune(config, resume=True, quiet=True).state["steps"] == 60


def test_other_errors_pass_as_they_are(tmp_path):
    for error in (OSError(2, "no such file"), RuntimeError("shapes"), RegardError("ours")):
        with pytest.raises(type(error)) as caught, room_on_disk(tmp_path):
            raise error
        assert caught.value is error


def test_every_library_s_word_for_a_full_disk_is_known(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        from safetensors.torch import save_file

        big = torch.zeros(10_000)
        for save in (
            lambda path: torch.save(big, path),
            lambda path: save_file({"big": big}, path),
            lambda path: path.write_bytes(bytes(20_000)),
        ):
            with pytest.raises(RegardError, match="need room to write"), room_on_disk(tmp_path):
                save(tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert os.path.exists(tmp_path / "file")
