#!/usr/bin/env bash
# accelerate 1.15.0: `accelerate launch --cpu --num_processes 2` without MPI starts one process, which has all the
# data, and says nothing of the number that was asked for. Seen: one process that takes itself for one of one; its exit
# code is 0. torchrun starts two with the same program.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 accelerate==1.15.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import os
import subprocess
import sys

import accelerate

with open("program.py", "w") as file:
    file.write("import accelerate\nprint(accelerate.PartialState(cpu=True).num_processes)\n")


def start(*command):
    ended = subprocess.run(
        [sys.executable, "-m", *command, "program.py"], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return ended.returncode, ended.stdout.split(), ended.stderr


code, launched, said = start("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
                             "--mixed_precision", "no", "--dynamo_backend", "no")
_, by_torchrun, _ = start("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
print("accelerate", accelerate.__version__, "- of two processes asked for, each says how many there are:", launched,
      "- by torchrun:", by_torchrun, "- said:", repr(said))
assert by_torchrun == ["2", "2"]
assert code == 0 and launched == ["1"], "two processes start now"
PROGRAM
