"""Whatever goes wrong, a person reads one sentence: no traceback, and nothing that steers the terminal."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import regard.commands
from conftest import sentences, write_csv
from regard.cli import app

REGARD = [sys.executable, "-m", "regard.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
TITLE = "\x1b]0;owned\x07"
WICKED = [TITLE, "\x9b31m", "\r", "\u202e"]


def run(*arguments):
    """Run a command in this process, with what it would send to a terminal."""
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"}, color=True)


def on_a_terminal(*arguments):
    """Run a command in a process with a terminal at all its ends; return its exit code and what that was sent."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*REGARD, *map(str, arguments)], stdin=follower, stdout=follower, stderr=follower, env=ENVIRONMENT
    ) as process:
        os.close(follower)
        sent = b"".join(iter(lambda: read(leader), b""))
    os.close(leader)
    return process.returncode, sent.decode("utf-8")


def read(leader):
    try:
        return os.read(leader, 65536)
    except OSError:  # the other end is closed
        return b""


def sentence(done, code=2):
    """Return the one line that a person reads."""
    assert done.exit_code == code, (done.stderr, done.exception)
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("regard: ")
    assert isinstance(done.exception, SystemExit)
    return done.stderr.removeprefix("regard: ").rstrip()


@pytest.fixture
def config(values, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def wicked(values, tmp_path):
    """A configuration whose data hold control characters in their labels, their texts and their name."""
    rows = [(text, f"{label}{''.join(WICKED)}") for text, label in sentences(40, seed=1)]
    rows.append((f"a film {''.join(WICKED)}", rows[0][1]))
    write_csv(tmp_path / f"t{TITLE}.csv", rows)
    values["data"] |= {"train": str(tmp_path / f"t{TITLE}.csv"), "validation": 0.2, "test": 0.2}
    values["train"] |= {"max_steps": 2, "evaluate_every": 1}
    values["report"] |= {"attention": 0, "baselines": False}
    path = tmp_path / "wicked.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_commands_print_through_what_writes_control_characters_out():
    folder = Path(regard.commands.__file__).parent
    loose = [path.name for path in folder.glob("*.py") if re.search(r"typer\.(s?echo)|\bprint\(", path.read_text())]
    assert loose == ["shared.py"]


def require_tame(told):
    for part in WICKED[:2] + WICKED[3:]:
        assert part not in told, ascii(told)
    assert "\x1b]" not in told
    assert "\x07" not in told


def test_data_do_not_steer_a_terminal(wicked):
    code, told = on_a_terminal("check", wicked)
    assert code == 0, told
    assert "\\x1b]0;owned\\x07" in told
    require_tame(told)


def test_data_do_not_steer_a_terminal_from_any_command(wicked, tmp_path):
    table = tmp_path / f"t{TITLE}.csv"
    for arguments in (
        ("finetune", wicked),
        ("predict", tmp_path / "run", "a superb film"),
        ("predict", tmp_path / "run", table),
        ("look", tmp_path / "run", f"a film{TITLE}"),
        ("evaluate", tmp_path / "run", table),
        ("check", wicked, "--json"),
    ):
        done = run(*arguments)
        assert done.exit_code == 0, done.stderr
        require_tame(done.output)
    assert any(TITLE in finding["message"] for finding in json.loads(done.stdout)["findings"])


def test_errors_do_not_steer_a_terminal(wicked, tmp_path):
    for arguments in (
        ("check", tmp_path / f"no{TITLE}.yaml"),
        ("check", wicked, "--set", f"data.train={tmp_path}/no{TITLE}.csv"),
        ("check", wicked, "--set", f'data.train="{tmp_path}/no\\e]0;owned.csv"'),
        ("check", wicked, "--set", 'data.columns.text="no\\e]0;owned"'),
        ("check", wicked, "--set", f"no{TITLE}=3"),
        ("evaluate", tmp_path / f"no{TITLE}", "a.csv"),
    ):
        told = sentence(run(*arguments))
        require_tame(told)


@pytest.mark.parametrize(
    ("arguments", "where"), [(["--help"], ""), (["init", "translation", "-o", "NEW"], "standard output: ")]
)
def test_an_output_without_room_is_told(tmp_path, arguments, where):
    given = [*REGARD, *(each.replace("NEW", str(tmp_path / "new.yaml")) for each in arguments)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(given, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 2
    assert done.stderr == f"regard: {where}{UNWRITTEN.format('No space left on device')}\n"


UNWRITTEN = "need files that can be read and written; got '{}'; check the path, its rights and room."


@pytest.mark.parametrize("most", [0, 100, 8192])
@pytest.mark.parametrize(
    ("arguments", "suffix", "old"),
    [
        ("init translation", ".yaml", False),
        ("predict RUN TABLE", ".jsonl", False),
        ("predict RUN TABLE", ".parquet", False),
        ("predict RUN TABLE", ".csv", False),
        ("look RUN film", ".html", True),
        ("look RUN film", ".png", True),
        ("compare RUN RUN", ".html", True),
        ("export RUN", "", False),
        pytest.param("export RUN --format onnx", "", False, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_told_with_what_was_not_written(finished, tmp_path, arguments, suffix, old, most, limited):
    if most > 100 and suffix in (".yaml", ".parquet"):
        return  # which are that small
    path = tmp_path / f"new{suffix}"
    if old:
        path.write_text("old")
    places = {"RUN": finished.path, "TABLE": finished.config.data.test}
    limited(most)
    done = run(*(places.get(each, each) for each in arguments.split()), "-o", path)
    assert done.exit_code == 2, (done.stderr, done.exception)
    assert done.stderr.splitlines()[-1] == f"regard: {path}: {UNWRITTEN.format('File too large')}"
    assert [each.name for each in tmp_path.rglob("*")] == [path.name] * old
    assert not old or path.read_text() == "old"


@pytest.mark.parametrize("command", ["finetune", "search"])
def test_a_run_without_room_begins_nothing(config, tmp_path, command, limited):
    space = {"search": {"space": {"train.batch_size": [8, 16]}}} if command == "search" else {}
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | space))
    limited(100)
    done = run(command, config)
    assert done.exit_code == 2, (done.stderr, done.exception)
    told = done.stderr.splitlines()[-1]
    if command == "search":
        assert told == f"regard: {tmp_path}/run.search/config.yaml: {UNWRITTEN.format('File too large')}"
    else:
        assert told.startswith(f"regard: {tmp_path}/run: need room to write; got a disk with ")
        assert told.endswith(" MB free, or a limit on files; nothing was saved yet: make room and start again.")
        assert not (tmp_path / "run").exists()


def test_the_journal_of_a_search_without_room_is_told(config, tmp_path, limited):
    values = yaml.safe_load(config.read_text()) | {"search": {"space": {"train.batch_size": [8, 16]}}}
    config.write_text(yaml.safe_dump(values | {"train": {"max_steps": 1, "evaluate_every": 1}}))
    limited(2000)
    done = run("search", config, "-q")
    assert done.exit_code == 2, (done.stderr, done.exception)
    assert done.stderr.startswith(f"regard: {tmp_path}/run.search")


def test_a_place_that_may_not_be_written_is_told():
    done = run("init", "translation", "-o", "/sys/new.yaml")
    assert done.exit_code == 2
    assert done.stderr.startswith("regard: /sys/new.yaml: need files that can be read and written; got '")


BYTES = b"a \xff film".decode("utf-8", "surrogateescape")
"""What Python makes of an argument that is no UTF-8."""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("predict RUN GIVEN", "predict: need text in UTF-8; got half of a surrogate pair ({}) in input 1; correct it."),
        ("predict RUN GIVEN -o NEW.jsonl", "predict: need text in UTF-8; got half of a surrogate pair ({}) in input 1"),
        ("look RUN GIVEN", "look: need text in UTF-8; got half of a surrogate pair ({}); correct it."),
        ("evaluate RUN GIVEN", "a {} film: need a file to read; got nothing there;"),
        ("evaluate RUN TABLE --column GIVEN", "need the column 'a {} film'; got "),
        ("check GIVEN", "a {} film: need a configuration file; got nothing there;"),
        ("check CONFIG --set data.train=GIVEN", "--set: need a value in YAML for 'data.train'; got "),
        ("export RUN -o GIVEN", "export: need a directory to make; got a name that is no UTF-8 ({}); rename it."),
        (
            "predict GIVEN film",
            "run: need a run, or the directory of one; got a name that is no UTF-8 ({}); rename it.",
        ),
        ("init GIVEN", "task: need one of "),
    ],
)
def test_arguments_that_are_no_utf_8_are_told(finished, config, tmp_path, arguments, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": finished.path, "GIVEN": BYTES, "TABLE": finished.config.data.test, "CONFIG": config}
    given = [each.replace("GIVEN", BYTES) if "=" in each else places.get(each, each) for each in arguments.split()]
    assert told.format("\\udcff") in sentence(run(*given))
    assert [each.name for each in tmp_path.iterdir()] == ["c.yaml"]


def test_a_fault_of_ours_is_told_as_one(config, monkeypatch):
    def broken(*_):
        raise TypeError(f"unsupported{TITLE}\nof ours")

    monkeypatch.setattr("regard.finetuning.check.prepare", broken)
    told = sentence(run("check", config), 70)
    assert told.startswith(
        "this is a fault of regard's, not of what it was given (TypeError: unsupported\\x1b]0;owned\\x07 of ours; "
        "test_sentences.py, line "
    )
    assert told.endswith("; set REGARD_DEBUG=1 to see the traceback, and report it.")
    monkeypatch.setenv("REGARD_DEBUG", "1")
    done = run("check", config)
    assert done.exit_code == 70
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert done.stderr.splitlines()[-1] == f"regard: {told}"
    require_tame(done.stderr)


def test_debug_asks_for_tracebacks(config, tmp_path, monkeypatch):
    monkeypatch.setenv("REGARD_DEBUG", "0")
    assert "Traceback" not in run("check", tmp_path / "no.yaml").stderr
    done = run("--debug", "check", tmp_path / "no.yaml")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
