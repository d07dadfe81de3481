"""What `fit` takes beyond parameters and activations of width d, measured in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np, keras
import tensorflow as tf
from regard.nn.keras import AttentionLayer, Encoder, MultiHeadAttention

def memory(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def attended(kind, states):
    if kind == "keras":
        return keras.layers.MultiHeadAttention(1, 64)(states, states)
    if kind == "MultiHeadAttention":
        layer = MultiHeadAttention(1, 64, dropout=0.1)
        return layer(states, states, use_causal_mask=True, return_attention_scores=("entropy", "received"))[0]
    return AttentionLayer(64)(states)[0]

def fit(kind, length):
    inputs = keras.Input((None, 64))
    model = keras.Model(inputs, attended(kind, inputs))
    model.compile(keras.optimizers.SGD(), "mse")
    states = np.random.default_rng(0).random((1, length, 64), np.float32)
    model.fit(states, states, epochs=2, verbose=0)

kind, length = sys.argv[1], int(sys.argv[2])
fit(kind, 512)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = memory("VmRSS")
fit(kind, length)
print(memory("VmHWM") - before)
"""
MB = 2**20
LENGTH = 16384
ACTIVATIONS = 16 * LENGTH * 64 * 4  # input, query, key, value, output and their like, and their gradients


def taken(kind, length, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    command = [sys.executable, "-c", PROGRAM, kind, str(length)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["AttentionLayer", "MultiHeadAttention"])
def test_fit_on_one_sequence_of_sixteen_thousand(kind, monkeypatch):
    assert taken(kind, LENGTH, monkeypatch) <= 256 * MB + ACTIVATIONS


@pytest.mark.slow
def test_a_matrix_would_be_noticed(monkeypatch):
    assert taken("keras", 8192, monkeypatch) > 256 * MB + ACTIVATIONS
