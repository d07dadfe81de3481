"""The article's layer on Keras' three backends, each in its own process, since Keras chooses once."""

import pytest

from nn import keras_process

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
        for heads in (1, 2):
            layer = AttentionLayer(8, heads=heads)
            batch = random.random((2, 9, 5), dtype="float32")
            output, expected = layer(batch)
            lazy, weights = layer.attend(batch)
            assert isinstance(weights, regard.AttentionWeights) and weights.shape == tuple(expected.shape)
            close(lazy, output)
            close(weights.dense(), expected)
        refused(
            UnsupportedError,
            "AttentionLayer.attend: need arrays; got a symbolic KerasTensor, through which lazy weights cannot flow; "
            "give the layer return_weights=('entropy', 'received') for statistics as tensors, or call attend with "
            "arrays, or in the call of a layer of your own.",
            lambda: layer.attend(keras.Input((None, 5))),
        )
    """,
    "statistics in a model, without the weights": """
        inputs = keras.Input((None, 5))
        for heads in (1, 3):
            layer = AttentionLayer(6, heads=heads, return_weights=("entropy", "received", "argmax"))
            output, found = layer(inputs)
            own = () if heads == 1 else (heads,)
            assert {name: each.shape for name, each in found.items()} == dict.fromkeys(found, (None, *own, None))
            model = keras.Model(inputs, [output, *found.values()])
            batch = random.random((2, 9, 5), dtype="float32")
            weights = layer.attend(batch).weights
            for one, two in zip(model.predict(batch, verbose=0)[1:], weights.ask(*found).values()):
                close(one, two, atol=1e-5)
        again = AttentionLayer.from_config(layer.get_config())
        assert again.return_weights == ("entropy", "received", "argmax")
        refused(
            UnsupportedError,
            "need questions among entropy, received, max, argmax, max_score, distance; got 'entropi'; "
            "did you mean 'entropy'?",
            lambda: AttentionLayer(6, return_weights=("entropi",))(inputs),
        )
    """,
    "dropout is of the output, while training, and another at every step": """
        layer = AttentionLayer(6, heads=2, dropout=0.5, seed=3)
        batch = random.random((2, 9, 5), dtype="float32")
        calm, weights = layer(batch)
        first, second = (layer(batch, training=True) for _ in range(2))
        close(first[1], weights)
        close(layer(batch)[0], calm)
        assert abs(numpy(first[0]) - numpy(second[0])).max() > 1e-3
        again = AttentionLayer.from_config(layer.get_config())
        again.build((None, None, 5))
        again.set_weights(layer.get_weights())
        close(again(batch, training=True)[0], first[0])
    """,
    "masks of the wrong shape": """
        layer = AttentionLayer(6, heads=2)
        batch = random.random((2, 9, 5), dtype="float32")
        refused(
            ShapeError,
            "AttentionLayer: need a mask (B, S) = (2, 9); got (2, 8); True is no padding.",
            lambda: layer(batch, mask=np.ones((2, 8), bool)),
        )
    """,
    "arguments that cannot be": """
        for wrong, message in (
            ({"units": 10, "heads": 3}, "AttentionLayer: need units that heads divide; got units=10, heads=3."),
            (
                {"encoder": "transformer"},
                "AttentionLayer: need encoder to be one of 'dense', 'convolution', 'recurrent'; got 'transformer'.",
            ),
        ):
            refused(ConfigError, message, lambda: AttentionLayer(**wrong))
    """,
}


@pytest.mark.parametrize("backend", keras_process.BACKENDS)
def test_layer(backend, tmp_path):
    keras_process.run(backend, CHECKS, tmp_path / "model.keras")
