"""`AttentionMonitor` on Keras' three backends, each in its own process, since Keras chooses once."""

import subprocess
import sys

import pytest

START = """
import torch
import numpy as np, keras
from regard.errors import ConfigError, UnsupportedError
from regard.inspection.keras import AttentionMonitor

random = np.random.default_rng(0)
x, y = random.normal(size=(44, 7, 12)).astype("float32"), random.normal(size=(44, 1)).astype("float32")
probe = x[:5]
real = np.arange(7) < np.array([[7], [3], [5], [7], [1]])

class Noise(keras.layers.Layer):
    # Draws a random number in every call, in training or not.
    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs):
        self.add_loss(0.01 * keras.ops.mean(inputs))
        return inputs + 0.01 * keras.random.normal(keras.ops.shape(inputs), seed=self.seeds)

def build(**options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((7, 12))
    attention = [keras.layers.MultiHeadAttention(3, 4, dropout=0.1, name=f"attention_{n}") for n in range(2)]
    states = keras.layers.BatchNormalization()(Noise()(inputs))
    for layer in attention:
        states = keras.layers.Dropout(0.2)(states + layer(states, states))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(states)))
    model.compile("adam", "mean_squared_error", **options)
    return model

def fit(model, *callbacks):
    keras.utils.set_random_seed(1)  # of the order of examples
    return model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=list(callbacks)).history["loss"]

def state(model):
    return [keras.ops.convert_to_numpy(variable) for variable in (*model.variables, *model.optimizer.variables)]
"""
CHECKS = {
    "training is the same to the last bit": """
        alone, watched = build(), build()
        monitor = AttentionMonitor(probe, every=3)
        assert fit(alone) == fit(watched, monitor)
        assert monitor.history.steps == [0, 3, 6, 9, 12, 15, 18, 21, 22]
        for one, other in zip(state(alone), state(watched), strict=True):
            np.testing.assert_array_equal(one, other)
        assert all("_compute_attention" not in layer.__dict__ for layer in watched.layers)
        fit(watched, monitor)  # training goes on, and so does the history
        assert monitor.history.steps[8:10] == [22, 24] and monitor.history.steps[-1] == 44
    """,
    "what is recorded is what the layers' own scores say": """
        model = build()
        monitor = AttentionMonitor(probe, every=100, real=real, layers=[1])
        fit(model, monitor)
        layer = model.get_layer("attention_1")
        assert monitor.history.names == [layer.path]
        states = [each for each in model.layers if each.name.startswith("dropout")][0]
        seeds = [variable for variable in model.variables if "seed_generator_state" in variable.path]
        before = [keras.ops.copy(variable.value) for variable in seeds]
        hidden = keras.Model(model.inputs, states.output)(probe, training=False)
        [variable.assign(value) for variable, value in zip(seeds, before)]
        scores = keras.ops.convert_to_numpy(layer(hidden, hidden, return_attention_scores=True)[1]).astype("float64")
        query, key = (
            keras.ops.convert_to_numpy(dense(hidden)).astype("float64") for dense in (layer.query_dense, layer.key_dense)
        )
        raw = np.einsum("bind,bjnd->bnij", query, key) / np.sqrt(4)
        counted = np.broadcast_to(real[:, None], scores.shape[:3])
        apart = abs(np.arange(7)[:, None] - np.arange(7))
        expected = {
            "entropy": -(scores * np.log(scores)).sum(-1),
            "distance": (scores * apart).sum(-1),
        }
        for name, values in expected.items():
            mean = [values[:, head][counted[:, head]].mean() for head in range(3)]
            np.testing.assert_allclose(getattr(monitor.history, name)[-1], [mean], rtol=1e-4)
        largest = [raw[:, head][counted[:, head]].max() for head in range(3)]
        np.testing.assert_allclose(monitor.history.largest_score[-1], [largest], rtol=1e-4)
    """,
    "several batches in one execution": """
        model, monitor = build(steps_per_execution=4), AttentionMonitor(probe, every=3)
        model.fit(x[:32], y[:32], batch_size=4, epochs=2, verbose=0, callbacks=[monitor])
        assert monitor.history.steps == [0, 4, 8, 12, 16], monitor.history.steps
    """,
    "what cannot be done says so": """
        try:
            AttentionMonitor(probe, every=0)
        except ConfigError as error:
            assert str(error) == (
                "AttentionMonitor: need every to be 1 batch or more; got 0; the default is 200."
            ), error
        else:
            raise AssertionError
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("adam", "mean_squared_error")
        try:
            model.fit(x, y, verbose=0, callbacks=[AttentionMonitor(probe)])
        except UnsupportedError as error:
            assert "keras.layers.MultiHeadAttention" in str(error), error
        else:
            raise AssertionError
    """,
}


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_monitor(backend, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    program = START + "".join(
        f"def check():{body}\ntry:\n    check()\nexcept BaseException:\n    print({name!r}); raise\n"
        for name, body in CHECKS.items()
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
