"""Checks before training: what is refused, what is reported, and that nothing is written."""

import csv
import json

import pytest

from conftest import sentences, write_csv
from regard.errors import ConfigError, DataError
from regard.finetuning.check import check


def messages(values):
    return [finding.message for finding in check(values).findings]


def warnings(values):
    return [finding.message for finding in check(values).warnings]


def refusal(values, error=DataError):
    with pytest.raises(error) as caught:
        check(values)
    return str(caught.value)


@pytest.fixture
def train(values, tmp_path):
    """Writes training rows, and points the configuration at them."""

    def write(rows):
        path = write_csv(tmp_path / "train.csv", rows)
        values["data"]["train"] = str(path)
        return path

    return write


def test_good_data_is_told_in_figures(values):
    assert messages(values) == [
        "train: 200 rows: negative 100 (50%), positive 100 (50%)",
        "validation: 40 rows: negative 20 (50%), positive 20 (50%)",
        "test: 80 rows: negative 40 (50%), positive 40 (50%)",
        "no text is in more than one of train, validation, test",
        "train: every text fits; the longest has 23 tokens, the model reads 32",
        "validation: every text fits; the longest has 23 tokens, the model reads 32",
        "test: every text fits; the longest has 23 tokens, the model reads 32",
    ]
    assert not warnings(values)


def test_nothing_is_written(values, tmp_path):
    check(values)
    assert list(tmp_path.iterdir()) == []


def test_the_result_is_json(values):
    told = json.loads(json.dumps(check(values).to_dict()))
    assert told["rows"] == {"train": 200, "validation": 40, "test": 80}
    assert told["spec"] == {"labels": ["negative", "positive"]}


def test_fractions_are_set_aside(values):
    values["data"] |= {"validation": 0.2, "test": 0.1}
    rows = check(values).rows
    assert rows == {"train": 144, "validation": 40, "test": 16}


def test_too_few_rows_to_set_aside(values, train):
    path = train([("same", "negative"), ("Same", "positive")])
    values["data"]["validation"] = 0.5
    expected = (
        f"{path}: need enough different rows to set some aside; got 1; add rows, or name a file in data.validation."
    )
    assert refusal(values) == expected


@pytest.mark.parametrize(("cell", "said"), [("", "a text in each row; got none"), ("label", "a label in each row")])
def test_a_row_is_told_by_its_number_in_the_file(values, tmp_path, cell, said):
    path = tmp_path / "t.jsonl"
    rows = [{"sentence": text, "sentiment": label} for text, label in sentences(60, seed=3)]
    rows[47] |= {"sentiment": None} if cell else {"sentence": None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values["data"] |= {"train": str(path), "validation": 0.3, "test": 0.3}
    for seed in range(3):
        told = refusal(values | {"seed": seed})
        assert told.startswith(f"{path}: need {said}")
        assert "got none in row 48;" in told


def test_cells_that_stand_for_nothing_are_no_labels_in_silence(values, tmp_path):
    path = tmp_path / "t.csv"
    values["data"] |= {"train": str(path), "validation": 0.2, "test": 0.2}
    numbers = [[0.5, 1.5, 2.25][n % 3] for n in range(60)]
    for wrong, told in (
        ("nan", "need a number in each row; got 'nan' in row 8; correct it, or set options.kind to single or multi."),
        ("-inf", "need a number in each row; got '-inf' in row 8; correct it, or set options.kind to single or multi."),
        (
            "1e300",
            "need numbers up to 1e+30, which models compute with; got '1e300' in row 8; change the unit, or set "
            "options.kind to single.",
        ),
    ):
        numbers[7] = wrong
        write_csv(path, [(text, number) for (text, _), number in zip(sentences(60, seed=3), numbers, strict=True)])
        assert refusal(values) == f"{path}: {told}"
    write_csv(path, [(text, ["good", "NaN"][n % 2]) for n, (text, _) in enumerate(sentences(60, seed=3))])
    told = [finding.message for finding in check(values).warnings if "label 'NaN', of" in finding.message]
    assert len(told) == 1
    assert told[0].endswith(
        " is how programs write that there is none; it counts as a class: drop its rows if it is none"
    )


def test_one_label(values, train):
    path = train([("a", "positive"), ("b", "positive")])
    assert refusal(values) == (
        f"{path}: need at least two labels in column 'sentiment'; got 'positive' alone; add rows of another label or "
        "name another column in data.columns.label."
    )


def test_a_column_that_is_no_label(values, train):
    path = train([(f"text {n}", f"id {n}") for n in range(20)])
    assert refusal(values) == (
        f"{path}: need a label for each class in column 'sentiment'; got 20 in 20 rows; name another column in "
        "data.columns.label."
    )


def test_a_label_that_training_does_not_know(values, tmp_path):
    path = write_csv(tmp_path / "odd.csv", [("a film", "negative"), ("the film", "neutral")])
    values["data"]["test"] = str(path)
    assert refusal(values) == (
        f"{path}: need labels that are in {values['data']['train']} too ('negative', 'positive'); got 'neutral' in row "
        "2; correct it, or add training rows of it."
    )


def test_empty_table(values, train):
    path = train([])
    assert refusal(values) == f"{path}: need rows to work on; got a table without any; choose another file."


def test_cells_that_are_missing(values, train):
    path = train([("a", "negative"), ("b", " ")])
    assert refusal(values) == f"{path}: need a label in each row; got none in row 2; fill it in or drop the row."


@pytest.mark.parametrize(("cell", "kind"), [("null", "none"), ("3", "a value of type int")])
def test_texts_that_are_none(values, tmp_path, cell, kind):
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"sentence": {cell}, "sentiment": "negative"}}\n')
    values["data"]["test"] = str(path)
    assert refusal(values) == f"{path}: need a text in each row; got {kind} in row 1; fill it in or drop the row."


