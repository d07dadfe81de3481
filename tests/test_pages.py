"""Every page of the documentation runs: its blocks of Python one after the other, in a folder of their own."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

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
