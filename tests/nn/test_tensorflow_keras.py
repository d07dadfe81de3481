"""What Keras does on TensorFlow alone: compiled functions, lengths known as they run, SavedModel, several devices."""

import pytest

from nn import keras_process

MODELS = """
        import tensorflow as tf

        def model(name, length=None, **options):
            inputs = keras.Input((length, 12))
            states = keras.layers.Masking()(inputs)
            if name == "AttentionLayer":
                states, weights = AttentionLayer(12, heads=2, dropout=0.2)(states)
            elif name == "MultiHeadAttention":
                states, weights = MultiHeadAttention(3, 4, dropout=0.2)(
                    states, states, use_causal_mask=True, return_attention_scores=True
                )
            elif name == "statistics":
                states, found = AttentionLayer(12, encoder="recurrent", return_weights=("entropy", "received"))(states)
                weights = found["received"]
            else:
                states = weights = Encoder(1, 12, 3, positions="rotary", dropout=0.1, causal=True)(states)
            model = keras.Model(inputs, [keras.layers.GlobalAveragePooling1D()(states), weights])
            model.compile("sgd", loss=["mse", None], **options)
            return model

        names = ("AttentionLayer", "MultiHeadAttention", "statistics", "Encoder")
        batch = random.random((4, 11, 12), dtype="float32")
        batch[1:3, 7:] = 0
"""
CHECKS = {
    "lengths that differ from batch to batch, exported and loaded": MODELS
    + """
        def batches():
            for length in (11, 7, 13):
                yield random.random((2, length, 12), dtype="float32"), random.random((2, 12), dtype="float32")

        kinds = (tf.TensorSpec((None, None, 12)), tf.TensorSpec((None, 12)))
        for name in names:
            trained = model(name, jit_compile=False)
            data = tf.data.Dataset.from_generator(batches, output_signature=kinds)
            assert np.isfinite(trained.fit(data, verbose=0).history["loss"]).all()
            trained.export(path, verbose=False)
            loaded = tf.saved_model.load(path)
            for length in (11, 9):
                for one, two in zip(trained(batch[:, :length]), loaded.serve(batch[:, :length])):
                    close(one, two, atol=1e-5)
    """,
    "compiled by XLA": MODELS
    + """
        for name in names:
            for length in (None, 11):
                trained = model(name, length, jit_compile=True)
                assert np.isfinite(trained.fit(batch, batch[:, 0], epochs=2, verbose=0).history["loss"]).all()
                for one, two in zip(trained.predict(batch, verbose=0), trained(batch)):
                    close(one, two, atol=1e-5)
    """,
    "dropout differs from step to step in one compiled function": """
        import tensorflow as tf
        states = tf.constant(random.random((2, 7, 12), dtype="float32"))
        for layer in (MultiHeadAttention(3, 4, dropout=0.5), AttentionLayer(12, dropout=0.5, return_weights=False)):
            layer(states, states)
            step = tf.function(lambda: layer(states, states, training=True))
            first, second = step(), step()
            assert step.experimental_get_tracing_count() == 1
            assert abs(numpy(first) - numpy(second)).max() > 1e-3
    """,
    "mirrored on two devices": MODELS
    + """
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        for name in names:
            with strategy.scope():
                trained = model(name)
            assert np.isfinite(trained.fit(batch, batch[:, 0], batch_size=2, verbose=0).history["loss"]).all()
            assert len(trained.trainable_variables[0]._value.values) == strategy.num_replicas_in_sync == 2
    """,
}
DEVICES = """
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu[0], [tf.config.LogicalDeviceConfiguration()] * 2)
"""


@pytest.mark.slow
def test_on_tensorflow(tmp_path):
    keras_process.run("tensorflow", {"two devices": DEVICES, **CHECKS}, tmp_path / "exported")
