#!/usr/bin/env bash
# Keras 3.15.1: the symbolic scores of MultiHeadAttention over another sequence have the query's length on both axes,
# so that what is built on their shape is built wrongly. Seen: for queries of length 5 and keys of length 7 the model
# says (None, 2, 5, 5) and gives (1, 2, 5, 7).
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

query, value = keras.Input((5, 8)), keras.Input((7, 8))
output, scores = keras.layers.MultiHeadAttention(2, 4)(query, value, return_attention_scores=True)
model = keras.Model([query, value], [output, scores])
given = model([np.ones((1, 5, 8)), np.ones((1, 7, 8))])[1]
print("keras", keras.__version__, "- scores said to be", scores.shape, "are", given.shape)
assert tuple(given.shape) == (1, 2, 5, 7)
assert tuple(scores.shape) == (None, 2, 5, 5), "the shape is right now"
PROGRAM
