"""Text, from nothing: is a sentence of a movie review kind or unkind?

Each word becomes a vector (its embedding), attention lets words look at each other ("not" at "good"), and the mean of
what comes out decides. Nothing is pretrained: 8,070 sentences are all that this model ever reads.

    python examples/keras/text.py [--fast] [--output FOLDER]

The sentences are those of examples/sentiment, which says where they come from; they are fetched once.
"""

import argparse
import csv
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import regard
from regard.inspection import plots
from regard.inspection.keras import AttentionMonitor
from regard.nn.keras import Encoder

sys.path.append(str(Path(__file__).parents[1]))
from sentiment import get_data

DATA = Path("data/sentiment")
WORDS = 10_000  # how many different words are told apart
LENGTH = 48  # words of a sentence that are read
UNITS = 64
SENTENCE = "the plot is thin and predictable , but the actors are wonderful"


def read(part: str) -> tuple[list[str], np.ndarray]:
    """Sentences, and 1 for each that is positive."""
    with (DATA / f"{part}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["sentence"] for row in rows], np.array([float(row["sentiment"] == "positive") for row in rows])


def build(vocabulary: list[str]) -> keras.Model:
    words = keras.Input((None,), dtype="int32")  # numbers of words; 0 is padding
    # 1. Each word's number becomes a vector; mask_zero tells all layers below which positions are padding.
    states = keras.layers.Embedding(len(vocabulary), UNITS, mask_zero=True)(words)
    states = keras.layers.Dropout(0.5)(states)
    # 2. The encoder: 4 heads, each of which lets each word look at all words of its sentence.
    states = Encoder(layers=1, units=UNITS, heads=4, hidden_units=128, max_length=LENGTH, dropout=0.3)(states)
    # 3. The mean of the words, and from it one number: how likely the sentence is kind.
    pooled = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling1D()(states))
    model = keras.Model(words, keras.layers.Dense(1, activation="sigmoid")(pooled))
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a shorter training, to see that it runs")
    parser.add_argument("--output", type=Path, default=Path("runs/keras-text"), metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    get_data.main(DATA)
    (train, kind), (validation, validation_kind), (test, test_kind) = map(read, ("train", "validation", "test"))
    numbers = keras.layers.TextVectorization(max_tokens=WORDS, output_sequence_length=LENGTH)
    numbers.adapt(train)
    train_words, validation_words, test_words = (np.asarray(numbers(part)) for part in (train, validation, test))

    model = build(numbers.get_vocabulary())
    monitor = AttentionMonitor(test_words[:16], every=50, real=test_words[:16] > 0)
    best = keras.callbacks.EarlyStopping("val_accuracy", patience=3, restore_best_weights=True)
    model.fit(
        train_words, kind, batch_size=64, epochs=3 if arguments.fast else 12, verbose=2,
        validation_data=(validation_words, validation_kind), callbacks=[monitor, best],
    )  # fmt: skip

    # The metric, beside what counting words without their order can do, and the commonest answer.
    accuracy = model.evaluate(test_words, test_kind, verbose=0)[1]
    counted = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000)).fit(train, kind)
    commonest = max(test_kind.mean(), 1 - test_kind.mean())
    print(
        f"accuracy {accuracy:.3f}; logistic regression of word counts {counted.score(test, test_kind):.3f}; "
        f"commonest {commonest:.3f}"
    )
    look(model, numbers, arguments.output)
    monitor.plot(arguments.output / "training.png")
    print(f"Written: {arguments.output}/attention.png, words.png, training.png")


def look(model: keras.Model, numbers: keras.layers.Layer, output: Path) -> None:
    """Watch the model on one sentence: who looks at whom, and which words matter."""
    words = np.asarray(numbers([SENTENCE]))
    names = [numbers.get_vocabulary()[number] for number in words[0] if number]
    count = len(names)
    with regard.watch(model, values=True) as seen:
        kind = float(model(words)[0, 0])
    print(f"{SENTENCE!r} is kind with probability {kind:.2f}")
    plots.heat_map(
        keras.ops.convert_to_numpy(seen[0][0, :, :count, :count]).mean(0),
        names, names, "Who looks at whom, mean of the heads", path=output / "attention.png",
    )  # fmt: skip
    # A word that is much looked at may say little: weigh what it gets by the length of what it contributes.
    received = keras.ops.convert_to_numpy(seen.received(by_value=True))[0, 0, :, :count].sum(0)
    plots.tokens(names, received / received.sum(), "Share of what each word contributes", path=output / "words.png")


if __name__ == "__main__":
    main()
