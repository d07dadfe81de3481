#!/usr/bin/env bash
# Keras 3.15.1: `evaluate` of a model whose output carries a mask averages over the positions of a batch that count,
# and then over batches by their rows, so that a validation loss is another for another batch size. Seen: four texts
# with 4, 1, 2 and 1 tokens have a mean squared error of 40.0 in one batch and 59.1 one by one; a mean over tokens is
# the former.
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

keras.utils.set_random_seed(0)
tokens = keras.Input((4,))
vectors = keras.layers.Embedding(6, 3, mask_zero=True)(tokens)
model = keras.Model(tokens, keras.layers.Dense(1)(vectors))
model.compile(loss="mse")
texts = np.array([[1, 2, 3, 4], [1, 0, 0, 0], [2, 3, 0, 0], [5, 0, 0, 0]])
truth = np.arange(16.0).reshape(4, 4, 1)
together, alone = (model.evaluate(texts, truth, batch_size=size, verbose=0) for size in (4, 1))
squares = (model.predict(texts, verbose=0) - truth)[texts != 0] ** 2
print("keras", keras.__version__, "- loss in one batch", together, "- one by one", alone, "- by token", squares.mean())
assert abs(together - squares.mean()) < 1e-3 * together
assert abs(alone - together) > 0.1 * together, "the loss is the same for every batch size now"
PROGRAM
