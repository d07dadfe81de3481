"""What messages say of names that do not exist, of small numbers, and of advice that is followed already."""

import ast
import re
from pathlib import Path

import pytest
import typer
from datasets import Dataset

from regard._digits import digits
from regard.cli import app
from regard.errors import ConfigError
from regard.finetuning import words
from regard.finetuning.configure import load_config
from regard.finetuning.measure import _over_seeds, _spread
from regard.finetuning.tasks import TASKS, get_task
from regard.finetuning.tasks.targets import classes
from regard.finetuning.training.watcher import require_finite


def test_names_are_meant_only_where_they_are_near():
    known = ["text", "label", "sentence"]
    assert words.nearest("sentense", known) == "sentence"
    assert words.nearest("LABEL", known) == "label"
    assert words.nearest("quality", known) is None
    assert words.listed([str(n) for n in range(14)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0.000"), (0.5, "0.500"), (2e-5, "2e-05"), (0.00123, "0.0012"), (-0.0004, "-0.0004")]
)
def test_small_numbers_keep_their_digits(value, told):
    assert digits(value) == told


def test_settings_keep_their_digits():
    assert words.setting(2.3456789e-5) == "2.346e-05"
    assert words.setting(32) == "32"


def refused(**values):
    with pytest.raises(ConfigError) as caught:
        load_config({"task": "text-classification", "model": "m", "data": {"train": "t"}, "output": "o", **values})
    return str(caught.value)


def test_keys_that_are_near_and_far():
    assert refused(learning_rate=1) == (
        "config: need keys that exist; got 'learning_rate'; did you mean 'train.learning_rate'?"
    )
    assert refused(train={"lerning_rate": 1}).endswith("got 'train.lerning_rate'; did you mean 'train.learning_rate'?")
    assert refused(monitor={"q": 1}).endswith(
        "got 'monitor.q'; choose one of monitor.every, monitor.rows, monitor.report_to."
    )
    with pytest.raises(ConfigError) as caught:
        get_task("poetry")
    assert str(caught.value).endswith("got 'poetry'; choose one.")
    with pytest.raises(ConfigError) as caught:
        get_task("text-clasification")
    assert str(caught.value).endswith("did you mean 'text-classification'?")


def balanced(wanted):
    values = {"task": "text-classification", "model": "m", "data": {"train": "t"}, "output": "o"}
    config = load_config({**values, "options": {"class_weights": wanted}})
    train = Dataset.from_dict({"label": ["a"] * 100 + ["b"] * 12})
    return [(each.level, each.message) for each in classes.rarities(train, config)]


def test_advice_that_is_followed_is_not_given_again():
    [(level, told)] = balanced("none")
    assert level == "warning"
    assert "try options.class_weights: balanced" in told
    [(level, told)] = balanced("balanced")
    assert level == "ok"
    assert told == (
        "train: 'a' is 8 times as frequent as 'b'; options.class_weights: balanced gives the loss a weight of 4.7 for "
        "'b', 0.56 for 'a'"
    )
    for half, told in [
        (True, "lower train.learning_rate, or set train.precision to float32."),
        (False, "; lower train.learning_rate."),
    ]:
        with pytest.raises(Exception, match="need a finite loss") as caught:
            require_finite(float("nan"), 3, half)
        assert str(caught.value).endswith(told)


def test_the_spread_of_repeats_is_told():
    repeated = {"seeds": [1, 2], "macro_f1": {"mean": 0.75, "deviation": 0.001, "values": [0.7, 0.8]}}
    assert _over_seeds(repeated) == ["Macro F1 over 2 seeds: mean 0.750, deviation 0.001 (0.700, 0.800)"]
    assert _over_seeds({}) == []
    [table] = _spread({"seeds": [1, 2], "pearson": {"mean": 2e-5, "deviation": 1.23e-6, "values": [1.9e-5, 2.1e-5]}})
    assert table.rows == [["Pearson", "2e-05", "1.2e-06", "1.9e-05", "2.1e-05"]]


SOURCE = Path(words.__file__).parents[1]
COMMANDS = {
    "finetuning/conduct.py": "finetune",
    "finetuning/runs/stream.py": "predict",
    "commands/finetune.py": "",
    "commands/look.py": "look",
    "commands/compare.py": "compare",
}
"""The file -> the command whose options its sentences may name without naming it; "" for any of the file's own."""


def sentences_of(path):
    """The texts of a file, with what is put in left out, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    heads = (node.body[0] for node in ast.walk(tree) if isinstance(node, documented))
    told = {id(head.value) for head in heads if isinstance(head, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told | inside:
            yield node.value


def named_options(source):
    """Each option that a sentence of `regard.finetuning` or `regard.commands` names: file, command, option."""
    for path in [*source.glob("finetuning/**/*.py"), *source.glob("commands/*.py")]:
        name = path.relative_to(source).as_posix()
        for sentence in sentences_of(path):
            if sentence.startswith("--") and " " not in sentence:
                continue  # the option itself
            for match in re.finditer(r"--[a-z]+(?:-[a-z]+)*", sentence):
                command = re.findall(r"regard ([a-z]+)", sentence[: match.start()])
                yield name, command[-1] if command else COMMANDS.get(name, ""), match[0]


def options_of(command):
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_options_that_sentences_name_exist_in_their_command():
    commands = typer.main.get_command(app).commands
    every = set.union(*(options_of(command) for command in commands.values()))
    found = list(named_options(SOURCE))
    assert len(found) > 5
    known = {name: options_of(command) for name, command in commands.items()}
    wrong = [(file, command, option) for file, command, option in found if option not in known.get(command, every)]
    assert wrong == []


def test_settings_that_sentences_name_exist():
    known = {f"options.{name}" for task in TASKS for name in get_task(task).Options.model_fields}
    known |= {f"data.columns.{role}" for task in TASKS for role in get_task(task).COLUMNS}
    values = {"task": "text-classification", "model": "m", "data": {"train": "t"}, "output": "o"}
    known |= {*load_config(values).flat(), "search.space"}
    sections = {"train", "data", "options", "adapter", "monitor", "report", "search"}
    pattern = re.compile(rf"(?<![\w./'])({'|'.join(sections)})\.([a-z_]+(?:\.[a-z_]+)*)")
    ends = ("yaml", "py", "csv", "jsonl", "json", "html", "txt")
    wrong = []
    for path in SOURCE.glob("finetuning/**/*.py"):
        for sentence in sentences_of(path):
            if "\n" in sentence or not re.search(r"\bneed\b|\btry\b|\bset\b|\braise\b|\blower\b", sentence):
                continue
            for section, key in pattern.findall(sentence):
                name = f"{section}.{key}".rstrip(".")
                whole = any(each == name or each.startswith(f"{name}.") for each in known)
                inner = name.rpartition(".")[0] in known  # of a section that may be left out
                if key.split(".")[-1] not in ends and not whole and not inner:
                    wrong.append((path.name, name))
    assert wrong == []


def test_files_of_commands_are_there():
    assert [name for name in COMMANDS if not (SOURCE / name).is_file()] == []


def test_an_option_of_another_command_is_found(tmp_path):
    (tmp_path / "commands").mkdir()
    (tmp_path / "finetuning" / "runs").mkdir(parents=True)
    (tmp_path / "finetuning" / "runs" / "stream.py").write_text(
        'raise ValueError(f"{x}: got a run; go on with --overwrite.")'
    )
    assert list(named_options(tmp_path)) == [("finetuning/runs/stream.py", "predict", "--overwrite")]
    assert "--overwrite" not in options_of(typer.main.get_command(app).commands["predict"])
