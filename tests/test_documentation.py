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
MODULES = ["attention", "masks", *CONVENTIONS, "biases", "models.watch", "models.unpad", "inspection.history"]


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
