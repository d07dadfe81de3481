#!/usr/bin/env bash
# Keras 3.15.1: MultiHeadAttention called first for its output and then for output and scores cannot be in one
# functional model with both: the ValueError says that an output is not connected to the inputs. Seen with either order
# of the outputs; two calls of one kind are fine, and so are both in eager code.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
export KERAS_BACKEND=jax JAX_PLATFORMS=cpu
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import keras

layer = keras.layers.MultiHeadAttention(2, 4)
texts = keras.Input((5, 8))
output = layer(texts, texts)
again, scores = layer(texts, texts, return_attention_scores=True)
said = None
try:
    keras.Model(texts, [output, again, scores])
except ValueError as error:
    said = str(error)
keras.Model(texts, [output, layer(texts, texts)])
print("keras", keras.__version__, "-", said)
assert said and "is not connected to `inputs`" in said, "one model can have both now"
PROGRAM
