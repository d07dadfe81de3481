"""Pictures as sequences: what is in a photograph of clothing, by attention between its patches.

A picture becomes a sequence when it is cut into squares: 28 x 28 pixels are 49 patches of 4 x 4. Each patch attends to
the others, wherever they are, and a vector that belongs to no patch, the class token, gathers what is needed to tell
sandals from sneakers. What it attends to can be laid over the picture.

    python examples/keras/images.py [--digits] [--fast] [--output FOLDER]

The photographs are Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747; MIT licence), from Debian's package
`dataset-fashion-mnist` (31 MB, once). Without Debian: `--digits` takes scikit-learn's scanned digits, which are there.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import regard
from regard.inspection import plots
from regard.inspection.keras import AttentionMonitor
from regard.inspection.patches import patch_map
from regard.nn.keras import Encoder

sys.path.append(str(Path(__file__).parents[1]))
from _fashion import CLOTHES, ELSEWHERE, clothes

UNITS, BATCH = 64, 64
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def photographs() -> Split:
    """60,000 pictures for training and 10,000 for the test, numbers in 0..1, and what they show."""
    (train, labels), (test, test_labels) = (
        clothes(part, f"{ELSEWHERE[:-1]}, or run with --digits.") for part in ("train", "t10k")
    )
    return train / np.float32(255), test / np.float32(255), labels, test_labels


def digits() -> Split:
    pixels, names = load_digits(return_X_y=True)
    pictures = pixels.reshape(-1, 8, 8).astype("float32") / 16
    return tuple(train_test_split(pictures, names, test_size=0.25, random_state=0, stratify=names))


class ClassToken(keras.layers.Layer):
    """Puts one learned vector, the same for each picture, before the patches: `(B, T, d)` to `(B, 1 + T, d)`."""

    def build(self, shape: tuple) -> None:
        self.token = self.add_weight((1, 1, shape[-1]), initializer="zeros", name="token")

    def call(self, patches: keras.KerasTensor) -> keras.KerasTensor:
        token = keras.ops.broadcast_to(self.token, (keras.ops.shape(patches)[0], 1, patches.shape[-1]))
        return keras.ops.concatenate([token, patches], axis=1)


def build(size: int, patch: int, steps: int) -> keras.Model:
    """For pictures of `size` x `size` pixels in patches of `patch` x `patch`, trained for so many steps."""
    pictures = keras.Input((size, size))
    # 1. Patches: a convolution that steps by its own width is one and the same dense layer for each patch.
    states = keras.layers.Reshape((size, size, 1))(pictures)
    states = keras.layers.Conv2D(UNITS, patch, strides=patch)(states)
    # 2. In a row, as words are, with the class token before them. Positions are learned: they stand for places.
    states = ClassToken()(keras.layers.Reshape((-1, UNITS))(states))
    # 3. The encoder: each position looks at all others.
    states = Encoder(layers=3, units=UNITS, heads=4, hidden_units=128, max_length=1 + (size // patch) ** 2)(states)
    # 4. What the class token has gathered decides.
    model = keras.Model(pictures, keras.layers.Dense(10)(states[:, 0]))
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps, warmup_target=2e-3, warmup_steps=steps // 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), loss, metrics=["accuracy"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", action="store_true", help="scanned digits, which need no download")
    parser.add_argument("--fast", action="store_true", help="fewer pictures, to see that it runs")
    parser.add_argument("--output", type=Path, default=Path("runs/keras-images"), metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    train, test, train_labels, test_labels = digits() if arguments.digits else photographs()
    names = [str(digit) for digit in range(10)] if arguments.digits else CLOTHES
    size, patch, epochs = (8, 2, 60) if arguments.digits else (28, 4, 4)
    if arguments.fast:
        train, train_labels, epochs = train[:6000], train_labels[:6000], 20 if arguments.digits else 4
    steps = epochs * -(-len(train) // BATCH)
    model = build(size, patch, steps)
    monitor = AttentionMonitor(test[:16], every=max(1, steps // 20))
    model.fit(train, train_labels, batch_size=BATCH, epochs=epochs, verbose=2, callbacks=[monitor])

    # The metric, beside a linear model of the same pixels and the commonest answer.
    found = model.predict(test, batch_size=500, verbose=0).argmax(-1)
    linear = LogisticRegression(max_iter=1000, tol=3e-3).fit(train.reshape(len(train), -1), train_labels)
    commonest = np.bincount(test_labels).max() / len(test)
    print(
        f"accuracy {np.mean(found == test_labels):.3f}; logistic regression of the pixels "
        f"{linear.score(test.reshape(len(test), -1), test_labels):.3f}; commonest {commonest:.3f}"
    )
    for label, name in enumerate(names):
        print(f"  {name:10} {np.mean(found[test_labels == label] == label):.3f}")

    look(model, test, test_labels, found, names, arguments.output)
    monitor.plot(arguments.output / "training.png")
    print(f"Written: {arguments.output}/attention.png, training.png")


def look(
    model: keras.Model, pictures: np.ndarray, labels: np.ndarray, found: np.ndarray, names: list, output: Path
) -> None:
    """Watch the model on one picture of each kind: where does the class token look?"""
    chosen = [int(np.flatnonzero((labels == label) & (found == label))[0]) for label in range(10)]
    shown = pictures[chosen]
    with regard.watch(model) as seen:
        model(shown)
    shares = patch_map(keras.ops.convert_to_numpy(seen.rollout(0)))  # what the class token has from each patch
    plots.image_overlays(1 - shown, shares, names, path=output / "attention.png")


if __name__ == "__main__":
    main()
