#!/usr/bin/env bash
# Keras 3.15.1: a layer called with one input gets its mask as `mask` alone, one called with several as `query_mask`
# and the like alone. A layer that takes the other name is called without a mask, and nothing is said. Seen: a layer
# with one input and `query_mask`, and one with two inputs and `mask`, get None from an Embedding(mask_zero=True).
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

seen = {}


class One(keras.layers.Layer):
    def call(self, query, mask=None):
        seen["one input, mask"] = mask is not None
        return query


class OneNamed(keras.layers.Layer):
    def call(self, query, query_mask=None):
        seen["one input, query_mask"] = query_mask is not None
        return query


class Two(keras.layers.Layer):
    def call(self, query, value, mask=None):
        seen["two inputs, mask"] = mask is not None
        return query


class TwoNamed(keras.layers.Layer):
    def call(self, query, value, query_mask=None):
        seen["two inputs, query_mask"] = query_mask is not None
        return query


vectors = keras.layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 2, 0]]))
for layer in (One(), OneNamed()):
    layer(vectors)
for layer in (Two(), TwoNamed()):
    layer(vectors, vectors)
print("keras", keras.__version__, "-", seen)
assert seen["one input, mask"] and seen["two inputs, query_mask"]
assert not seen["one input, query_mask"] and not seen["two inputs, mask"], "both names get a mask now"
PROGRAM
