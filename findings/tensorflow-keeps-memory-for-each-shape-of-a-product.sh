#!/usr/bin/env bash
# TensorFlow 2.21.0, CPU: a product of batches keeps about a third of a megabyte for each new shape of its arguments, up
# to about a thousand shapes, for as long as the process lives; one of plain matrices, or with oneDNN off, keeps
# nothing. Seen: 512 lengths of up to 528 rows took 172 MB that stayed, though every array was gone. oneDNN's primitives
# are cached by shape. Texts of all lengths, or the blocks of a causal mask, are such shapes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.21.0 numpy==2.4.6
cat > "$work/program.py" <<'PROGRAM'
import sys

import tensorflow as tf


def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


leading = (1,) * int(sys.argv[1])
for length in (15, *range(16, 528)):
    if length == 16:
        before = resident()
    tf.matmul(tf.ones((*leading, 128, 64)), tf.ones((*leading, length, 64)), transpose_b=True)
print(resident() - before)
PROGRAM
export TF_CPP_MIN_LOG_LEVEL=3
kept() { "$work/venv/bin/python" "$work/program.py" "$1" 2>/dev/null; }
batches=$(kept 1) matrices=$(kept 0) without=$(TF_ENABLE_ONEDNN_OPTS=0 kept 1)
echo "tensorflow 2.21.0 - MB kept after products of 512 shapes: batches $batches, matrices $matrices, batches without oneDNN $without"
python3 -c "
batches, matrices, without = $batches, $matrices, $without
assert batches > 80, 'batches keep little now'
assert matrices < 20 and without < 20, 'the others keep memory now'
"
