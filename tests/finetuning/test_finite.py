"""No answer from no number: NaN or infinity among a model's outputs stops, with the rows, and labels nothing."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from conftest import answer_without_numbers, write_csv
from regard.cli import app
from regard.errors import RegardError
from regard.finetuning.finite import Witness, require_finite
from regard.finetuning.frameworks import torch as framework
from regard.finetuning.runs import stream
from regard.looking.transformers.watching import answer_of

WANTED = (
    "model: need finite numbers for each input; got NaN or infinity for {} of {} (number {}); nothing was answered: "
    "look at these rows, or train again with a lower train.learning_rate or train.precision float32."
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_told_with_its_rows(value):
    outputs = np.ones((9, 2))
    require_finite(outputs)
    outputs[[1, 8], [0, 1]] = value
    with pytest.raises(RegardError) as caught:
        require_finite(outputs)
    assert str(caught.value) == WANTED.format(2, 9, "2, 9")
    outputs[:] = value
    with pytest.raises(RegardError) as caught:
        require_finite(outputs)
    assert str(caught.value) == WANTED.format(9, 9, "1, 2, 3, 4, 5, ...")


def test_a_witness_knows_which_input_of_several_beams():
    witness = Witness(3)
    scores = torch.zeros(6, 5)
    scores[:, 0] = -math.inf  # which is how a token is forbidden
    assert witness(None, scores) is scores
    assert witness.finite == [True, True, True]
    scores[3, 2] = math.nan
    witness(None, scores)
    assert witness.finite == [True, False, True]
    scores[5, 2] = math.inf
    witness(None, scores)
    assert witness.finite == [True, False, False]


@pytest.fixture
def broken(monkeypatch):
    """Let the model give no numbers for texts with the word `hollow`, whose number is 20."""

    def logits(model, batch):
        wrong = (batch["input_ids"] == 20).any(-1).numpy()
        return np.where(wrong[:, None], np.float32("nan"), np.float32([[2, 1]]))

    monkeypatch.setattr(framework, "logits", logits)


@pytest.fixture
def table(finished, tmp_path, broken):
    assert finished.processor.convert_tokens_to_ids("hollow") == 20
    words = ["dull", "hollow", "superb", "hollow film", "witty"]
    return write_csv(tmp_path / "t.csv", [(word, "negative" if n % 2 else "positive") for n, word in enumerate(words)])


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_commands_stop_and_leave_nothing(finished, table, tmp_path, command):
    done = CliRunner().invoke(app, [command, str(finished.path), str(table)])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"regard: {WANTED.format(2, 5, '2, 4')}"
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_rows_are_counted_through_the_whole_file(finished, table, monkeypatch):
    monkeypatch.setattr(stream, "ROWS", 3)
    with pytest.raises(RegardError) as caught:
        stream.predict_file(finished, table, table.with_suffix(".jsonl"))
    assert str(caught.value) == WANTED.format(1, 5, "2")
    table.write_text("sentence\n" + "dull\n" * 4 + "hollow\n")
    with pytest.raises(RegardError) as caught:
        stream.predict_file(finished, table, table.with_suffix(".jsonl"))
    assert str(caught.value) == WANTED.format(1, 5, "5")


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_each_kind_of_label(values, tmp_path, kind):
    cells = {"single": ["a", "b"], "multi": ["a;b", "b", "a", ""], "regression": ["0.5", "1.5"]}[kind]
    rows = [(f"film {'the ' * (n % 9)}{'a ' * (n % 7)}{n}", cells[n % len(cells)]) for n in range(40)]
    values["data"] |= {"train": str(write_csv(tmp_path / "rows.csv", rows)), "validation": 0.2, "test": 0.2}
    values["options"] = {"kind": kind}
    assert answer_without_numbers(values) == WANTED.format(3, 3, "1, 2, 3")


def test_a_look_says_no_answer():
    model = SimpleNamespace(config=SimpleNamespace(id2label={0: "a", 1: "b"}))
    with pytest.raises(RegardError, match="look: need finite numbers for an answer; got NaN or infinity"):
        answer_of(model, SimpleNamespace(logits=torch.tensor([[math.nan, 1.0]])))


def test_the_history_of_attention_is_valid_json(tmp_path):
    from regard.inspection.history import History

    found = {name: [[[math.nan, 0.5]]] for name in ("entropy", "largest_score", "first")}
    fields = {name: found.get(name, [[[0.5, 0.5]]]) for name in History.__dataclass_fields__}
    history = History(**{**fields, "steps": [1], "names": ["layer"], "drift": []})
    history.save(tmp_path / "attention.json")

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "attention.json").read_text(), parse_constant=refuse)
    History.load(tmp_path / "attention.json").warnings()
