"""Labels as people write them: sets in lists, texts, places of 0 and 1 and columns; and names that hold commas."""

import csv
import json

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from regard.errors import ConfigError, DataError
from regard.finetuning.check import read_splits
from regard.finetuning.configure import load_config
from regard.finetuning.tasks import get_task
from regard.finetuning.tasks.targets import one_label, readings
from regard.finetuning.tasks.texts import text_classification as task

SETS = [["action"], ["drama", "comedy"], ["comedy", "drama"], [], ["action", "comedy", "drama"]]
NAMES = ["action", "comedy", "drama"]
ROWS = 100


def sets():
    return [SETS[n % 5] for n in range(ROWS)]


def hot(labels):
    return [int(name in labels) for name in NAMES]


def learned(path, label="label", **options):
    """What is learned of a file: the labels, the sets of each row by number of text, and what is told."""
    values = {"task": "text-classification", "model": "m", "output": "o", "options": options}
    config = load_config(
        {**values, "data": {"train": str(path), "validation": 0.2, "test": 0.2, "columns": {"label": label}}}
    )
    found = read_splits(config)
    spec, _ = task.inspect(found.tables, found.config)
    rows = {}
    for table in found.tables.values():
        rows |= {int(each.split()[-1]): cell for each, cell in zip(table["text"], table["label"], strict=True)}
    return spec, [rows[n] for n in range(ROWS)], [finding.message for finding in found.findings]


def write_csv(path, cells):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([f"film number {n}", cell] for n, cell in enumerate(cells))])
    return path


def write_jsonl(path, cells):
    path.write_text("".join(json.dumps({"text": f"film number {n}", "label": c}) + "\n" for n, c in enumerate(cells)))
    return path


def shuffled(labels):
    return labels[::-1] if len(labels) > 1 else labels


WRITTEN = {
    "pandas": str,
    "tuple": lambda labels: str(tuple(labels)),
    "set": lambda labels: str(set(labels)),
    "json": json.dumps,
    "numpy": lambda labels: str(np.array(labels, dtype=object)),
    "bare": lambda labels: f"[{', '.join(labels)}]",
    "semicolon": "; ".join,
    "bar": "|".join,
    "comma": ", ".join,
    "narrow comma": ",".join,
    "names": lambda labels: json.dumps(dict(zip(NAMES, hot(labels), strict=True))),
    "python names": lambda labels: str({name: name in labels for name in NAMES}),
}


@pytest.mark.parametrize("kind", ["auto", "multi"])
@pytest.mark.parametrize("way", WRITTEN)
def test_sets_written_as_text(tmp_path, way, kind):
    spec, rows, told = learned(write_csv(tmp_path / "t.csv", map(WRITTEN[way], sets())), kind=kind)
    assert spec.labels == NAMES
    assert list(map(sorted, rows)) == list(map(sorted, sets()))
    assert sum("(options.kind: multi)" in each and "such as" in each for each in told) == 1


def test_pandas_writes_them_so(tmp_path):
    frame = pandas.DataFrame({"text": [f"film number {n}" for n in range(ROWS)], "label": sets()})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        spec, rows, _ = learned(tmp_path / name)
        assert spec.dump() == {"kind": "multi", "labels": NAMES}
        assert rows == sets()


def test_what_is_told_of_lists_as_text(tmp_path):
    _, _, told = learned(write_csv(tmp_path / "t.csv", map(str, sets())))
    assert told[0] == (
        "train: the labels are lists written as text, such as \"['drama', 'comedy']\", read as 'drama', 'comedy', so a "
        "text may have several (options.kind: multi)"
    )
    _, _, told = learned(write_csv(tmp_path / "s.csv", map("|".join, sets())))
    assert told[0] == (
        "train: the labels are separated by '|', such as 'drama|comedy', read as 'drama', 'comedy', so a text may have "
        "several (options.kind: multi)"
    )


