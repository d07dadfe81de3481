"""What the documentation shows runs: docstrings and the READMEs' blocks of Python."""

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import typer

import regard
from regard.cli import app
from regard.commands import shared

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh-CN.md"]
CONVENTIONS = [f"masks.conventions.{library}" for library in ("torch", "keras", "jax", "onnx", "transformers")]
MODELS = [f"models.{name}" for name in ("watch", "edit", "unpad")]
MODULES = ["attention", "masks", *CONVENTIONS, "biases", *MODELS, "inspection.history", "inspection.effects.measure"]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module):
    results = doctest.testmod(importlib.import_module(f"regard.{module}"))
    assert results.attempted
    assert not results.failed


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_block_of_the_readme_runs_as_it_stands():
    exec(blocks(ROOT / "README.md")[0], {})


def test_the_readme_looks_into_a_model():
    [block] = [block for block in blocks(ROOT / "README.md") if "regard.watch" in block]
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    inputs = {"input_ids": torch.ones(2, 7, dtype=torch.long)}
    exec(block, {"regard": regard, "model": transformers.BertModel(config).eval(), "inputs": inputs})


@pytest.mark.slow
def test_the_page_on_heads_runs_as_it_stands():
    exec("\n".join(blocks(ROOT / "docs" / "how-to" / "which-heads-matter.md")), {})


def test_a_wrong_example_is_seen():
    """The checker itself: a docstring that does not hold must fail."""
    parser = doctest.DocTestParser()
    example = parser.get_doctest(">>> 1 + 1\n3\n", {"np": np}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda text: None).failed == 1


def options():
    """Every command with the options that it has beside --help."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for parameter in command.params:
            yield from ((name, option) for option in parameter.opts if option.startswith("--"))
    yield from (("", option) for parameter in group.params for option in parameter.opts if option.startswith("--"))


def test_the_documentation_names_every_command_and_what_is_special_to_it():
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
    commands = {name for name, _ in options() if name}
    assert [name for name in sorted(commands) if f"regard {name} " not in written] == []
    assert [f"{name} {option}" for name, option in options() if option not in written] == []


def test_the_documentation_names_every_exit_code():
    told = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    for code in (shared.REFUSED, shared.FAULT, shared.INTERRUPTED):
        assert f"\n| {code} | " in told
    assert shared.DEBUG in told


CHINESE = sorted(
    path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.zh-CN.md"), *ROOT.glob("docs/**/*.zh-CN.md")]
)
EXCERPTS = {"CHANGELOG.zh-CN.md", "docs/log.zh-CN.md"}
"""Pages that grow with every change: their Chinese says no code that the English does not."""


def code_of(page):
    """The blocks of code of a page, what its sentences call code, and its pictures."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fence = re.compile(r"^```.*?^```|^    .*?$", re.DOTALL | re.MULTILINE)
    words = fence.sub("", text)
    return fence.findall(text), set(re.findall(r"`([^`\n]+)`", words)), re.findall(r"!\[.*?\]\((.*?)\)", words)


def numbers_of(page):
    return set(re.findall(r"\d[\d,.]*\d|\d", (ROOT / page).read_text(encoding="utf-8")))


def test_what_the_chinese_readme_links_to_is_in_chinese():
    text = (ROOT / READMES[1]).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if target.endswith((".md", ".ipynb"))]
    assert len(targets) > 8
    assert [target for target in targets if ".zh-CN." not in target and target != READMES[0]] == []


@pytest.mark.parametrize("page", [page for page in CHINESE if page != READMES[1]])
def test_a_page_in_chinese_has_the_code_and_pictures_of_the_english(page):
    english = page.replace(".zh-CN", "")
    (blocks, code, pictures), theirs = code_of(page), code_of(english)
    if page in EXCERPTS:
        assert code <= theirs[1]
        return
    assert blocks == theirs[0]
    assert code == theirs[1]
    assert pictures == theirs[2]
    assert numbers_of(page) == numbers_of(english)


@pytest.mark.parametrize("page", [page for page in CHINESE if page != READMES[1]])
def test_both_languages_of_a_page_lead_to_each_other(page):
    name = page.rpartition("/")[2]
    assert f"[English]({name.replace('.zh-CN', '')})" in (ROOT / page).read_text(encoding="utf-8")
    assert f"[中文]({name})" in (ROOT / page.replace(".zh-CN", "")).read_text(encoding="utf-8")


@pytest.mark.parametrize("readme", READMES)
def test_files_that_the_readme_names_exist(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (ROOT / target).exists(), target


def test_both_readmes_show_the_same_code_and_pictures():
    english, chinese = ((ROOT / readme).read_text(encoding="utf-8") for readme in READMES)
    assert blocks(ROOT / READMES[0]) == blocks(ROOT / READMES[1])
    for pattern in (r"^(?:make|regard|pip)[^#\n]*", r"!\[.*\]\((.+)\)"):
        found = [[line.strip() for line in re.findall(pattern, text, re.MULTILINE)] for text in (english, chinese)]
        assert found[0]
        assert found[0] == found[1]
