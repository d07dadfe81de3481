"""Checks of Keras layers, each backend in a process of its own, since Keras chooses once."""

import os
import subprocess
import sys

import pytest

# TensorFlow, which the article is written for, each time; all three in `make test-all`.
BACKENDS = ["tensorflow", *(pytest.param(name, marks=pytest.mark.slow) for name in ("jax", "torch"))]
START = """
import sys
import torch
import numpy as np
import keras
import regard
from regard.errors import ConfigError, ShapeError, UnsupportedError
from regard.nn.keras import AttentionLayer, Encoder, EncoderBlock, MultiHeadAttention
random = np.random.default_rng(0)
keras.utils.set_random_seed(0)
path = sys.argv[1]
numpy = keras.ops.convert_to_numpy

def close(one, two, atol=2e-6):
    np.testing.assert_allclose(numpy(one), numpy(two), atol=atol)

def refused(kind, message, function):
    try:
        function()
    except kind as error:
        assert message in str(error), error
    else:
        raise AssertionError(f"not refused: {message}")
"""


def run(backend, checks, *arguments, start=START):
    """Each check, a body of Python by its name, one after the other, behind `start`; `arguments` are in sys.argv."""
    program = start + "".join(
        f"def check():{body}\ntry:\n    check()\nexcept BaseException:\n    print({name!r}); raise\n"
        for name, body in checks.items()
    )
    execute(backend, program, *arguments)


def execute(backend, program, *arguments):
    """A program on one of Keras' backends; it fails with what the program said."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
