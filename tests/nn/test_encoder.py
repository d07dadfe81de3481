"""Encoders in Keras, on its three backends."""

import pytest

from nn import keras_process

CHECKS = {
    "the formulas of a block": """
        states = keras.ops.convert_to_tensor(random.random((2, 7, 12), dtype="float32"))
        for norm in ("pre", "post"):
            block = EncoderBlock(12, 3, 20, norm=norm, activation="relu")
            output = block(states)
            norms, attend = (block.attention_norm, block.network_norm), lambda x: block.attention(x, x)
            network = lambda x: block.output_dense(block.hidden(x))
            assert block.hidden.units == 20
            if norm == "pre":
                middle = states + attend(norms[0](states))
                close(output, middle + network(norms[1](middle)))
            else:
                middle = norms[0](states + attend(states))
                close(output, norms[1](middle + network(middle)))
    """,
    "positions": """
        states = np.zeros((1, 9, 6), "float32")
        added = numpy(Encoder(0, 6, 2, positions="sinusoidal", norm="post")(states))[0]
        for position in range(9):
            for pair in range(3):
                angle = position / 10000 ** (2 * pair / 6)
                close(added[position, [pair, 3 + pair]], np.array([np.sin(angle), np.cos(angle)]), atol=1e-5)
        learned = Encoder(0, 6, 2, positions="learned", max_length=10, norm="post")
        close(learned(states)[0], learned.learned[:9])
        close(Encoder(0, 6, 2, positions=None, norm="post")(states), states)
        refused(
            ShapeError,
            "Encoder: need at most max_length=10 learned positions; got 11; raise max_length, or choose "
            "positions='sinusoidal' or 'rotary'.",
            lambda: learned(np.zeros((1, 11, 6), "float32")),
        )
    """,
    "rotary positions know distances only": """
        block = EncoderBlock(12, 3, rotary=True)
        same = np.repeat(random.random((1, 1, 12), dtype="float32"), 9, axis=1)
        weights = block.attention.attend(same, same).weights
        dense = numpy(weights.dense())
        ratios = np.log(dense[..., 1:, 1:]) - np.log(dense[..., :-1, :-1])
        close(ratios - ratios[..., :1], np.zeros_like(ratios), atol=1e-5)  # shifted, but for the softmax's sum
        assert np.ptp(dense, axis=-1).max() > 1e-3
        plain = EncoderBlock(12, 3).attention
        close(plain.attend(same, same).weights.dense(), np.full((1, 3, 9, 9), 1 / 9))
        query = random.random((1, 1, 5, 4))
        turned = numpy(__import__("regard.nn.keras.encoder", fromlist=["turned"]).turned(query))
        for position in range(5):
            for pair in range(2):
                number = complex(query[0, 0, position, pair], query[0, 0, position, pair + 2])
                expected = number * np.exp(1j * position / 10000 ** (2 * pair / 4))
                close(turned[0, 0, position, [pair, pair + 2]], np.array([expected.real, expected.imag]), atol=1e-6)
    """,
    "padding and the future do not matter": """
        ids = np.array([[1, 2, 3, 0, 0], [3, 4, 5, 6, 7]])
        for positions in ("learned", "sinusoidal", "rotary", None):
            for norm in ("pre", "post"):
                embedding = keras.layers.Embedding(9, 12, mask_zero=True)
                encoder = Encoder(2, 12, 3, positions=positions, norm=norm)
                inputs = keras.Input((None,), dtype="int32")
                states = encoder(embedding(inputs))
                model = keras.Model(inputs, [states, keras.layers.GlobalAveragePooling1D()(states)])
                states, pooled = model(ids)
                close(model(ids[:1, :3])[0], states[:1, :3])
                close(pooled[0], numpy(states)[0, :3].mean(0))
        encoder = Encoder(2, 12, 3, causal=True)
        states = random.random((1, 7, 12), dtype="float32")
        changed = states.copy()
        changed[:, 4:] = random.random((1, 3, 12))
        close(encoder(changed)[:, :4], encoder(states)[:, :4])
        assert not np.allclose(numpy(encoder(changed))[:, 4:], numpy(encoder(states))[:, 4:], atol=1e-3)
    """,
    "trained, saved, loaded, with dropout": """
        inputs = keras.Input((None,), dtype="int32")
        states = keras.layers.Embedding(9, 12, mask_zero=True)(inputs)
        encoder = Encoder(2, 12, 3, 16, positions="learned", max_length=20, norm="post", dropout=0.1, activation="relu")
        states = EncoderBlock(12, 3, rotary=True)(encoder(states))
        pooled = keras.layers.GlobalAveragePooling1D()(states)
        model = keras.Model(inputs, keras.layers.Dense(1)(pooled))
        model.compile(keras.optimizers.Adam(1e-2), "mse")
        ids = random.integers(1, 9, (32, 7))
        losses = model.fit(ids, (ids == 3).mean(1), epochs=8, batch_size=16, verbose=0).history["loss"]
        assert losses[-1] < losses[0] / 2, losses
        before = model.predict(ids, verbose=0)
        model.save(path)
        again = keras.models.load_model(path)
        np.testing.assert_array_equal(again.predict(ids, verbose=0), before)
        assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
        assert abs(numpy(model(ids, training=True)) - before).max() > 1e-4
    """,
    "watched": """
        inputs = keras.Input((7, 12))
        states = Encoder(2, 12, 3, positions="rotary")(inputs)
        states, weights = AttentionLayer(12, similarity="cosine")(states)
        model = keras.Model(inputs, [states, weights, MultiHeadAttention(3, 4)(states, states)])
        batch = random.random((2, 7, 12), dtype="float32")
        before = [numpy(array) for array in model(batch)]
        with regard.watch(model, values=True) as seen:
            watched = [numpy(array) for array in model(batch)]
        assert all((one == two).all() for one, two in zip(before, watched))
        ends = [name.split("/")[-2:] for name in seen.names]
        assert ends[:2] == [["block_0", "attention"], ["block_1", "attention"]], seen.names
        assert [each.shape for each in seen] == [(2, 3, 7, 7)] * 2 + [(2, 1, 7, 7), (2, 3, 7, 7)]
        close(seen[2][:, 0].dense(), before[1])
        block = model.layers[1].blocks[0]
        normed = block.attention_norm(batch)
        close(seen[0].dense(), block.attention.attend(normed, normed).weights.dense())
        assert seen.only("*block*").norms().shape == (2, 2, 3, 7)
        assert seen.only("attention_layer*").norms().shape == (1, 2, 1, 7)
        assert not any("_attention" in layer.__dict__ for layer in model._flatten_layers())
    """,
    "arguments that cannot be": """
        for kind in (EncoderBlock, lambda *given, **named: Encoder(1, *given, **named)):
            name = "EncoderBlock" if kind is EncoderBlock else "Encoder"
            refused(
                ConfigError, f"{name}: need units that heads divide; got units=10, heads=3.", lambda: kind(10, 3)
            )
            refused(
                ConfigError, f"{name}: need norm to be one of 'pre', 'post'; got 'middle'.",
                lambda: kind(12, 3, norm="middle"),
            )
            refused(
                ShapeError,
                f"{name}: need inputs (B, T, units) with units=12; got (2, 7, 10); embed or project them to that "
                "width.",
                lambda: kind(12, 3)(np.zeros((2, 7, 10), "float32")),
            )
        refused(
            ConfigError,
            "Encoder: need positions to be one of 'learned', 'sinusoidal', 'rotary', None; got 'absolute'.",
            lambda: Encoder(1, 12, 3, positions="absolute"),
        )
        refused(
            ConfigError, "EncoderBlock: need heads of an even width for rotary positions; got units=9, heads=3.",
            lambda: EncoderBlock(9, 3, rotary=True),
        )
    """,
}


@pytest.mark.parametrize("backend", keras_process.BACKENDS)
def test_encoder(backend, tmp_path):
    keras_process.run(backend, CHECKS, tmp_path / "model.keras")
