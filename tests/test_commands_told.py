"""What the documentation tells to type and to write is there: commands, options, targets, extras, files, keys."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from regard.cli import app
from regard.finetuning.configure import load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
BEGINNING = {"task": "text-classification", "model": "somewhere", "data": {"train": "reviews.csv"}, "output": "runs/x"}


def blocks(kind, text):
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def typed(text):
    """Every line to type: of blocks, and where a command stands among words with what it is asked."""
    for block in blocks("console", text):
        yield from (line for line in block.splitlines() if line.strip())
    yield from re.findall(r"`(regard [a-z]+(?: [^`]*)?)`", text)
    yield from re.findall(r"`((?:pip install|make) [^`]+)`", text)


def fault(line):
    """What of a line to type is not there, or None."""
    words = shlex.split(line.rpartition(" | ")[2], comments=True)  # behind a pipe, if there is one
    if words[:1] == ["torchrun"]:  # what it starts
        words = ["regard", *words[words.index("regard.cli") + 1 :]]
    known = {"regard": of_regard, "make": of_make, "pip": of_pip, "python": of_python}.get(
        words[0], lambda _: "command"
    )
    return known(words[1:])


def of_regard(words):
    at = next((n for n, word in enumerate(words) if not word.startswith("-")), None)
    if at is None or words[at] in ("COMMAND", "..."):
        return None
    if words[at] not in COMMANDS:
        return f"regard {words[at]}"
    there = {option for parameter in COMMANDS[words[at]].params for option in parameter.opts}
    asked = [re.split("[= ]", word)[0] for word in words[at + 1 :] if re.match(r"--?[a-z]", word)]
    return next((f"{words[at]} {option}" for option in asked if option not in there), None)


def of_make(words):
    return next((f"make {word}" for word in words if "=" not in word and word not in TARGETS), None)


def of_pip(words):
    asked = [extra for word in words for extra in re.findall(r"(?:regard|^\.)\[(.+)\]", word)]
    return next((name for extra in asked for name in extra.split(",") if name not in EXTRAS), None)


def of_python(words):
    return None if words[0].startswith("-") or (ROOT / words[0]).is_file() else words[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_told_to_type_is_there(page):
    assert [(line, fault(line)) for line in typed(page.read_text(encoding="utf-8")) if fault(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_told_to_write_into_a_configuration_is_read(page):
    for block in blocks("yaml", page.read_text(encoding="utf-8")):
        load_config(BEGINNING | yaml.safe_load(block))


@pytest.mark.parametrize(
    "line",
    ["regard fintune x.yaml", "regard look x --hed 3", "make pictures", "pip install 'regard[onx]'", "fetch it",
     "torchrun --nproc-per-node 2 -m regard.cli finetune x.yaml --resum", "python examples/articles.py"],
)  # fmt: skip
def test_what_is_not_there_is_found(line):
    assert fault(line)
    assert list(typed(f"Run this:\n\n```console\n{line}  # and wait\n```\n"))


def test_lines_to_type_are_found():
    found = [line for page in PAGES for line in typed(page.read_text(encoding="utf-8"))]
    assert len(found) > 50
    assert sum(len(blocks("yaml", page.read_text(encoding="utf-8"))) for page in PAGES) >= 4
