"""What is set aside: as many of each label as of the rest, nothing torn apart, and parts that data sets bring along."""

import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from regard.errors import DataError
from regard.finetuning.check import read_splits
from regard.finetuning.configure import load_config
from regard.finetuning.data.columns import normalize
from regard.finetuning.data.splits import belonging_together, set_aside, told_of_no_test
from regard.inspection.report.content import Finding

WORDS = ["film", "plot", "music", "scene", "actor", "story", "light", "sound", "voice", "colour"]


def text(number):
    """Words that stand for a number, no two alike."""
    return " ".join(WORDS[int(digit)] for digit in str(number))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configured(train, task="text-classification", **data):
    return load_config({"task": task, "model": "m", "output": "o", "data": {"train": str(train), **data}})


def parted(train, task="text-classification", **data):
    return read_splits(configured(train, task, **data))


def told(found, level="warning"):
    return [finding.message for finding in found.findings if finding.level == level]


def counts(table):
    return Counter(label for cell in table["label"] for label in (cell if isinstance(cell, list) else [cell]))


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.15, 0.3, 0.5])
@pytest.mark.parametrize("sizes", [(150, 37, 13), (4,) * 60, (7,) * 12, (97, 3), (5, 5)])
def test_each_label_is_set_aside_as_often_as_it_is_there(fraction, sizes):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    strata = [[str(label)] for label in np.random.default_rng(0).permutation(labels)]
    aside = set_aside([[row] for row in range(len(labels))], fraction, 3, strata)
    assert abs(len(aside) - fraction * len(labels)) <= 1
    held = Counter(strata[row][0] for row in aside)
    for label, size in enumerate(sizes):
        assert abs(held[str(label)] - fraction * size) < 1.01
        assert held[str(label)] < size


