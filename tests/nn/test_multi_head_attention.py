"""What Keras' `MultiHeadAttention` promises, of ours, on Keras' three backends."""

import pytest

from nn import keras_process

CHECKS = {
    "Keras' variables, outputs and scores": """
        states, memory = random.random((2, 7, 12), dtype="float32"), random.random((2, 5, 10), dtype="float32")
        masks = [random.random(shape) > 0.3 for shape in ((7, 5), (2, 7, 5), (2, 1, 7, 5), (2, 3, 7, 5))]
        calls = [
            {}, {"use_causal_mask": True}, *({"attention_mask": mask} for mask in masks),
            {"attention_mask": masks[1].astype("float32"), "use_causal_mask": True},
            {"query_mask": random.random((2, 7)) > 0.2, "value_mask": random.random((2, 5)) > 0.2},
            {"value_mask": random.random((2, 5)) > 0.2, "attention_mask": masks[1], "use_causal_mask": True},
            {"key": random.random((2, 5, 3), dtype="float32"), "key_mask": random.random((2, 5)) > 0.2},
        ]
        kinds = [{}, {"output_shape": (3, 4)}, {"output_shape": 6, "use_bias": False}, {"sliding_window": 3}]
        kinds += [{"use_gate": True}, {"value_dim": 11}]
        for kind in kinds:
            for call in calls:
                theirs, ours = keras.layers.MultiHeadAttention(3, 4, **kind), MultiHeadAttention(3, 4, **kind)
                for layer in (theirs, ours):
                    layer(states, memory, return_attention_scores=True, **call)
                names = [[variable.path.split("/", 1)[1] for variable in each.variables] for each in (theirs, ours)]
                assert names[0] == names[1], names
                ours.set_weights(theirs.get_weights())
                expected, scores = theirs(states, memory, return_attention_scores=True, **call)
                output, found = ours(states, memory, return_attention_scores=True, **call)
                close(output, expected)
                close(found, scores)
                close(ours(states, memory, **call), expected)
    """,
    "attention along some axes": """
        for positions, others, axes in (
            ((5, 7), (3, 7), (1,)), ((5, 7), (5, 3), (2,)), ((5, 7), (5, 3), (-2,)), ((5, 7), (2, 3), (1, 2)),
            ((5, 3, 2), (5, 4, 1), (2, 3)), ((5, 7), (2, 3), None),
        ):
            states = random.random((2, *positions, 8), dtype="float32")
            memory = random.random((2, *others, 8), dtype="float32")
            theirs, ours = (kind(2, 3, attention_axes=axes) for kind in (keras.layers.MultiHeadAttention,
                                                                          MultiHeadAttention))
            theirs(states, memory), ours(states, memory)
            ours.set_weights(theirs.get_weights())
            expected, scores = theirs(states, memory, return_attention_scores=True)
            mask = random.random(scores.shape) > 0.3
            for call in ({}, {"attention_mask": mask}, {"attention_mask": mask[:, :1]}):
                expected, scores = theirs(states, memory, return_attention_scores=True, **call)
                output, found = ours(states, memory, return_attention_scores=True, **call)
                close(output, expected)
                close(found, scores)
            assert ours.attend(states, memory).weights.ndim == 4 + len(positions) - len(ours.attention_axes)
    """,
    "masks of layers before it": """
        ids = np.array([[1, 2, 3, 0, 0], [3, 4, 5, 6, 7]])
        other = np.array([[1, 0, 0], [3, 4, 5]])
        inputs, memories = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
        embedding = keras.layers.Embedding(9, 12, mask_zero=True)
        layer = MultiHeadAttention(3, 4)
        output, scores = layer(embedding(inputs), embedding(memories), return_attention_scores=True)
        assert scores.shape == (None, 3, None, None)
        pooled = keras.layers.GlobalAveragePooling1D()(output)
        model = keras.Model([inputs, memories], [pooled, scores])
        pooled, scores = (numpy(array) for array in model([ids, other]))
        assert (scores[0, :, :, 1:] == 0).all() and (scores[0, :, 3:] == 0).all()
        np.testing.assert_allclose(scores[0, :, :3, 0], 1, atol=1e-6)
        close(model([ids[:1, :3], other[:1, :1]])[0], pooled[:1])
        seen = numpy(layer.attend(embedding(ids), embedding(other)).weights.received())
        np.testing.assert_allclose(seen[0], [[3, 0, 0]] * 3, atol=1e-6)
    """,
    "shapes before there are numbers": """
        states, memory = keras.Input((7, 12)), keras.Input((5, 10))
        wanted = ("entropy", "received", "argmax")
        assert MultiHeadAttention(3, 4, output_shape=6)(states, memory).shape == (None, 7, 6)
        output, scores = MultiHeadAttention(3, 4)(states, memory, return_attention_scores=True)
        assert scores.shape == (None, 3, 7, 5)  # Keras declares (None, 3, 7, 7)
        layer = MultiHeadAttention(3, 4, output_shape=6)
        output, found = layer(states, memory, return_attention_scores=wanted)
        shapes = {name: each.shape for name, each in found.items()}
        assert shapes == {"entropy": (None, 3, 7), "received": (None, 3, 5), "argmax": (None, 3, 7)}, shapes
        model = keras.Model([states, memory], [output, scores, *found.values()])
        batch = [random.random((2, 7, 12), dtype="float32"), random.random((2, 5, 10), dtype="float32")]
        weights = layer.attend(*batch).weights
        for symbol, array in zip(model.outputs, model.predict(batch, verbose=0)):
            assert symbol.shape[1:] == array.shape[1:] and symbol.dtype == keras.backend.standardize_dtype(array.dtype)
        for one, two in zip(model.predict(batch, verbose=0)[2:], weights.ask(*wanted).values()):
            close(one, two, atol=1e-5)
        assert layer.compute_output_shape((2, 7, 12), (2, 5, 10)) == (2, 7, 6)
    """,
    "scores before dropout, another at every step, the same by its seed": """
        states = random.random((2, 7, 12), dtype="float32")
        layer = MultiHeadAttention(3, 4, dropout=0.5, seed=1)
        calm, scores = layer(states, states, return_attention_scores=True)
        first, found = layer(states, states, return_attention_scores=True, training=True)
        close(found, scores)
        second = layer(states, states, training=True)
        assert abs(numpy(first) - numpy(second)).max() > 1e-3
        again = MultiHeadAttention.from_config(layer.get_config())
        again.build((None, None, 12), (None, None, 12))
        again.set_weights(layer.get_weights())
        close(again(states, states, training=True), first)
        close(layer(states, states), calm)
    """,
    "serialised, and with Keras' weights": """
        states = random.random((2, 7, 12), dtype="float32")
        own = {"value_dim": 5, "dropout": 0.1, "output_shape": (6,), "attention_axes": (1,), "sliding_window": 4}
        own |= {"use_gate": True, "seed": 3, "kernel_initializer": "he_uniform", "bias_regularizer": "l2"}
        config = MultiHeadAttention(3, 4, **own).get_config()
        theirs = keras.layers.MultiHeadAttention(3, 4, **own).get_config()
        assert {**config, "name": ""} == {**theirs, "name": ""}
        assert MultiHeadAttention.from_config(config).get_config() == config

        def model(kind):
            inputs = keras.Input((None, 12))
            return keras.Model(inputs, kind(3, 4, name="attention")(inputs, inputs))

        theirs, ours = model(keras.layers.MultiHeadAttention), model(MultiHeadAttention)
        theirs.save_weights(path + ".weights.h5")
        ours.load_weights(path + ".weights.h5")
        close(ours(states), theirs(states))
        ours.save(path + "ours.keras")
        again = keras.models.load_model(path + "ours.keras")
        assert type(again.layers[-1]) is MultiHeadAttention
        close(again(states), ours(states), atol=0)
    """,
    "lazy weights, in a layer of one's own too": """
        class Watchful(keras.layers.Layer):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.attention = MultiHeadAttention(3, 4, dropout=0.2)

            def build(self, shape):
                self.attention.build(shape, shape)

            def call(self, states):
                output, weights = self.attention.attend(states, states, use_causal_mask=True)
                return output, weights.received()

            def compute_output_spec(self, states):
                return keras.KerasTensor(states.shape), keras.KerasTensor((states.shape[0], 3, states.shape[1]))

        inputs = keras.Input((None, 12))
        layer = Watchful()
        model = keras.Model(inputs, layer(inputs))
        states = random.random((4, 7, 12), dtype="float32")
        model.compile("sgd", loss=["mse", None])
        assert np.isfinite(model.fit(states, states, epochs=2, batch_size=2, verbose=0).history["loss"]).all()
        received = model.predict(states, verbose=0)[1]
        close(received.sum(-1), np.full((4, 3), 7.0), atol=1e-5)
        output, weights = layer.attention.attend(states, states, use_causal_mask=True)
        assert isinstance(weights, regard.AttentionWeights)
        close(weights.received(), received, atol=1e-5)
        refused(
            UnsupportedError,
            "MultiHeadAttention.attend: need arrays; got a symbolic KerasTensor, through which lazy weights cannot "
            "flow; call the layer with return_attention_scores=('entropy', 'received') for statistics as tensors, or "
            "call attend with arrays, or in the call of a layer of your own.",
            lambda: layer.attention.attend(inputs, inputs),
        )
    """,
    "a mask of the wrong shape": """
        states, memory = random.random((2, 7, 12), dtype="float32"), random.random((2, 5, 12), dtype="float32")
        for shape in ((2, 5, 7), (3, 7, 5), (7,), (2, 2, 3, 7, 5)):
            refused(
                ShapeError,
                "MultiHeadAttention: need attention_mask (T, S), (B, T, S) or (B, heads, T, S) for weights "
                "(B, heads, T, S) = (2, 3, 7, 5); got " + str(shape) + "; True lets query i see key j at [..., i, j].",
                lambda: MultiHeadAttention(3, 4)(states, memory, attention_mask=np.ones(shape, bool)),
            )
    """,
    "low rank and mixed precision": """
        states = random.random((2, 7, 12), dtype="float32")
        layer = MultiHeadAttention(3, 4)
        before = layer(states, states)
        for dense in (layer.query_dense, layer.value_dense):
            dense.enable_lora(2)
        close(layer(states, states), before)
        encoded = AttentionLayer(6)
        encoded(states)
        encoded.query_encoder.enable_lora(2)
        for each, adapted in ((layer, layer.query_dense), (encoded, encoded.query_encoder)):
            names = [variable.name for variable in adapted.trainable_variables]
            assert names == ["bias", "lora_kernel_a", "lora_kernel_b"], names
            assert "kernel" in [variable.name for variable in each.non_trainable_variables]
        inputs = keras.Input((None, 12))
        for policy in ("mixed_bfloat16", "mixed_float16"):
            output = MultiHeadAttention(3, 4, dropout=0.1, dtype=policy)(inputs, inputs)
            output = AttentionLayer(12, heads=2, return_weights=False, dtype=policy)(output)
            output = Encoder(1, 12, 3, positions="rotary", dtype=policy)(output)
            assert output.dtype == policy.removeprefix("mixed_")
            model = keras.Model(inputs, keras.layers.Dense(12, dtype="float32")(output))
            model.compile("sgd", "mse")
            assert np.isfinite(model.fit(states, states, verbose=0).history["loss"]).all()
            assert all(variable.dtype == "float32" for variable in model.trainable_variables)
    """,
}


@pytest.mark.parametrize("backend", keras_process.BACKENDS)
def test_layer(backend, tmp_path):
    keras_process.run(backend, CHECKS, tmp_path / "model")
