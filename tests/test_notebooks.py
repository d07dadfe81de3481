"""The notebooks: one program in two languages, which runs, and of which the text says what comes out."""

import ast
import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = (ROOT / "docs" / "notebooks" / f"attention{suffix}.ipynb" for suffix in ("", ".zh-CN"))
HAN = re.compile("[\u4e00-\u9fff\uff00-\uffef]")
# What a notebook's code does, without the program that shows it; and the same with other numbers in its place.
RUN = """
import json, sys
notebook, others = sys.argv[1], json.loads(sys.argv[2])
space = {"__name__": "__main__"}
for cell in json.load(open(notebook, encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        print("##", cell["id"])
        source = "".join(cell["source"])
        for written, other in others.items():
            source = source.replace(written, other)
        exec(source, space)
"""
FEWER = {
    '"max_steps": 60': '"max_steps": 4',
    '"evaluate_every": 60': '"evaluate_every": 4',
    "repeats=50": "repeats=5",
    "8192, 16384": "6000, 7000",
}


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_both_languages_run_one_program():
    english, chinese = cells(ENGLISH), cells(CHINESE)
    assert [(cell["id"], cell["cell_type"]) for cell in english] == [(c["id"], c["cell_type"]) for c in chinese]
    for here, there in zip(english, chinese, strict=True):
        if here["cell_type"] == "code":
            assert same(*("".join(cell["source"]) for cell in (here, there))), here["id"]
            assert here["outputs"] == there["outputs"] == [], "notebooks are kept without their results"
            assert here["metadata"].keys() == there["metadata"].keys(), "a picture is described in both languages"
        else:
            assert formulas(here) == formulas(there), here["id"]


def same(english, chinese):
    """Whether two cells are one program, but for comments, for what is said in Chinese, and for a font to say it in."""
    here, there = (ast.parse(source) for source in (english, chinese))
    there.body = [statement for statement in there.body if "families" not in ast.unparse(statement)]
    return alike(here, there)


def alike(here, there):
    if type(here) is not type(there):
        return False
    if isinstance(here, ast.JoinedStr) and HAN.search(ast.unparse(there)):
        return alike(
            *([part for part in each.values if isinstance(part, ast.FormattedValue)] for each in (here, there))
        )
    if isinstance(here, list):
        return len(here) == len(there) and all(map(alike, here, there))
    if isinstance(here, ast.AST):
        return all(alike(value, getattr(there, name)) for name, value in ast.iter_fields(here))
    return here == there or (isinstance(there, str) and HAN.search(there) is not None)


@pytest.mark.parametrize(
    ("english", "chinese", "expected"),
    [
        ('print("output", x)  # so', 'print("输出", x)  # 这样', True),
        ('print("output", x)', 'print("输出", y)', False),
        ('print(f"{x:.3f} of it")', 'print(f"其中 {x:.3f}")', True),
        ('print(f"{x:.3f} of it")', 'print(f"其中 {x:.2f}")', False),
        ('read("train")', 'read("test")', False),
        ("x = 1", "x = 1\nfont = families()", True),
    ],
)
def test_another_program_is_told(english, chinese, expected):
    assert bool(same(english, chinese)) is expected


def test_the_chinese_notebook_prints_and_remarks_in_chinese():
    """But for names, and for what is a key of Regard's own."""
    for cell in cells(CHINESE):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            remarks = re.findall(r"# (?!noqa)(.*)", source)
            said = [
                part.value
                for call in ast.walk(ast.parse(source))
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "print"
                for part in ast.walk(call)
                if isinstance(part, ast.Constant)
                and isinstance(part.value, str)
                and re.search(r"[a-z]{3} [a-z]{2}", part.value)
            ]
            assert all(map(HAN.search, [*remarks, *said])), (cell["id"], remarks, said)


def formulas(cell):
    return re.findall(r"\$\$.+?\$\$", "".join(cell["source"]), re.DOTALL)


def executed(notebook, folder, others=None):
    """What each code cell prints, by its id."""
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(notebook), json.dumps(others or {})],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(part.split("\n", 1) for part in done.stdout.split("## ")[1:])


def last_numbers(text):
    """The number at the end of each line that has one."""
    return {found[1]: float(found[2]) for found in re.finditer(r"^(.*?) +([\d.]+)$", text, re.MULTILINE)}


def write_sentences(folder, count, seed):
    """Sentences in which one word says which label is meant."""
    rng = random.Random(seed)
    rows = {}
    while len(rows) < count:
        word, label = rng.choice([("good", "positive"), ("moving", "positive"), ("dull", "negative")])
        rows[" ".join([*rng.choices(["a", "film", "plot", "scene", "very", "quite"], k=5), word])] = label
    with folder.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("sentence", "sentiment"), *rows.items()])


@pytest.mark.slow
def test_all_of_it_runs(tmp_path):
    """On generated sentences, so that no network is needed, and for fewer steps."""
    text = ENGLISH.read_text(encoding="utf-8").replace('\\"', '"')
    assert all(written in text for written in FEWER)
    (tmp_path / "examples").mkdir()
    (tmp_path / "data" / "sentiment").mkdir(parents=True)
    for seed, (name, count) in enumerate({"train": 200, "validation": 20, "test": 40}.items()):
        write_sentences(tmp_path / "data" / "sentiment" / f"{name}.csv", count, seed)
    told = executed(ENGLISH, tmp_path, FEWER)
    # The worked example, by hand: 1 x 3 + 2 x 4 = 11, over the root of 2, and what a second key changes.
    assert re.findall(r"\d+\.\d*", told["one-key"]) == ["11.000", "7.778", "2387.912", "1.000", "5.", "6."]
    exponentials = np.exp(np.array([11, 10]) / np.sqrt(2))
    first, second = exponentials / exponentials.sum()
    assert f"{first:.3f}" in told["two-keys-code"]
    assert f"[[{first:.2f} {second:.2f}]]" in told["regard"]
    assert "[5.66 6.66]" in told["two-keys-code"]
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()


@pytest.mark.slow
def test_the_text_tells_what_comes_out(tmp_path):
    """On the real sentences: scratch about as good as counting words, fine-tuning on a quarter of them no worse."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    if (ROOT / "data" / "sentiment").is_dir():
        shutil.copytree(ROOT / "data" / "sentiment", tmp_path / "data" / "sentiment")
    told = executed(CHINESE, tmp_path)
    frequent, counting, scratch = last_numbers(told["baseline-code"]).values()
    assert frequent + 0.15 < scratch < counting + 0.03
    fine_tuned = float(re.search(r"准确率 ([\d.]+)", told["finetune-code"])[1])
    assert fine_tuned > max(scratch, counting) - 0.01
