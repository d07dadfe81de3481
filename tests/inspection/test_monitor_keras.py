"""`AttentionMonitor` on Keras' three backends, each in its own process, since Keras chooses once."""

import pytest

from nn import keras_process

START = """
import doctest
import torch
import numpy as np, keras
import regard.inspection.keras
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

def as_the_scores_say(model, history):
    # Of the second layer, by its own scores, in float64.
    numpy = lambda tensor: keras.ops.convert_to_numpy(tensor).astype("float64")
    layer = model.get_layer("attention_1")
    before = [each for each in model.layers if isinstance(each, keras.layers.Dropout)][0]
    with keras.StatelessScope():
        hidden = keras.Model(model.input, before.output)(probe, training=False)
    weights = numpy(layer(hidden, hidden, return_attention_scores=True)[1])
    scores = np.einsum("bind,bjnd->bnij", numpy(layer.query_dense(hidden)), numpy(layer.key_dense(hidden))) / 2
    apart = abs(np.arange(7)[:, None] - np.arange(7))
    for head in range(3):
        for name, values, over in (
            ("entropy", -(weights * np.log(weights)).sum(-1), np.mean),
            ("distance", (weights * apart).sum(-1), np.mean),
            ("largest_score", scores.max(-1), np.max),
        ):
            expected = over(values[:, head][real])
            np.testing.assert_allclose(getattr(history, name)[-1][1][head], expected, rtol=1e-4)
"""
CHECKS = {
    "training is the same to the last bit": """
        alone, watched = build(), build()
        monitor = AttentionMonitor(probe, every=5, real=real)
        assert fit(alone) == fit(watched, monitor)
        assert monitor.history.steps == [0, 5, 10, 15, 20, 22]
        for one, other in zip(state(alone), state(watched), strict=True):
            np.testing.assert_array_equal(one, other)
        assert all("_compute_attention" not in layer.__dict__ for layer in watched.layers)
        as_the_scores_say(watched, monitor.history)
        fit(watched, monitor)  # training goes on, and so does the history
        assert monitor.history.steps[5:7] == [22, 25] and monitor.history.steps[-1] == 44
    """,
    "several batches in one execution": """
        if keras.backend.backend() != "tensorflow":
            return
        model, monitor = build(steps_per_execution=4), AttentionMonitor(probe, every=3, layers=[1])
        model.fit(x[:32], y[:32], batch_size=4, epochs=2, verbose=0, callbacks=[monitor])
        assert monitor.history.steps == [0, 4, 8, 12, 16], monitor.history.steps
        assert monitor.history.names == ["attention_1"], monitor.history.names
    """,
    "the docstring": """
        if keras.backend.backend() == "tensorflow":
            results = doctest.testmod(regard.inspection.keras)
            assert results.attempted and not results.failed
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


@pytest.mark.parametrize("backend", keras_process.BACKENDS)
def test_monitor(backend):
    keras_process.run(backend, CHECKS, start=START)
