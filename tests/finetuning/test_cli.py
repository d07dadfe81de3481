"""The command line: what a person reads, exit codes, and that Ctrl-C loses nothing."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from conftest import sentences, write_csv
from regard import __version__
from regard.cli import app
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.data.tables import read_table
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import TASKS

REGARD = [sys.executable, "-m", "regard.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def refused(result):
    """Return the one line that a person reads; nothing else was printed, nothing was raised."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("regard: ").strip()


@pytest.fixture
def config(values, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_version_and_help_import_no_framework():
    code = (
        "import sys; sys.argv = ['regard', {!r}]\nfrom regard.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        "heavy = {{'torch', 'transformers', 'datasets', 'pydantic', 'matplotlib', 'sklearn'}} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for option, expected in {"--version": f"regard {__version__}\n", "--help": "finetune"}.items():
        done = subprocess.run([sys.executable, "-c", code.format(option)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_check_prints_a_table(config):
    result = run("check", config)
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == f"{config}: no warnings, ready to train"
    assert lines[2] == "ok  train: 200 rows: negative 100 (50%), positive 100 (50%)"


def test_check_counts_warnings(config, tmp_path):
    path = write_csv(tmp_path / "t.csv", [*sentences(40, seed=2), ("film " * 40, "negative")])
    result = run("check", config, "--set", f"data.train={path}")
    assert result.stdout.startswith(f"{config}: 1 warning, ready to train")
    assert "warning  train: 1 of 41 texts are longer than the 32 tokens read" in result.stdout


def test_check_prints_json(config):
    told = json.loads(run("check", config, "--json").stdout)
    assert told["rows"]["train"] == 200
    assert {finding["level"] for finding in told["findings"]} == {"ok"}


def test_refusals_are_one_sentence(config, tmp_path):
    message = refused(run("finetune", config, "--set", "train.lerning_rate=1"))
    expected = "need keys that exist; got 'train.lerning_rate'; did you mean 'train.learning_rate'?"
    assert message == f"{config}: {expected}"
    assert refused(run("check", tmp_path / "no.yaml")).endswith("got nothing there; make one with 'regard init'.")
    assert refused(run("finetune", config, "--resume")).endswith("need a run to resume; got none; leave out --resume.")
    assert refused(run("predict", tmp_path, "text")).startswith(f"{tmp_path}: need a run directory; got a directory")
    assert not (tmp_path / "run").exists()


def test_finetune_says_where_to_look_and_what_to_try(config, tmp_path):
    small = ["train.max_steps=2", "train.evaluate_every=1", "report.baselines=false", "report.attention=1"]
    result = run("finetune", config, *(word for change in small for word in ("--set", change)))
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "run"
    for line in (
        f"The report: {folder}/report.html",
        f'regard predict {folder} "a text of your own"',
        f'regard look {folder} "a text of your own"',
        f"regard evaluate {folder} {yaml.safe_load(config.read_text())['data']['test']}",
    ):
        assert line in result.stdout
    assert "step     2: validation loss" in result.stderr
    assert "holds a run" in refused(run("finetune", config))


def test_predict_a_text(finished):
    result = run("predict", finished.path, "a superb and charming film")
    assert result.exit_code == 0
    label, probability, *rest = result.stdout.split()
    assert label == "positive"
    assert float(probability) > 0.5
    assert rest[0] == "negative"
    assert result.stderr.count("\n") <= 1


def test_predict_says_when_a_text_was_cut(finished):
    result = run("predict", finished.path, "film " * 40)
    assert "regard: 1 of 1 texts are longer than the model reads; their ends were cut" in result.stderr


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predict_a_file_in_its_order(finished, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    source = finished.config.data.test
    result = run("predict", finished.path, source, "--output", output)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"80 predictions: {output}\n"
    rows, given = list(read_table(output)), list(read_table(source))
    assert [row["sentence"] for row in rows] == [row["sentence"] for row in given]
    assert [row["label"] for row in rows] == [p["label"] for p in finished.predict([r["sentence"] for r in given])]


def test_predict_lines_of_text(finished, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("a superb film\ndull\n")
    assert run("predict", finished.path, path).exit_code == 0
    rows = list(read_table(tmp_path / "lines.predictions.jsonl"))
    assert [(row["sentence"], row["label"]) for row in rows] == [("a superb film", "positive"), ("dull", "negative")]
    assert refused(run("predict", finished.path, path)).endswith(
        "need a new file to write; got one that exists; name another."
    )


def test_predict_without_the_column(finished, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text\nfilm\n")
    assert refused(run("predict", finished.path, path)) == (
        f"{path}: need the column 'sentence'; got 'text'; set data.columns.text to one of them."
    )
    missing = tmp_path / "reviews.csv"
    assert refused(run("predict", finished.path, missing)).startswith(
        f"{missing}: need a file to read; got nothing there"
    )


def test_evaluate(finished):
    result = run("evaluate", finished.path, finished.config.data.test)
    assert result.exit_code == 0, result.stderr
    assert f"accuracy  {finished.metrics['accuracy']:.3f}" in result.stdout
    told = json.loads(run("evaluate", finished.path, finished.config.data.test, "--json").stdout)
    assert round(told["mcc"]["value"], 6) == finished.metrics["mcc"]


def test_look(finished, tmp_path):
    result = run("look", finished.path, "a superb film", "--output", tmp_path / "look.html")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines[2:7]] == ["[CLS]", "a", "superb", "film", "[SEP]"]
    assert sum(float(line[2].rstrip("%")) for line in lines[2:7]) == pytest.approx(100, abs=0.3)
    assert "superb" in (tmp_path / "look.html").read_text()
    result = run("look", finished.path, "a superb film", "--layer", 1, "--head", 3, "-o", tmp_path / "look.png")
    assert "(layer 1, head 3)" in result.stdout
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")


def test_look_refuses(finished):
    expected = "look: need a layer from 0 to 1; got 2; choose one of those."
    assert refused(run("look", finished.path, "film", "--layer", 2)) == expected
    expected = "x.pdf: need a file ending in .html or .png; got '.pdf'; rename it."
    assert refused(run("look", finished.path, "film", "-o", "x.pdf")) == expected


def test_init_writes_what_check_reads(tmp_path, tables, tiny):
    path = tmp_path / "t.yaml"
    assert run("init", "text-classification", "-o", path).exit_code == 0
    changes = [f"model={tiny}", f"data.train={tables / 'train.csv'}", "data.columns.text=sentence"]
    changes += ["data.columns.label=sentiment"]
    assert run("check", path, *(word for change in changes for word in ("--set", change))).exit_code == 0
    assert refused(run("init", "text-classification", "-o", path)).startswith(f"{path}: need a new file to write")
    assert refused(run("init", "translating")).startswith("task: need one of text-classification")


def test_init_speaks_chinese_and_lists_the_tasks(tmp_path):
    path = tmp_path / "t.yaml"
    assert run("init", "translation", "-o", path, "--language", "zh").exit_code == 0
    assert "# 要学习的任务；" in path.read_text(encoding="utf-8")
    assert load_config(path).task == "translation"
    path.unlink()
    expected = "language: need en or zh; got 'de'; choose one."
    assert refused(run("init", "translation", "-o", path, "--language", "de")) == expected
    assert not path.exists()
    listed = run("init")
    assert listed.exit_code == 0
    assert [name for name in TASKS if f"\n{name} " not in listed.stdout] == []
    assert "each text of one language gets one of another" in listed.stdout


def start(config):
    return subprocess.Popen([*REGARD, "finetune", str(config)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def interrupt(config, at):
    """Start a run, send SIGINT once it reports the step `at`, and return what it printed."""
    told = []
    with start(config) as process:
        for line in process.stderr:
            told.append(line)
            if line.startswith(f"  step {at:>5}:"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, "".join(told)
    return "".join(told)


@pytest.fixture
def one_thread():
    """Sums in one order, so that two runs can be compared bit by bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_weights(config, values, tmp_path):
    """Interrupted in the middle of the second epoch; the whole run in one go is the yardstick."""
    output = tmp_path / "run"
    values["train"] |= {"keep": "last", "epochs": 10}
    config.write_text(yaml.safe_dump(values))
    told = interrupt(config, at=30)
    assert told.count("interrupted: saving a checkpoint") == told.count("  step    30:") == 1
    assert f"saved, and ready to be resumed; go on with: regard finetune {output}/config.yaml --resume" in told
    assert "Traceback" not in told
    seconds = json.loads((output / "run.json").read_text())["seconds"]["train"]
    saved = max(int(path.name.split("-")[1]) for path in (output / "checkpoints").iterdir())
    assert 30 < saved < 250
    unfinished = "need a trained run; got one that was interrupted; go on with 'regard finetune --resume'."
    assert refused(run("predict", output, "film")) == f"{output}: {unfinished}"
    assert refused(run("finetune", config, "--resume", "--set", "train.batch_size=16")) == (
        f"{output}: need the configuration that the run began with to resume it; got train.batch_size 16 where the run "
        "has 8; undo the change, or start again with --overwrite."
    )
    assert "holds a run" in refused(run("finetune", config))
    assert run("finetune", f"{output}/config.yaml", "--resume").exit_code == 0
    whole = finetune(values | {"output": str(tmp_path / "whole")}, quiet=True)
    resumed = Run.load(output)
    assert resumed.metrics["seconds"]["train"] > seconds > 0
    assert resumed.state["steps"] == whole.state["steps"] == 250
    one, other = (load_file(r.path / "model" / "model.safetensors") for r in (resumed, whole))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_ctrl_c_before_training_writes_nothing(config, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("regard.finetuning.conduct.prepare", interrupted)
    result = run("finetune", config)
    assert result.exit_code == 130
    assert result.stderr == "regard: interrupted before anything was written\n"
    assert not (tmp_path / "run").exists()


def test_the_example_configuration_is_valid():
    from regard.finetuning.configure import load_config

    path = Path(__file__).parents[2] / "examples" / "sentiment" / "demo.yaml"
    assert load_config(path).output == "runs/demo"


PROSE = re.compile(r"[a-z]{2,}(?: [a-z]{2,}){2,}", re.IGNORECASE)
"""Three English words in a row."""


def english(text, rows):
    """What is English in a text, but for programs, the configuration and the texts of the data."""
    for row in sorted(rows, key=len, reverse=True):
        text = text.replace(row, "")
    text = re.sub(r"```.*?```|<pre.*?</pre>|<(script|style).*?</\1>|<[^>]*>|'[^']*'", "", text, flags=re.DOTALL)
    return [found for found in PROSE.findall(text) if not found.startswith("Intel")]


def test_a_run_speaks_chinese_from_the_check_to_the_card(config, values, tmp_path, monkeypatch):
    monkeypatch.setenv("REGARD_LANGUAGE", "zh")
    checked = run("check", config)
    assert checked.stdout.startswith(f"{config}: 0 个警告，可以开始训练\n")
    assert "正常  train: 200 行：negative 100 (50%), positive 100 (50%)" in checked.stdout
    done = run("finetune", config, "--set", f"output={tmp_path / 'zh'}", "--set", "options.calibrate=true")
    assert done.exit_code == 0, done.output
    assert f"报告：{tmp_path / 'zh' / 'report.html'}" in done.stdout
    rows = [row["sentence"] for split in ("train", "test") for row in read_table(Path(values["data"][split]))]
    page, card = (tmp_path / "zh" / name for name in ("report.html", "model/README.md"))
    assert '<html lang="zh">' in page.read_text(encoding="utf-8")
    assert "\n## 局限\n" in card.read_text(encoding="utf-8")
    assert english(checked.stdout + done.stdout, rows) == []
    assert english(page.read_text(encoding="utf-8"), rows) == []
    assert english(card.read_text(encoding="utf-8").partition("\n# ")[2], rows) == []
    told = json.loads((tmp_path / "zh" / "metrics.json").read_text(encoding="utf-8"))
    assert re.search("baseline", told["verdict"]["sentence"]), "what programs read is English"


COMMANDS = ["", "finetune", "search", "check", "predict", "evaluate", "compare", "export", "push", "look", "explore"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_in_chinese(command):
    environment = ENVIRONMENT | {"REGARD_LANGUAGE": "zh"}
    done = subprocess.run([*REGARD, *command.split(), "--help"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usage, _, rest = done.stdout.strip().partition("\n")
    assert usage.startswith("Usage: ")
    assert "选项" in rest
    assert english(rest, []) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["looc"], "没有命令 'looc'。您是不是指 'look'？"),
        (["look"], "缺少参数 'MODEL'。"),
        (["look", "a", "b", "--lyer", "1"], "没有选项 --lyer。可能是：--layer"),
        (["look", "a", "b", "--layer", "x"], "'--layer' 的值不对：需要整数"),
        (["check", "none.yaml"], "regard: none.yaml: 需要配置文件；收到的是不存在的路径；请用 'regard init' 写一个。"),
    ],
)
def test_mistakes_are_told_in_chinese(arguments, told):
    environment = ENVIRONMENT | {"REGARD_LANGUAGE": "zh"}
    done = subprocess.run([*REGARD, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr
