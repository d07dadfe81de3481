"""`docs/conventions.md`: what other libraries answer is what stands there, and each line in Regard gives the same.

`asking.measured` compares every line with the operator and raises where it differs; the libraries that are not
installed here are asked by `make conventions`, whose results are the data of the page.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "conventions"))

import asking  # noqa: E402
import page  # noqa: E402
import questions  # noqa: E402
from operators import Found, Operator  # noqa: E402
from operators.of_torch import function  # noqa: E402

DATA = ROOT / "docs" / "conventions.json"
KEPT = json.loads(DATA.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run():
    """The script, which has a name that others have."""
    spec = importlib.util.spec_from_file_location("conventions_run", ROOT / "conventions" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("library", ["torch", "jax", "onnx", "openvino", "transformers", "diffusers", "keras"])
def test_a_library_answers_as_the_page_says(library):
    known = f"keras-{keras.backend.backend()}" if library == "keras" else library
    assert asking.measured(library) == KEPT[known]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["keras-tensorflow", "keras-jax", "keras-torch", "timm"])
def test_a_library_in_a_process_of_its_own_answers_as_the_page_says(run, library):
    assert run.asked(library) == KEPT[library]


def test_every_library_is_in_the_data_and_every_question_has_answers(run):
    assert [*KEPT] == run.LIBRARIES
    answered = {name for found in KEPT.values() for name in found["answers"]}
    assert answered == {name for name, _ in questions.questions()}
    said = [
        answer["said"] for found in KEPT.values() for given in found["answers"].values() for answer in given.values()
    ]
    assert len(said) > 250
    assert questions.OTHER.said not in said


def test_the_page_follows_from_the_data():
    assert (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8") == page.page(KEPT)


def test_operators_of_a_library_stand_together_and_backends_and_opsets_become_one():
    names = [f"keras/{backend} `Attention`" for backend in ("tensorflow", "jax", "torch")]
    assert page.together([*names, "mlx `fast`", "mlx `nn`"]) == ["keras `Attention`", "mlx `fast`, `nn`"]
    assert page.together(names[:2]) == ["keras `Attention` on tensorflow and jax"]
    assert page.together(["onnx opset 23 in x", "onnx opset 25 in x"]) == ["onnx opsets 23, 25 in x"]
    assert page.together(["onnx opset 23 in x"]) == ["onnx opset 23 in x"]


# --- each of these can fail ------------------------------------------------------------------------------------------


def lower_right(query, key, value, *, causal=False):
    seen = np.tri(query.shape[2], key.shape[2], key.shape[2] - query.shape[2], dtype=bool)
    return function(query, key, value, mask=np.broadcast_to(seen, (1, 1, *seen.shape)))


def test_another_corner_is_another_answer():
    known = asking.asked(questions.CAUSAL, Operator("torch", function))
    other = asking.asked(questions.CAUSAL, Operator("other", lower_right))
    assert known.same == "mask=masks.causal_top_left()"
    assert other.same == "causal=True"


@pytest.mark.parametrize(("same", "agree"), [("mask=masks.causal_top_left()", True), ("causal=True", False)])
def test_a_line_that_gives_something_else_is_seen(same, agree):
    inputs = questions.CAUSAL.inputs(Operator("torch", function))
    found = function(inputs.query, inputs.key, inputs.value, **inputs.call)
    assert asking.agrees(same, "", found, inputs) is agree


def test_a_log_sum_exp_of_another_base_is_seen():
    def attend(query, key, value, *, logsumexp=False):
        return Found(function(query, key, value).output, logsumexp=np.full((1, 1, 4), 2.0))

    answer = asking.asked(questions.BASE, Operator("other", attend, scaled=False))
    assert answer.said == "base 2"
    inputs = questions.BASE.inputs(None)
    assert not asking.agrees("weights.logsumexp", "", attend(inputs.query, inputs.key, inputs.value), inputs)


def test_what_refuses_is_said_to_refuse():
    def attend(query, key, value, *, mask=None):
        raise ValueError("no masks today")

    operator = Operator("other", attend, scaled=False)
    assert asking.asked(questions.TRUE, operator) == asking.REFUSED
    assert asking.asked(questions.EMPTY, operator) is None


@pytest.mark.slow
def test_an_environment_lies_over_this_one(run, tmp_path, monkeypatch):
    """What is installed here is found there, so that only what is missing is installed."""
    monkeypatch.setattr(run, "OVER", tmp_path)
    monkeypatch.setattr(run, "install", lambda python, package: None)
    python = run.interpreter("flax")
    code = "import torch, sys; print(sys.prefix, torch.__file__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    prefix, file = done.stdout.split()
    assert prefix.startswith(str(tmp_path))
    assert Path(file).is_relative_to(Path(sys.prefix).resolve()) or Path(file).is_relative_to(sys.prefix)
    assert run.interpreter("torch") == sys.executable
