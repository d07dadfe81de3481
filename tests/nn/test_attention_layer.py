"""The article's layer on Keras' three backends, each in its own process, since Keras chooses once."""

import subprocess
import sys

import pytest

CHECKS = {
    "the article's shapes, any length, and a falling loss": """
        inputs = keras.Input(shape=(None, 128))
        output, weights = AttentionLayer(units=128)(inputs)
        assert (output.shape, weights.shape) == ((None, None, 128), (None, None, None))
        model = keras.Model(inputs, [output, weights])
        model.compile(optimizer="adam", loss=["mean_squared_error", None])
        batch = random.random((32, 10, 128), dtype="float32")
        output, weights = (keras.ops.convert_to_numpy(array) for array in model(batch))
        assert (output.shape, weights.shape) == ((32, 10, 128), (32, 10, 10))
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
        losses = model.fit(batch, batch, epochs=4, batch_size=8, verbose=0).history["loss"]
        assert all(later < earlier for earlier, later in zip(losses, losses[1:])), losses
        assert model.predict(np.zeros((2, 77, 128), "float32"), verbose=0)[1].shape == (2, 77, 77)
    """,
    "every encoder against the formula": """
        for encoder in ("dense", "convolution", "recurrent"):
            for heads in (1, 4):
                for causal in (False, True):
                    layer = AttentionLayer(units=12, heads=heads, encoder=encoder, causal=causal)
                    inputs = random.random((3, 7, 5), dtype="float32")
                    output, weights = (keras.ops.convert_to_numpy(array) for array in layer(inputs))
                    query, key, value = (
                        np.moveaxis(keras.ops.convert_to_numpy(each(inputs)).reshape(3, 7, heads, -1), 2, 1)
                        for each in (layer.query_encoder, layer.key_encoder, layer.value_encoder)
                    )
                    scores = query @ key.swapaxes(-1, -2) / np.sqrt(12 / heads)
                    if causal:
                        scores = np.where(np.tri(7, dtype=bool), scores, -np.inf)
                    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
                    np.testing.assert_allclose(weights.reshape(expected.shape), expected, atol=1e-5)
                    np.testing.assert_allclose(
                        output, np.moveaxis(expected @ value, 1, 2).reshape(3, 7, 12), atol=1e-5
                    )
    """,
    "padded sentences and a smaller last batch, while fitting": """
        inputs = keras.Input((None,), dtype="int32")
        output, weights = AttentionLayer(6)(keras.layers.Embedding(9, 6, mask_zero=True)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(output)))
        model.compile(optimizer="adam", loss="mean_squared_error")
        ids = np.tril(random.integers(1, 9, (7, 5)))
        assert np.isfinite(model.fit(ids, np.ones((7, 1)), batch_size=3, verbose=0).history["loss"]).all()
        model.evaluate(ids[:, :4], np.ones((7, 1)), verbose=0)  # one length, and now a graph for any
        model.evaluate(ids[:, :3], np.ones((7, 1)), verbose=0)
        seen = keras.Model(inputs, [output, weights]).predict(ids, batch_size=3, verbose=0)[1]
        np.testing.assert_allclose(seen.sum(-1), 1, atol=1e-5)
        assert (seen[0, :, 1:] == 0).all()
    """,
    "causal encoders do not look ahead": """
        for encoder in ("dense", "convolution", "recurrent"):
            layer = AttentionLayer(units=4, encoder=encoder, causal=True, return_weights=False)
            inputs = random.random((1, 6, 3), dtype="float32")
            changed = inputs.copy()
            changed[:, 4:] += 1
            before, after = (keras.ops.convert_to_numpy(layer(array)) for array in (inputs, changed))
            np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-6)
            assert not np.allclose(before[:, 4:], after[:, 4:])
    """,
    "padding is not attended to, in self- and cross-attention": """
        ids = np.array([[1, 2, 0, 0], [3, 4, 5, 0]])
        embedding = keras.layers.Embedding(9, 6, mask_zero=True)
        inputs = keras.Input((None,), dtype="int32")
        own = AttentionLayer(6, heads=2)(embedding(inputs))[1]
        weights = keras.ops.convert_to_numpy(keras.Model(inputs, own)(ids))
        assert (weights[0, :, :, 2:] == 0).all() and (weights[1, :, :, 3:] == 0).all()
        assert (weights[0, :, :, :2] > 0).all()
        other = keras.Input((None, 6))
        cross = AttentionLayer(6)(other, embedding(inputs))[1]
        weights = keras.ops.convert_to_numpy(keras.Model([other, inputs], cross)([np.ones((2, 3, 6)), ids]))
        assert weights.shape == (2, 3, 4) and (weights[0, :, 2:] == 0).all() and (weights[1, :, :3] > 0).all()
    """,
    "saved and loaded": """
        inputs = keras.Input((None, 5))
        layer = AttentionLayer(6, heads=3, encoder="recurrent", cell="lstm", similarity="cosine")
        model = keras.Model(inputs, layer(inputs))
        batch = random.random((2, 9, 5), dtype="float32")
        model.save(path)
        again = keras.models.load_model(path)
        for one, two in zip(model.predict(batch, verbose=0), again.predict(batch, verbose=0)):
            np.testing.assert_array_equal(one, two)
        assert again.layers[-1].get_config() == model.layers[-1].get_config()
    """,
    "lazy weights where arrays flow, an explanation where they do not": """
        layer = AttentionLayer(8, heads=2)
        batch = random.random((2, 9, 5), dtype="float32")
        layer(batch)
        output, weights = layer.attend(keras.ops.convert_to_tensor(batch))
        assert isinstance(weights, regard.AttentionWeights) and weights.shape == (2, 2, 9, 9)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(weights.received()).sum(-1), 9, atol=1e-5)
        try:
            layer.attend(keras.Input((None, 5)))
        except regard.errors.UnsupportedError as error:
            assert "through which lazy weights cannot flow" in str(error)
        else:
            raise AssertionError("a symbolic input must be refused")
    """,
    "arguments that cannot be": """
        for wrong, message in (
            ({"units": 10, "heads": 3}, "AttentionLayer: need units that heads divide; got units=10, heads=3."),
            (
                {"encoder": "transformer"},
                "AttentionLayer: need encoder to be one of 'dense', 'convolution', 'recurrent'; got 'transformer'.",
            ),
        ):
            try:
                AttentionLayer(**wrong)
            except regard.errors.ConfigError as error:
                assert str(error) == message, error
            else:
                raise AssertionError(wrong)
    """,
}
START = """
import sys
import torch
import numpy as np
import keras
import regard
from regard.nn.keras import AttentionLayer
random = np.random.default_rng(0)
keras.utils.set_random_seed(0)
path = sys.argv[1]
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_layer(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    program = START + "".join(
        f"def check():{body}\ntry:\n    check()\nexcept BaseException:\n    print({name!r}); raise\n"
        for name, body in CHECKS.items()
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model.keras")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
