"""`edit` on Keras' attention layers, on its three backends, each in its own process, since Keras chooses once."""

import pytest

from nn import keras_process

START = """
import torch
import numpy as np, keras
import regard
from regard import masks
from regard.errors import OutOfRangeError, UnsupportedError
from regard.nn.keras import AttentionLayer, EncoderBlock, MultiHeadAttention
random = np.random.default_rng(0)
numpy = keras.ops.convert_to_numpy
late = slice(4, None)

def changed(scores, value):
    \"\"\"Scores (B, N, T, S) of which head 1 loses key 2 from query 4 on, and the outputs, head 0's zero.\"\"\"
    scores = numpy(scores).astype(np.float64)
    scores[:, 1, late, 2] = 0
    scores[:, 1] /= scores[:, 1].sum(-1, keepdims=True)
    output = scores @ numpy(value).swapaxes(1, 2)
    output[:, 0] = 0
    return scores, output.swapaxes(1, 2)
"""
CHECKS = {
    "as if the layer's scores had been changed by hand": """
        states = random.random((2, 7, 12), dtype="float32")
        mask = np.ones((2, 7, 7), bool)
        mask[0, :, 5:] = False
        for kind in (keras.layers.MultiHeadAttention, MultiHeadAttention):
            layer = kind(3, 4)
            _, scores = layer(states, states, return_attention_scores=True, attention_mask=mask)
            scores, output = changed(scores, layer._value_dense(states))
            expected = numpy(layer._output_dense(output.astype("float32")))
            with regard.edit(layer, heads=1, mask=~masks.pairs(late, 2)) as edited, regard.watch(layer) as seen:
                with regard.edit(layer, heads=0, output="zero"):
                    found, beside = layer(states, states, return_attention_scores=True, attention_mask=mask)
                    alone = layer(states, states, attention_mask=mask)
            np.testing.assert_allclose(numpy(found), expected, atol=2e-6)
            np.testing.assert_allclose(numpy(alone), expected, atol=2e-6)
            np.testing.assert_allclose(numpy(beside), scores, atol=2e-6)
            np.testing.assert_allclose(numpy(seen[0].dense()), scores, atol=2e-6)
            assert len(edited.names) == 2
    """,
    "grouped heads": """
        states = random.random((2, 7, 12), dtype="float32")
        layer = keras.layers.GroupQueryAttention(4, 6, 2)
        _, scores = layer(states, states, return_attention_scores=True)
        value = np.repeat(numpy(layer._value_dense(states)), 3, 2)
        _, output = changed(scores, value)
        with regard.edit(layer, heads=1, mask=~masks.pairs(late, 2)), regard.edit(layer, heads=0, output="zero"):
            found = layer(states, states)
        np.testing.assert_allclose(numpy(found), numpy(layer._output_dense(output.astype("float32"))), atol=2e-6)
    """,
    "layers of one head": """
        states = random.random((2, 7, 12), dtype="float32")
        for layer in (keras.layers.Attention(), AttentionLayer(12)):
            given = [states, states] if isinstance(layer, keras.layers.Attention) else states
            def answer():
                found = layer(given)
                return numpy(found[0] if isinstance(found, tuple) else found)
            plain = answer()
            with regard.edit(layer, mask=~masks.pairs(None, 3)), regard.watch(layer) as seen:
                changed = answer()
            assert changed.shape == plain.shape and np.abs(changed - plain).max() > 1e-3
            assert seen[0].shape == (2, 1, 7, 7) and numpy(seen[0].received())[..., 3].max() == 0
            with regard.edit(layer, output="zero"):
                assert np.abs(answer()).max() == 0
            assert (answer() == plain).all()
    """,
    "layers by number, each time that the model runs": """
        states = random.random((2, 7, 12), dtype="float32")
        model = keras.Sequential([EncoderBlock(12, 3), EncoderBlock(12, 3)])
        plain = numpy(model(states))
        with regard.edit(model, layers=1, heads=[0, 2], weights="uniform") as edited, regard.watch(model) as seen:
            first, second = numpy(model(states)), numpy(model(states))
        assert (first == second).all() and np.abs(first - plain).max() > 1e-3
        assert edited.names == [seen.names[1]] * 2
        for weights in (seen[1], seen[3]):
            dense = numpy(weights.dense())
            np.testing.assert_allclose(dense[:, [0, 2]], 1 / 7, rtol=1e-6)
            assert np.ptp(dense[:, 1]) > 1e-3
        assert np.ptp(numpy(seen[0].dense()), axis=(0, 2, 3)).min() > 1e-3
        kept = [set(vars(layer)) for layer in model._flatten_layers()]
        try:
            with regard.edit(model, layers=[0, 7], output="mean"):
                model(states)
            raise AssertionError
        except OutOfRangeError as error:
            assert "edit: need layers that ran, by a number below 2 or a name" in str(error), error
        assert kept == [set(vars(layer)) for layer in model._flatten_layers()]
        assert (numpy(model(states)) == plain).all()
    """,
    "a model that nobody can edit": """
        model = keras.Sequential([keras.layers.Dense(3)])
        try:
            with regard.edit(model, output="zero"):
                model(random.random((2, 7)))
            raise AssertionError
        except UnsupportedError as error:
            assert str(error).startswith("edit: need a model that runs and calls keras.layers.Multi"), error
    """,
}


@pytest.mark.parametrize("backend", keras_process.BACKENDS)
def test_keras(backend):
    keras_process.run(backend, CHECKS, start=START)