HOT = {
    "list": hot,
    "booleans": lambda labels: [bool(x) for x in hot(labels)],
    "numbers": lambda labels: [float(x) for x in hot(labels)],
    "text": lambda labels: str(hot(labels)),
    "array": lambda labels: str(np.array(hot(labels))),
    "array of numbers": lambda labels: str(np.array(hot(labels), float)),
    "spaces": lambda labels: " ".join(map(str, hot(labels))),
    "commas": lambda labels: ",".join(map(str, hot(labels))),
    "glued": lambda labels: "".join(map(str, hot(labels))),
}


@pytest.mark.parametrize("way", HOT)
@pytest.mark.parametrize("file", ["csv", "jsonl", "parquet"])
def test_vectors(tmp_path, way, file):
    cells = [HOT[way](labels) for labels in sets()]
    path = tmp_path / f"t.{file}"
    if file == "parquet":
        texts = [f"film number {n}" for n in range(ROWS)]
        pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": cells}), path)
    else:
        {"csv": write_csv, "jsonl": write_jsonl}[file](path, cells)
    spec, rows, told = learned(path, names=NAMES)
    assert spec.labels == NAMES
    assert list(map(sorted, rows)) == list(map(sorted, sets()))
    spec, rows, told = learned(path)
    assert spec.labels == ["0", "1", "2"]
    assert told[0].startswith("train: the labels are vectors of 0 and 1, such as ")
    assert told[0].endswith("; they are called by their places, 0 to 2: set options.names")


def test_names_that_do_not_fit(tmp_path):
    path = write_jsonl(tmp_path / "t.jsonl", map(hot, sets()))
    for given, got in [
        (path, "2 and vectors of 3"),
        (write_jsonl(tmp_path / "u.jsonl", sets()), "2 and labels with names of their own"),
    ]:
        with pytest.raises(ConfigError) as caught:
            learned(given, names=["a", "b"])
        assert str(caught.value) == (
            f"options.names: need a name for each place of vectors of 0 and 1; got {got}; correct it."
        )


def test_a_vector_that_is_none(tmp_path):
    reading = {"form": "places", "names": NAMES}
    for cell, got in [([1, 0], "2"), ([1, 0, 2], "another value"), ("drama", "0")]:
        with pytest.raises(DataError) as caught:
            readings.labels_of(cell, reading, ("t.csv", 7))
        assert str(caught.value) == (
            f"t.csv: need 3 numbers 0 or 1 in each row, as the training rows have; got {got} in row 7; correct it."
        )


@pytest.mark.parametrize("label", ["genre_*", ["genre_action", "genre_comedy", "genre_drama"]])
@pytest.mark.parametrize("marks", [(0, 1), ("0", "1"), (False, True), ("no", "Yes"), ("", "x"), (None, 1), (0.0, 1.0)])
def test_a_column_for_each_label(tmp_path, label, marks):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(
        json.dumps({"text": f"film number {n}", **{f"genre_{x}": marks[x in labels] for x in NAMES}}) + "\n"
        for n, labels in enumerate(sets())
    ))  # fmt: skip
    spec, rows, told = learned(path, label)
    assert spec.labels == (NAMES if isinstance(label, str) else label)
    assert [len(row) for row in rows] == [len(labels) for labels in sets()]
    assert told[0] == (
        "train: each label has a column of 0 and 1 (data.columns.label), so a text may have several (options.kind: "
        "multi)"
    )


def test_columns_that_are_none_for_labels(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"film {n}", "genre_a": n % 2, "genre_b": "2"}) + "\n" for n in range(9))
    )
    for label, told in [
        ("genre_*", "need 0 or 1 in the column 'genre_b' of a label; got another str in row 1; correct it, or name "
         "one column in data.columns.label."),
        ("kind_*", "need columns that match 'kind_*'; got 'text', 'genre_a', 'genre_b'; correct data.columns.label."),
        (["genre_a", "genre_x"], "need the column 'genre_x'; got 'text', 'genre_a', 'genre_b'; set data.columns.label "
         "to one of them, perhaps 'genre_b'."),
    ]:  # fmt: skip
        with pytest.raises(DataError) as caught:
            learned(path, label)
        assert str(caught.value) == f"{path}: {told}"
    values = {"task": "image-classification", "model": "m", "output": "o"}
    with pytest.raises(ConfigError) as caught:
        load_config({**values, "data": {"train": "t", "columns": {"label": ["a", "b"]}}})
    assert str(caught.value) == "config: need one column in data.columns.label; got 2; name one."


