"""Sequences of varying length: which digit is it, when only its first rows have arrived?

A scanned digit has 8 rows of 8 pixels. Read from above, row after row, it is a sequence of 8 vectors; stop early, and
it is a shorter one. One small encoder learns to name digits from 3, 4, ... 8 rows. What sequences of different lengths
need is a mask: short ones are padded to the longest of the batch, and nobody may attend to padding.

    python examples/keras/lengths.py [--fast] [--output FOLDER]
"""

import argparse
import os
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
from regard.inspection.report import Curve
from regard.nn.keras import Encoder

ROWS = range(3, 9)  # how many rows may have arrived
UNITS, BATCH = 64, 128
PADDING = -1.0  # a value that no pixel has: an empty row of a digit is zero, and not padding


def cut(digits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every digit at every length: `(6 n, 8, 8)`, padded at the end, with the labels to go with it."""
    cuts = [np.where(np.arange(8)[:, None] < rows, digits, PADDING) for rows in ROWS]
    return np.concatenate(cuts).astype("float32"), np.tile(labels, len(ROWS))


def build(steps: int) -> keras.Model:
    """Trained for so many steps, with smaller and smaller ones."""
    rows = keras.Input(shape=(None, 8))  # any number of rows of 8 pixels
    # 1. Masking marks the padding; every layer below is told, and attends to real rows alone.
    states = keras.layers.Masking(PADDING)(rows)
    # 2. Each row becomes a vector of 64 numbers: its embedding.
    states = keras.layers.Dense(UNITS)(states)
    # 3. The encoder lets rows look at each other, twice. Positions are learned: attention alone knows no order.
    states = Encoder(layers=2, units=UNITS, heads=4, max_length=8, dropout=0.1)(states)
    # 4. The mean of the real rows, and from it the ten digits.
    pooled = keras.layers.GlobalAveragePooling1D()(states)
    model = keras.Model(rows, keras.layers.Dense(10)(pooled))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)), loss, metrics=["accuracy"]
    )
    return model


def by_rows(right: np.ndarray) -> list[float]:
    """Accuracy for each number of rows, from what was right in the order of `cut`."""
    return right.reshape(len(ROWS), -1).mean(1).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a shorter training, to see that it runs")
    parser.add_argument("--output", type=Path, default=Path("runs/keras-lengths"), metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    # Whole digits are held out, not single cuts: the model has seen no part of a test digit.
    pixels, names = load_digits(return_X_y=True)
    digits = pixels.reshape(-1, 8, 8) / 16
    train_digits, test_digits, train_names, test_names = train_test_split(
        digits, names, test_size=0.25, random_state=0, stratify=names
    )
    train, train_labels = cut(train_digits, train_names)
    test, test_labels = cut(test_digits, test_names)

    epochs = 5 if arguments.fast else 40
    model = build(epochs * -(-len(train) // BATCH))
    shown = test[:: len(test) // 16][:16]
    monitor = AttentionMonitor(shown, every=100, real=shown[:, :, 0] != PADDING)
    model.fit(
        train, train_labels, batch_size=BATCH, epochs=epochs, verbose=2, callbacks=[monitor]
    )  # fmt: skip

    # The metric, beside what a linear model makes of the same numbers: one for each length, as it knows no masks.
    found = by_rows(model.predict(test, verbose=0).argmax(-1) == test_labels)
    linear = [
        LogisticRegression(max_iter=2000)
        .fit(train_digits[:, :rows].reshape(len(train_digits), -1), train_names)
        .score(test_digits[:, :rows].reshape(len(test_digits), -1), test_names)
        for rows in ROWS
    ]
    for rows, ours, theirs in zip(ROWS, found, linear, strict=True):
        print(f"{rows} rows: accuracy {ours:.3f}; logistic regression for {rows} rows {theirs:.3f}")
    commonest = np.bincount(test_names).max() / len(test_names)
    print(f"accuracy {np.mean(found):.3f}; logistic regressions {np.mean(linear):.3f}; commonest digit {commonest:.3f}")
    look(model, test_digits, test_names, arguments.output)
    series = {"one encoder": found, "a logistic regression for each": linear}
    points = {name: list(zip(ROWS, values, strict=True)) for name, values in series.items()}
    plots.training_curves([Curve("", "rows seen", "accuracy", points)], path=arguments.output / "accuracy.png")
    monitor.plot(arguments.output / "training.png")
    print(f"Written: {arguments.output}/attention.png, accuracy.png, training.png")


def look(model: keras.Model, digits: np.ndarray, names: np.ndarray, output: Path) -> None:
    """Which rows do the others look at? Watch the model while it runs as it always does."""
    with regard.watch(model) as seen:
        model(digits)
    received = keras.ops.convert_to_numpy(seen.received()).mean((0, 2))  # (digits, rows), mean of layers and heads
    chosen = [int(np.flatnonzero(names == name)[0]) for name in range(10)]
    titles = [f"a {name}" for name in range(10)]
    plots.image_overlays(1 - digits[chosen], received[chosen, :, None], titles, path=output / "attention.png")


if __name__ == "__main__":
    main()
