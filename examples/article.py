"""The article's program on TensorFlow 2: an attention layer, a model around it, a random batch.

Run it: python examples/article.py

It prints what the article says should come out, the article's worked example put right, and draws the weights of
the first sequence into attention.png.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import regard
from regard.inspection import plots
from regard.nn.keras import AttentionLayer


def worked_example() -> None:
    """One query, one key, one value, each a 2-vector: the weight of a single key is 1, whatever its score."""
    query, key, value = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([[5.0, 6.0]])
    output, weights = regard.attention(query, key, value)
    score = float(query[0] @ key[0])
    print(f"score {score:.0f}, scaled {score / np.sqrt(2):.2f}, weight {weights[0, 0]:.0f}, output {output[0]}")


def build() -> keras.Model:
    """Any length: Input(shape=(None, 128))."""
    inputs = keras.Input(shape=(None, 128))
    output, weights = AttentionLayer(units=128)(inputs)
    model = keras.Model(inputs, [output, weights])
    model.compile(optimizer="adam", loss=["mean_squared_error", None])
    return model


def main() -> None:
    keras.utils.set_random_seed(0)
    worked_example()
    model = build()
    batch = tf.random.uniform((32, 10, 128))
    output, weights = model(batch)
    print("output", tuple(output.shape), "weights", tuple(weights.shape))
    print("rows of the weights sum to 1:", bool(np.allclose(tf.reduce_sum(weights, -1), 1, atol=1e-5)))

    losses = model.fit(batch, batch, epochs=5, batch_size=8, verbose=0).history["loss"]
    print("loss, learning to repeat its input:", " -> ".join(f"{loss:.3f}" for loss in losses))

    longer, _ = model(tf.random.uniform((2, 77, 128)))
    print("the same model on a longer sequence:", tuple(longer.shape))

    names = [f"position {number}" for number in range(10)]
    plots.heat_map(
        model(batch)[1][0].numpy(), names, names, title="What each position attends to", path="attention.png"
    )
    print("see attention.png")


if __name__ == "__main__":
    main()