PLACES = ["Paris, France", "Berlin, Germany", "Rome, Italy", "Bern, Switzerland"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (PLACES, "train: 100 labels hold ',', such as 'Paris, France', and are read as one each, since their parts "
         "stand nowhere else; options.kind: multi reads several"),
        (["yes", "no", "yes, but"], "train: 33 labels hold ',', such as 'yes, but', and are read as one each, since "
         "their parts hardly stand elsewhere; options.kind: multi reads several"),
        (["R&D; other", "sales", "law"], "train: 34 labels hold ';', such as 'R&D; other', and are read as one each, "
         "since their parts stand nowhere else; options.kind: multi reads several"),
        (["3,5", "4,0", "2"], "train: the labels look like numbers with a decimal comma, such as '3,5', and are read "
         "as names; write a point for numbers, or set options.kind: multi for lists"),
    ],
)  # fmt: skip
def test_names_with_commas_are_no_sets(tmp_path, names, told):
    spec, rows, found = learned(write_csv(tmp_path / "t.csv", [names[n % len(names)] for n in range(ROWS)]))
    assert set(spec.labels) == set(names)
    assert told in found
    assert all(isinstance(row, str) for row in rows)


@pytest.mark.parametrize(
    "names", [["good", "bad"], ["1", "2", "3"], ["100", "101", "110"], ["[INST]", "(none)"], ["a b", "c"]]
)
def test_plain_names_are_left_alone(tmp_path, names):
    spec, rows, found = learned(write_csv(tmp_path / "t.csv", [names[n % len(names)] for n in range(ROWS)]))
    assert "kind" not in spec.dump()
    assert set(rows) == set(names)
    assert found == []


def test_a_separator_that_is_told_and_a_kind_that_is(tmp_path):
    path = write_csv(tmp_path / "t.csv", map(" / ".join, sets()))
    assert learned(path, separator="/")[0].labels == NAMES
    path = write_csv(tmp_path / "u.csv", [PLACES[n % 4] for n in range(ROWS)])
    assert learned(path, kind="multi")[0].labels == sorted(part for each in PLACES for part in each.split(", "))
    path = write_csv(tmp_path / "v.csv", [str([NAMES[n % 3]]) for n in range(ROWS)])
    spec, rows, _ = learned(path, kind="single")
    assert spec.dump() == {"labels": NAMES}
    assert rows == [NAMES[n % 3] for n in range(ROWS)]
    path = write_csv(tmp_path / "w.csv", map(str, sets()))
    with pytest.raises(DataError) as caught:
        learned(path, kind="single")
    assert str(caught.value) == (
        f"{path}: need one label in each row; got 2 in row 2; correct it, or set options.kind: multi."
    )


def test_numbers_in_lists_and_missing_cells(tmp_path):
    spec, rows, _ = learned(write_jsonl(tmp_path / "t.jsonl", [[n % 3, n % 5 + 3] for n in range(ROWS)]))
    assert spec.labels == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert rows[4] == ["1", "7"]
    path = write_jsonl(tmp_path / "u.jsonl", [["a"], None, ["b"], ["a", "b"]] * 25)
    with pytest.raises(DataError) as caught:
        learned(path)
    assert "need a list of labels in each row; got None in row" in str(caught.value)


@pytest.mark.parametrize("name", ["image-classification", "image-generation"])
@pytest.mark.parametrize("cell", [["cat"], "['cat']", '["cat", "dog"]'])
def test_pictures_have_one_label(tmp_path, name, cell):
    from datasets import Dataset

    (tmp_path / "x.png").write_bytes(b"x")
    split = Dataset.from_dict({"image": [str(tmp_path / "x.png")] * 2, "label": [cell, cell]})
    with pytest.raises(DataError) as caught:
        get_task(name).inspect_held_out(split, "t.csv", one_label.Known(labels=["cat"]))
    assert str(caught.value) == (
        "t.csv: need one label in each row; got a list in row 1; write its name alone, without brackets."
    )
