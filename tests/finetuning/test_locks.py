"""One writer at a time, among threads, processes and those that died."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
import yaml

from processes import start
from regard.errors import ConfigError
from regard.finetuning.conduct import finetune
from regard.finetuning.data.writing import TableWriter
from regard.finetuning.locks import alone

HOLD = """
import sys, time
from pathlib import Path
from regard.finetuning.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def refusal(function, *args, **options):
    with pytest.raises(ConfigError) as caught:
        function(*args, **options)
    return str(caught.value)


def held(path, process):
    who = f"process {process} on host {socket.gethostname()}"
    return (
        f"{path}: need to be the only one that writes there; got {who} that does; wait for it, or name another output."
    )


def enter(path):
    with alone(path):
        pass


def test_a_second_one_is_refused_and_told_who_is_first(tmp_path):
    path = tmp_path / "a.csv"
    with alone(path):
        assert refusal(enter, path) == held(path, os.getpid())
        enter(tmp_path / "b.csv")
    enter(path)
    assert list(tmp_path.iterdir()) == []


def test_threads_are_several(tmp_path):
    found = []
    with alone(tmp_path / "a"):
        thread = threading.Thread(target=lambda: found.append(refusal(enter, tmp_path / "a")))
        thread.start()
        thread.join()
    assert found == [held(tmp_path / "a", os.getpid())]


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    path = tmp_path / "a"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert refusal(enter, path) == held(path, process.pid)
        process.send_signal(signal.SIGKILL)
    enter(path)
    assert list(tmp_path.iterdir()) == []


def test_predictions_have_one_writer(tmp_path):
    path = tmp_path / "a.csv"
    with TableWriter(path) as writer:
        writer.write([{"a": 1}])
        assert refusal(TableWriter(path).__enter__) == held(path, os.getpid())
        writer.write([{"a": 2}])
    assert path.read_text().split() == ["a", "1", "2"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_has_one_writer(values, tmp_path):
    """A second process, with whatever option, neither trains nor deletes; the first goes on."""
    values["train"] |= {"max_steps": 4, "evaluate_every": 2}
    config, output = tmp_path / "c.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(values))
    with start(config, "transformers:Trainer.training_step", 4) as process:
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
        for options in ({"resume": True}, {"overwrite": True}):
            assert refusal(finetune, config, quiet=True, **options) == held(output, process.pid)
        assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert finetune(config, resume=True, quiet=True).state["steps"] == 4
    assert not [path for path in output.rglob(".*") if re.search("lock|tmp|before", path.name)]
