"""Two processes train as one does with batches twice as large; one that dies stops all, and the run goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import chain

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from processes import ENVIRONMENT
from regard.errors import ConfigError
from regard.finetuning.conduct import finetune
from regard.finetuning.runs import processes
from regard.finetuning.runs.run import ATTENTION, Run
from regard.finetuning.training.checkpoints import last_checkpoint
from regard.finetuning.training.sampler import LengthSampler, SharedBatches
from regard.finetuning.training.trainer import StepTrainer


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("rows", [3, 8, 23, 24, 25, 26, 27, 48])
def test_every_row_once_in_the_steps_of_one_process(rows, workers):
    lengths = np.random.default_rng(0).integers(3, 30, rows)

    def order():
        sampler = LengthSampler(lengths, rows, 4 * workers, seed=5)
        sampler.set_epoch(1)
        return sampler

    shares = [SharedBatches(order(), 4, worker, workers) for worker in range(workers)]
    batches = [list(share) for share in shares]
    assert {len(share) for share in shares} == {len(batch) for batch in batches} == {len(batches[0])}
    together = [list(chain(*step)) for step in zip(*batches, strict=True)]
    assert list(chain(*together)) == list(order())
    assert all(len(step) == 4 * workers for step in together[:-1])
    sizes = [len(batch) for process in batches for batch in process]
    assert min(sizes) > 0


def test_an_epoch_has_an_order_of_its_own():
    shared = SharedBatches(LengthSampler(None, 40, 8, seed=5), 4, 0, 2)
    first = list(shared)
    shared.set_epoch(1)
    assert list(shared) != first


def test_keras_trains_in_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError) as caught:
        processes.join("jax")
    assert str(caught.value) == "finetune: need framework torch for 2 processes; got 'jax'; start one alone."


def test_a_run_of_several_processes_is_resumed_by_as_many(values, tmp_path):
    values["train"] |= {"max_steps": 1, "evaluate_every": 1}
    values["report"] |= {"baselines": False, "attention": 0}
    run = finetune(values, quiet=True)
    state = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(state | {"processes": 2, "finished": False}))
    with pytest.raises(ConfigError) as caught:
        finetune(values, resume=True, quiet=True)
    assert str(caught.value) == (
        f"{run.path}: need 2 processes to resume the run, as it began; got 1; start as many, or start again with "
        "--overwrite."
    )


@pytest.fixture
def config(values, tmp_path):
    """Steps of two times 12 rows, and at the end of each epoch one of two times 4."""
    values["train"] |= {"batch_size": 12, "epochs": 2, "evaluate_every": 4, "dropout": 0.0, "keep": "last"}
    values["report"] |= {"baselines": False, "attention": 0}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


RECORDING = """
import os, signal, sys, torch
from transformers import TrainerCallback
from regard.finetuning.training import monitor, trainer
from regard.cli import main

out, die, rank = sys.argv[1], int(sys.argv[2]), int(os.environ.get("RANK", "0"))
gradients, rows = [], []

class Keep(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, **events):
        model = getattr(events["model"], "module", events["model"])
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        if state.global_step + 1 == die and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_end(self, *args, **events):
        torch.save({"gradients": gradients, "rows": rows}, f"{out}-{rank}.pt")

step, init = trainer.StepTrainer.training_step, trainer.StepTrainer.__init__

def kept(self, model, inputs, *rest):
    rows.append([tuple(token for token in row if token) for row in inputs["input_ids"].tolist()])
    return step(self, model, inputs, *rest)

def with_callback(self, **options):
    init(self, **options)
    self.add_callback(Keep())