def test_labels_that_are_numbers_are_in_their_order(values, tmp_path):
    rows = [{"sentence": text, "sentiment": n % 11} for n, (text, _) in enumerate(sentences(220, seed=3))]
    for name in ("train", "validation", "test"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        values["data"][name] = str(path)
    assert check(values).spec.labels == [str(n) for n in range(11)]


def test_repeated_and_contradictory_texts(values, train):
    train([*sentences(40, seed=2), ("the plot", "negative"), ("The  plot", "positive"), ("a film", "positive")] * 2)
    told = warnings(values)
    assert "train: 42 texts are there more than once (first in rows 1 and 44); they count more than once" in told
    assert "train: 1 texts carry different labels (first in rows 41 and 42); no model can learn both" in told


def test_texts_shared_between_splits(values, train, tables):
    rows = [*sentences(40, seed=2), *sentences(320, seed=1)[240:243]]
    train(rows)
    assert warnings(values) == [
        "test: 3 texts are in train too (first: row 1 of test is row 41 of train); the score on test is too good to be "
        "true until they are removed"
    ]


def test_imbalance_and_rare_labels(values, train):
    rows = sentences(200, seed=2)
    train([r for r in rows if r[1] == "positive"] + [r for r in rows if r[1] == "negative"][:4])
    assert warnings(values) == [
        "train: label 'negative' has 4 rows; a class needs more to be learned",
        "train: 'positive' is 25 times as frequent as 'negative'; look at macro F1, and try options.class_weights: "
        "balanced, which gives the loss a weight of 13 for 'negative', 0.52 for 'positive'",
    ]


def test_a_label_that_validation_lacks(values, tmp_path):
    rows = [row for row in sentences(40, seed=9) if row[1] == "positive"]
    values["data"]["validation"] = str(write_csv(tmp_path / "v.csv", rows))
    assert "validation: 20 rows, none of label 'negative': negative 0 (0%), positive 20 (100%)" in warnings(values)


def test_empty_texts(values, train):
    train([*sentences(40, seed=2), ("", "negative"), ("  ", "positive")])
    assert warnings(values) == ["train: 2 texts are empty (first in row 41); they teach nothing"]


def test_long_texts_are_counted(values, train):
    rows = [*sentences(40, seed=2), ("film " * 40, "negative"), ("film " * 50, "positive"), ("film " * 30, "negative")]
    train(rows)
    tokens = sum(len(text.split()) + 2 for text, _ in rows)
    assert warnings(values) == [
        "train: 2 of 43 texts are longer than the 32 tokens read (the longest has 52); their ends are cut off, 30 of "
        f"{tokens} tokens ({30 / tokens:.1%})"
    ]
    values["data"]["max_length"] = 10
    assert "of 43 texts are longer than the 10 tokens read (the longest has 52)" in warnings(values)[0]


def test_long_texts_can_be_refused(values, train):
    train([*sentences(40, seed=2), ("film " * 40, "negative")])
    values["data"]["too_long"] = "refuse"
    assert refusal(values) == (
        "train: need texts of at most 32 tokens; got 1 of 41 texts are longer than the 32 tokens read (the longest has "
        "42); split them, or set data.too_long to cut."
    )


def test_more_tokens_than_the_model_reads(values):
    values["data"]["max_length"] = 33
    assert refusal(values, ConfigError) == (
        "data.max_length: need at most 32, the tokens that this model can read; got 33; lower it or leave it out."
    )


def test_a_model_without_a_tokenizer(values, tiny, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    values["model"] = str(folder)
    assert refusal(values, ConfigError) == (
        f"model: need a tokenizer beside the model; got '{folder}' without one; copy tokenizer.json and "
        "tokenizer_config.json of the model it was trained from there."
    )


def test_a_directory_without_a_model(values, tmp_path):
    values["model"] = str(tmp_path)
    assert refusal(values, ConfigError) == (
        "model: need a directory with a config.json, package:NAME/PATH, or a name on the hub that can be reached; got "
        f"'{tmp_path}'; correct the name or the path."
    )


def test_the_length_that_roberta_reads_leaves_out_padding_positions():
    from transformers import BertConfig, RobertaConfig

    from regard.finetuning.tasks.texts.tokenizing import _positions

    assert _positions(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert _positions(BertConfig(max_position_embeddings=512, pad_token_id=0)) == 512


@pytest.mark.parametrize(
    "spoiled", ["caf\u00c3\u00a9", "\ufffd", "it\u00e2\u20ac\u2122s", "\u00e2\u0080\u0099", "a\x00b"]
)
def test_signs_of_a_wrong_encoding(values, train, spoiled):
    train([*sentences(40, seed=2), (f"the film {spoiled} plot", "negative")])
    found = [warning for warning in warnings(values) if "encoding" in warning]
    assert len(found) == 1
    assert found[0].startswith("train: 1 texts hold signs of a wrong encoding (first ")
    assert found[0].endswith(
        " in row 41); read the original again, in the encoding that it was written in"
    )  # fmt: skip


def test_other_languages_are_no_wrong_encoding():
    from regard.finetuning.tasks.texts.wording import SPOILED

    for text in (
        "\u00abcaf\u00e9\u00bb",
        "Stra\u00dfe, \u00c4rger",
        "na\u00efve",
        "\u6f22\u5b57",
        "\u0645\u0631\u062d\u0628\u0627",
        "5 \u20ac, 3 \u00b0C\ttab\n",
    ):
        assert not SPOILED.search(text)


def test_words_that_the_tokenizer_does_not_know(values, train):
    train([*sentences(40, seed=2), *((f"unheard of words number {n}", "negative") for n in range(10))])
    told = [warning for warning in warnings(values) if "unknown" in warning]
    assert len(told) == 1
    assert told[0].startswith("train: 40 of ")
    assert told[0].endswith("; choose a model of this language and script")


def test_labels_in_several_spellings(values, train):
    values["data"] |= {"validation": 0.2, "test": None}
    train(
        [
            *sentences(40, seed=2),
            *((f"plot {n}", "Positive ") for n in range(20)),
            *((f"film {n}", "good") for n in range(20)),
        ]
    )
    assert (
        "train: 1 labels are written in several ways (first: 'Positive ', 'positive'); each counts as a class of its "
        "own: write it in one way"
    ) in warnings(values)


def test_the_speed_follows_from_the_size_of_the_model_and_the_data(values, monkeypatch):
    """The tiny model multiplies 2 layers of 4 * 32 * 32 + 2 * 32 * 64 parameters, and those of a pooler."""
    from regard.finetuning.configure import load_config
    from regard.finetuning.training import speed

    values["train"] |= {"epochs": 3, "batch_size": 10}
    monkeypatch.setattr(speed, "peak", lambda precision: 1e9)
    predicted = speed.predict_speed(load_config(values), [5, 15] * 50)
    parameters = 2 * (4 * 32 * 32 + 2 * 32 * 64) + 32 * 32
    operations = 3 * (2 * parameters + 4 * 2 * 32 * (25 + 225) / 20)
    assert predicted.tokens == 3000
    assert predicted.tokens_per_second == pytest.approx(0.6e9 / operations)
    assert predicted.seconds == pytest.approx(3000 / predicted.tokens_per_second)
    values["train"] |= {"max_steps": 7}
    assert speed.predict_speed(load_config(values), [5, 15] * 50).tokens == 700
    assert speed.predict_speed(load_config(values), []) is None


def test_durations_are_told_in_units_that_a_person_reads():
    from regard.finetuning.prepared import Speed

    for seconds, told in ((3.2, "3 s"), (119, "119 s"), (120, "2 min"), (3 * 3600, "3 h")):
        assert str(Speed(1000, 50.0, seconds)).startswith(f"about {told} of training: 1,000 tokens at some 50 a second")


def test_the_speed_is_in_the_table_and_in_json(values):
    found = check(values)
    assert found.to_dict()["speed"]["tokens"] == found.speed.tokens > 0
    assert found.speed.tokens_per_second > 0


def test_texts_that_a_model_of_blocks_attends_to_in_full(values, tmp_path):
    import transformers

    words = transformers.AutoTokenizer.from_pretrained(values["model"])
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BigBirdConfig(
        vocab_size=len(words), max_position_embeddings=32, block_size=2, num_random_blocks=1, sep_token_id=3, **sizes
    )
    for kind, expected in (("block_sparse", True), ("original_full", False)):
        config.attention_type = kind
        transformers.BigBirdModel(config).save_pretrained(tmp_path / kind)
        words.save_pretrained(tmp_path / kind)
        values["model"] = str(tmp_path / kind)
        told = [each for each in warnings(values) if "attended to in full" in each]
        assert [each.partition(" texts")[0] for each in told] == (
            [f"{name}: {short(values, name)} of {count}" for name, count in COUNTS.items()] if expected else []
        )
    assert not told


COUNTS = {"train": 200, "validation": 40, "test": 80}


def short(values, name):
    """Texts of 14 tokens at most, `[CLS]` and `[SEP]` with them."""
    with open(values["data"][name], encoding="utf-8") as file:
        return sum(len(row["sentence"].split()) <= 12 for row in csv.DictReader(file))