@pytest.mark.parametrize("labels", ["sorted", "mixed"])
def test_every_row_of_a_label_is_set_aside_as_likely_as_any_other_and_with_no_neighbour(labels):
    names = ["a"] * 36 + ["b"] * 24 + ["c"] * 12
    names = names if labels == "sorted" else np.random.default_rng(1).permutation(names).tolist()
    draws = np.zeros((2000, len(names)), bool)
    for seed, draw in enumerate(draws):
        draw[set_aside([[row] for row in range(len(names))], 0.25, seed, [[name] for name in names])] = True
    for label, count in Counter(names).items():
        rows = np.array(names) == label
        assert set(draws[:, rows].sum(1)) == {count // 4}
        found, spread = draws[:, rows].mean(0), (0.25 * 0.75 / len(draws)) ** 0.5
        assert np.abs(found - 0.25).max() < 4.5 * spread
        together = (draws[:, rows][:, 1:] & draws[:, rows][:, :-1]).mean()
        by_chance = 0.25 * (count // 4 - 1) / (count - 1)
        assert together == pytest.approx(by_chance, abs=0.003)


def test_rows_keep_their_order_on_both_sides(tmp_path):
    rows = [{"text": text(n), "label": "abc"[n // 60]} for n in range(180)]  # as a folder of classes yields them
    for seed in range(5):
        config = load_config(configured(write(tmp_path / "t.jsonl", rows), validation=0.1, test=0.2), {"seed": seed})
        tables = {name: list(table) for name, table in read_splits(config).tables.items()}
        assert {name: len(part) for name, part in tables.items()} == {"train": 129, "validation": 18, "test": 33}
        for part in tables.values():
            assert part == [row for row in rows if row in part]
        assert sorted(str(row) for part in tables.values() for row in part) == sorted(map(str, rows))
        assert all(len(set(counts(part).values())) == 1 for part in map(Dataset.from_list, tables.values()))


def test_sets_of_labels_and_their_members_are_shared_out():
    rng = np.random.default_rng(1)
    there = rng.random((600, 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]
    strata = [[str(label) for label in np.flatnonzero(row)] for row in there]
    aside = set_aside([[row] for row in range(600)], 0.2, 5, strata)
    assert abs(len(aside) - 120) <= 1
    held = there[aside].sum(0)
    assert np.abs(held - 0.2 * there.sum(0)).max() <= 2


def test_the_same_for_the_same_seed_in_whatever_process(tmp_path):
    path = write(tmp_path / "t.jsonl", [{"text": text(n), "label": f"class {n % 7}"} for n in range(140)])
    program = (
        "import sys; sys.path.insert(0, {!r}); import test_splits as t;"
        "print(list(t.parted({!r}, validation=0.2, test=0.1).tables['test']['text']))"
    ).format(str(__file__).rpartition("/")[0], str(path))
    found = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert found == {f"{list(parted(path, validation=0.2, test=0.1).tables['test']['text'])}\n"}
    again = load_config(configured(path, validation=0.2, test=0.1), {"seed": 43})
    assert list(read_splits(again).tables["test"]["text"]) != list(
        parted(path, validation=0.2, test=0.1).tables["test"]["text"]
    )


def test_a_rare_label_is_told_with_its_rows(tmp_path):
    rows = [{"text": text(n), "label": "often"} for n in range(36)]
    rows += [{"text": "lone", "label": "lone"}, {"text": "once", "label": "once"}]
    found = parted(write(tmp_path / "t.jsonl", rows), validation=0.05)
    assert set(found.tables["train"]["label"]) == {"often", "lone", "once"}
    assert told(found)[0] == (
        "validation: too few rows to set any aside, at 0.05 of them, have label 'lone' (1 row), 'once' (1 row); they "
        "are learned and not measured: add rows, or name a file in data.validation"
    )


def test_numbers_are_set_aside_from_their_whole_range(tmp_path):
    rng = np.random.default_rng(2)
    rows = [{"text": text(n), "label": float(x)} for n, x in enumerate(rng.lognormal(size=200))]
    found = parted(write(tmp_path / "t.jsonl", rows), validation=0.2)
    numbers = np.array([row["label"] for row in rows])
    tenths = np.searchsorted(np.quantile(numbers, np.linspace(0, 1, 11)[1:-1]), found.tables["validation"]["label"])
    assert set(Counter(tenths.tolist()).values()) == {4}


def test_what_is_nearly_the_same_stays_together(tmp_path):
    rows = [
        {"text": f"{text(n // 2)}{'!' * (n % 2)}".title() if n % 2 else text(n // 2), "label": str(n // 2 % 3)}
        for n in range(200)
    ]
    found = parted(write(tmp_path / "t.jsonl", rows), test=0.2)
    seen = [{each.lower().strip("!") for each in table["text"]} for table in found.tables.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 100


@pytest.mark.parametrize("task", ["text-classification", "translation", "masked-language-modeling"])
def test_groups_stay_together(tmp_path, task):
    rows = [
        {"text": text(n), "label": str(n % 2), "source": text(n), "target": text(n + 7), "speaker": f"speaker {n // 8}"}
        for n in range(160)
    ]
    found = parted(write(tmp_path / "t.jsonl", rows), task, group="speaker", test=0.2)
    seen = [set(table["group"]) for table in found.tables.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 20
    assert 24 <= len(found.tables["test"]) <= 40
    assert told(found, "ok")[-2:] == [
        f"groups by column 'speaker': {len(seen[0])} in train, {len(seen[1])} in validation, {len(seen[2])} in test",
        "no group is in more than one of train, validation, test",
    ]


def test_groups_on_both_sides_of_given_files_are_told(tmp_path):
    train = write(tmp_path / "a.jsonl", [{"text": text(n), "label": "ab"[n % 2], "id": n // 4} for n in range(40)])
    rows = [{"text": text(99 + n), "label": "ab"[n % 2], "id": str(9 + n // 4)} for n in range(8)]
    found = parted(train, group="id", validation=str(write(tmp_path / "b.jsonl", rows)), test=str(train))
    assert told(found) == [
        f"{first}: {count} groups are in {second} too (first: row {row} of {first} is row {other} of {second}); the "
        f"score on {first} is too good to be true until they are removed"
        for first, count, second, row, other in [
            ("validation", 1, "train", 1, 37), ("test", 10, "train", 1, 1), ("test", 1, "validation", 37, 1),
        ]
    ]  # fmt: skip


def test_a_group_that_is_no_column_and_one_that_is_all_rows(tmp_path):
    path = write(tmp_path / "t.jsonl", [{"text": text(n), "label": "ab"[n % 2], "id": 1} for n in range(20)])
    with pytest.raises(DataError) as caught:
        parted(path, group="who")
    assert str(caught.value) == (
        f"{path}: need the column 'who'; got 'text', 'label', 'id'; set data.group to one of them."
    )
    with pytest.raises(DataError) as caught:
        parted(path, group="id")
    assert str(caught.value) == (
        f"{path}: need enough different values in column 'id' to set some aside; got 1; add rows, or name a file in "
        "data.validation."
    )


def test_rows_without_a_group_stand_alone(tmp_path):
    rows = [{"text": text(n), "label": "ab"[n % 2], "id": None if n < 10 else n // 5} for n in range(40)]
    found = parted(write(tmp_path / "t.jsonl", rows), group="id", test=0.2)
    assert "; 10 rows have none, and stand alone" in "".join(told(found))


def test_units_are_what_is_tied_by_anything():
    units = belonging_together([["a", "b", "a", None, None], [1, 2, 3, 3, None]])
    assert sorted(map(sorted, units)) == [[0, 2, 3], [1], [4]]


def test_equal_texts_stay_together_without_labels():
    texts = [f"text {n // 2}" if n % 2 else f"Text  {n // 2}" for n in range(200)]
    units = belonging_together([[normalize(each) for each in texts]])
    aside = set_aside(units, 0.1, 7)
    assert 20 <= len(aside) <= 22
    assert aside == sorted(aside) == set_aside(units, 0.1, 7) != set_aside(units, 0.1, 8)
    assert {row ^ 1 for row in aside} == set(aside)


def test_sheets_that_are_left_out_are_told(tmp_path):
    import openpyxl

    book, path = openpyxl.Workbook(), tmp_path / "t.xlsx"
    for sheet in (book.active, book.create_sheet("second")):
        sheet.append(["text", "label"])
        for number in range(40):
            sheet.append([f"{sheet.title} {text(number)}", "ab"[number % 2]])
    book.save(path)
    found = parted(path, validation=0.2, test=0.2)
    assert told(found) == [
        f"{path}: sheet 'Sheet' is read; left out: 'second'; set data.sheet if that is not what was meant"
    ]
    found = parted(path, validation=0.2, test=0.2, sheet="second")
    assert all(each.startswith("second ") for each in found.tables["train"]["text"])
    assert told(found) == []
    assert told(found, "ok")[0] == f"{path}: sheet 'second' is read; left out: 'Sheet'"
    table = write(tmp_path / "t.jsonl", [{"text": text(n), "label": "ab"[n % 2]} for n in range(40)])
    found = parted(table, validation=0.2, test=0.2, sheet="second")
    assert told(found) == ["data.sheet: no file is a workbook with a sheet 'second'"]


def test_no_test_is_told(tmp_path):
    path = write(tmp_path / "t.jsonl", [{"text": text(n), "label": "ab"[n % 2]} for n in range(40)])
    without = parted(path).tables

    def said(spec=None, tables=without, **changes):
        return told_of_no_test(tables, load_config(configured(path), changes), spec or {})

    def flatters(why):
        return [
            Finding(
                "warning",
                f"test: no rows measure the result but those of validation, which {why}, so the score flatters; set "
                "data.test to a fraction or a file",
            )
        ]

    assert said() == flatters("choose the checkpoint")
    last = {"train.keep": "last"}
    fair = "test: no rows measure the result but those of validation, by which nothing is chosen: the score is that of "
    assert said(**last) == said(SimpleNamespace(kind="single"), **last) == [Finding("ok", f"{fair}new rows")]
    assert said(**last, **{"train.patience": 2}) == flatters("say when training ends")
    assert said(SimpleNamespace(kind="multi"), **last) == flatters("fit the thresholds")
    assert said(SimpleNamespace(kind="multi"), **last, **{"options.thresholds": "half"})[0].level == "ok"
    changes = {"train.patience": 2, "options.calibrate": True}
    assert said(SimpleNamespace(kind="multi"), **changes) == flatters(
        "choose the checkpoint, say when training ends, fit the temperature and fit the thresholds"
    )
    assert said(tables=parted(path, test=0.2).tables) == []


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), shade, np.uint8)).save(path)


def pictures(root, **parts):
    """Folders of the parts with folders of the classes."""
    for place, (part, count) in enumerate(parts.items()):
        for n in range(count):
            picture(root / part / "ab"[n % 2] / f"{n}.png", 50 * place + n)
    return root


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("train", "validation", "testing"), ("Train", "valid", "test")]
)
def test_the_parts_of_a_folder_of_pictures(tmp_path, names):
    root = pictures(tmp_path / "p", **dict(zip(names, (12, 6, 4), strict=True)))
    found = parted(root, "image-classification")
    assert {name: len(table) for name, table in found.tables.items()} == {"train": 12, "validation": 6, "test": 4}
    assert all(f"/{names[2]}/" in file for file in found.tables["test"]["image"])
    assert told(found, "ok") == [
        f"train: {root / names[0]}, which the data set names its own",
        f"validation: {root / names[1]}, which the data set names its own, so data.validation: 0.1 sets nothing aside",
        f"test: {root / names[2]}, which the data set names its own",
    ]
    assert set(found.tables["train"]["label"]) == {"a", "b"}
    assert configured(root, "image-classification").data.validation == 0.1


def test_what_a_folder_lacks_is_set_aside_and_what_is_named_counts(tmp_path):
    root = pictures(tmp_path / "p", train=20, test=4)
    found = parted(root, "image-classification", validation=0.2)
    assert {name: len(table) for name, table in found.tables.items()} == {"train": 16, "validation": 4, "test": 4}
    other = pictures(tmp_path / "q", any=8)
    found = parted(root, "image-classification", test=str(other / "any"))
    assert len(found.tables["test"]) == 8


def test_a_class_may_be_called_train(tmp_path):
    for n in range(12):
        picture(tmp_path / "p" / ("train" if n % 2 else "test") / f"{n}.png", n)
    found = parted(tmp_path / "p", "image-classification", validation=0.2)
    assert set(found.tables["train"]["label"]) == {"train", "test"}


def test_a_picture_that_is_there_twice_stays_together(tmp_path):
    for n in range(40):
        picture(tmp_path / "p" / "ab"[n % 2] / f"{n}.png", 2 * (n // 4) + n % 2)
    found = parted(tmp_path / "p", "image-classification", validation=0.2)
    seen = [{Image.open(file).getpixel((0, 0)) for file in table["image"]} for table in found.tables.values()]
    assert not seen[0] & seen[1]


def yolo(root, described, *places):
    for place, folder in enumerate(places):
        for n in range(4 + place):
            picture(root / folder / f"{place}{n}.png", 40 * place + n)
            label = root / folder.replace("images", "labels") / f"{place}{n}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{n % 2} 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text(described)
    return root


NAMES = "names: [cat, dog]\n"
INSIDE = ("images/train", "images/val", "images/test")
EXPORTED = ("train/images", "valid/images", "test/images")
LISTED = "train: images/train\nval: images/val\ntest: images/test\n"


@pytest.mark.parametrize(
    ("described", "places"),
    [
        (LISTED + NAMES, INSIDE),
        (f"path: .\n{LISTED}names: {{1: dog, 0: cat}}\n", INSIDE),
        ("train: ../train/images\nval: ../valid/images\ntest: ../test/images\n" + NAMES, EXPORTED),
        (NAMES, EXPORTED),
        (NAMES, INSIDE),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_the_parts_of_yolos_data_sets(tmp_path, described, places, whole):
    root = yolo(tmp_path / "y", described, *places)
    if not whole and "train" not in described:
        return
    found = parted(root if whole else root / "data.yaml", "object-detection")
    assert {name: len(table) for name, table in found.tables.items()} == {"train": 4, "validation": 5, "test": 6}
    objects = found.tables["validation"]["objects"]
    assert [each[0]["label"] for each in objects] == ["cat", "dog", "cat", "dog", "cat"]


def test_a_yolo_list_of_pictures_and_several_folders(tmp_path):
    root = yolo(tmp_path / "y", "train: [images/a, images/b]\nval: some.txt\n" + NAMES, "images/a", "images/b")
    (root / "some.txt").write_text("images/a/00.png\n./images/b/10.png\n")
    found = parted(root, "object-detection")
    assert len(found.tables["train"]) == 9
    assert [each[0]["label"] for each in found.tables["validation"]["objects"]] == ["cat", "cat"]
    (root / "data.yaml").write_text("train: images/a\nval: images/none\n" + NAMES)
    with pytest.raises(DataError) as caught:
        parted(root, "object-detection")
    assert str(caught.value) == (
        f"{root}/data.yaml: need the pictures that 'validation' names; got nothing at 'images/none'; correct the path."
    )


def test_objects_are_set_aside_by_their_labels(tmp_path):
    rows = []
    for n in range(50):
        picture(tmp_path / f"{n}.png", n)
        boxes = [{"label": "rare" if n % 10 == 0 else "often", "box": [0, 0, 2, 2]}]
        rows.append({"image": f"{n}.png", "objects": boxes})
    found = parted(write(tmp_path / "t.jsonl", rows), "object-detection", validation=0.2)
    assert Counter(each[0]["label"] for each in found.tables["validation"]["objects"]) == {"rare": 1, "often": 9}


def test_spaces_between_chinese_characters_make_no_other_text():
    assert normalize("打开 文件 Writer") == normalize("打开文件Writer")
    assert normalize("open the file") != normalize("openthe file")