trainer.StepTrainer.training_step, trainer.StepTrainer.__init__ = kept, with_callback
sys.argv = ["regard", "finetune", *sys.argv[3:]]
main()
"""


TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node={count}", "--master-port={port}"]
ACCELERATE = [
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes={count}", "--num_machines=1",
    "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port={port}",
]  # fmt: skip


def words(count, tmp_path, out, die, *arguments, launcher=TORCHRUN):
    """The command line of `regard finetune` in so many processes."""
    script = tmp_path / "recording.py"
    script.write_text(RECORDING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [word.format(count=count, port=port) for word in launcher] if count > 1 else []
    return [sys.executable, *run, str(script), str(out), str(die), *map(str, arguments)]


def launch(*given, check=True, **options):
    """Run `regard finetune` in several processes; return what they printed."""
    command = words(*given, **options)
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=500)
    assert (done.returncode == 0) == check, done.stderr
    return done


def test_batches_hold_rows_of_like_length_the_longest_first(values, monkeypatch):
    """What the sampler does reaches training; Trainer drops the column of lengths on the way."""
    lengths = []
    step = StepTrainer.training_step

    def kept(self, model, inputs, *rest):
        lengths.append(inputs["attention_mask"].sum(1))
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(StepTrainer, "training_step", kept)
    values["train"] |= {"epochs": 1, "evaluate_every": 25}
    values["report"] |= {"baselines": False, "attention": 0}
    finetune(values, quiet=True)
    assert len(lengths) == 25
    assert max(int(batch.max() - batch.min()) for batch in lengths) <= 4
    assert lengths[0].max() == max(batch.max() for batch in lengths)


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(config, tmp_path):
    done = launch(2, tmp_path, tmp_path / "two", 0, config)
    assert done.stderr.count("validation loss") == 5
    assert done.stdout.count("The report:") == 1
    alone = [f"output={tmp_path / 'one'}", "train.batch_size=24"]
    launch(1, tmp_path, tmp_path / "one", 0, config, *(word for change in alone for word in ("--set", change)))
    zero, one, single = (torch.load(tmp_path / f"{name}.pt") for name in ("two-0", "two-1", "one-0"))
    together = [a + b for a, b in zip(zero["rows"], one["rows"], strict=True)]
    assert [sorted(step) for step in together] == [sorted(step) for step in single["rows"]]
    assert sum(map(len, together)) == 400
    for number, expected in enumerate(single["gradients"]):
        for name, value in expected.items():
            assert torch.equal(zero["gradients"][number][name], one["gradients"][number][name])
            scale = value.abs().max()
            found = zero["gradients"][number][name]
            assert (found - value).abs().max() <= 1e-3 * scale + 1e-6, (number, name)
    runs = [Run.load(tmp_path / name) for name in ("run", "one")]
    evaluated = [[e["eval_macro_f1"] for e in r.state["history"] if "eval_macro_f1" in e] for r in runs]
    assert evaluated[0] == pytest.approx(evaluated[1])
    assert runs[0].metrics["accuracy"] == pytest.approx(runs[1].metrics["accuracy"])
    assert runs[0].state["processes"] == 2
    assert (runs[0].path / ATTENTION).is_file()


@pytest.mark.slow
def test_a_process_that_dies_stops_all_and_the_run_goes_on(config, tmp_path):
    started = time.monotonic()
    launch(2, tmp_path, tmp_path / "dead", 10, config, "--quiet", check=False)
    assert time.monotonic() - started < 400
    output = tmp_path / "run"
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-8"]
    launch(2, tmp_path, tmp_path / "resumed", 0, config, "--quiet", "--resume")
    whole = tmp_path / "whole"
    launch(2, tmp_path, tmp_path / "undisturbed", 0, config, "--quiet", "--set", f"output={whole}")
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (output, whole))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_accelerate_launches_the_same_run(config, tmp_path):
    outputs = [tmp_path / name for name in ("by-torchrun", "by-accelerate")]
    for output, launcher in zip(outputs, (TORCHRUN, ACCELERATE), strict=True):
        short = ["--set", f"output={output}", "--set", "train.max_steps=6"]
        launch(2, tmp_path, tmp_path / "kept", 0, config, *short, launcher=launcher)
    one, other = (load_file(output / "model" / "model.safetensors") for output in outputs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_ctrl_c_stops_all_after_a_checkpoint(config, tmp_path):
    """As a terminal sends it: to the launcher and to every process."""
    command = words(2, tmp_path, tmp_path / "stopped", 0, config, "--set", "train.epochs=50")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, **pipes) as process:
        printed = []
        for line in process.stderr:
            printed.append(line)
            if "step     8" in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        printed += process.communicate(timeout=300)[1].splitlines(keepends=True)
    told = "".join(printed)
    assert process.returncode != 0
    assert "go on with: regard finetune" in told, told
    checkpoint = last_checkpoint(tmp_path / "run")
    assert int(checkpoint.name.rpartition("-")[2]) >= 8


@pytest.mark.slow
def test_what_both_refuse_is_printed_once(config, tmp_path):
    done = launch(2, tmp_path, tmp_path / "refused", 0, config, "--set", "data.train=no.csv", check=False)
    assert done.stderr.count("need a file to read") == 1
    assert not (tmp_path / "run").exists()
