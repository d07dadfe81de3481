"""Runs in processes of their own, to be killed at a moment of our choice."""

import os
import signal
import subprocess
import sys

# Without a hub, as whoever goes on with a run: transformers writes into tokenizer_config.json whether there was one.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
CHILD = """
import importlib, sys, time
from regard.cli import main

config, place, call, *options = sys.argv[1:]
module, _, path = place.partition(":")
*owners, name = path.split(".")
owner = importlib.import_module(module)
for each in owners:
    owner = getattr(owner, each)
original, left = getattr(owner, name), int(call)

def pausing(*args, **named):
    global left
    left -= 1
    if not left:
        print("paused", flush=True)
        time.sleep(600)
    return original(*args, **named)

setattr(owner, name, pausing)
sys.argv = ["regard", "finetune", config, "--quiet", *options]
main()
"""


def start(config, place, call, *options):
    """Run `regard finetune` up to the given call of a function, `module:name`; return the process, waiting there."""
    command = [sys.executable, "-c", CHILD, str(config), place, str(call), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    if process.stdout.readline() != "paused\n":
        _, errors = process.communicate()
        raise AssertionError(f"{place} was not called {call} times: {errors}")
    return process


def kill(config, place, call, *options):
    """Run `regard finetune` up to the given call of a function, and kill it there as `kill -9` does."""
    with start(config, place, call, *options) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
