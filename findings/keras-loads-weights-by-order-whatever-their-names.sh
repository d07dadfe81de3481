#!/usr/bin/env bash
# Keras 3.15.1: `load_weights` of a .weights.h5 file gives layers of one class their weights in the order of the model,
# though file and model have names. Nothing is said. Seen: two Dense layers called first and second, loaded into a
# model that has them the other way round, swap their weights.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
export KERAS_BACKEND=jax JAX_PLATFORMS=cpu
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import keras
import numpy as np


def model(*names):
    return keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, name=name) for name in names)])


one, other = model("first", "second"), model("second", "first")
one.save_weights("model.weights.h5")
other.load_weights("model.weights.h5")


def same(name, named):
    return np.array_equal(one.get_layer(name).kernel, other.get_layer(named).kernel)


print("keras", keras.__version__, "- first is first:", same("first", "first"), "- first is second:",
      same("first", "second"))
assert same("first", "second") and not same("first", "first"), "weights go by name now"
PROGRAM
