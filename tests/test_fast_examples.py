"""The short configuration of every example, as a reader would run it: real data, an interruption, and what follows."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SILENT = {**os.environ, "COLUMNS": "200", "TOKENIZERS_PARALLELISM": "false"}
DEBIAN = pytest.mark.skipif(shutil.which("apt-get") is None, reason="the data come from a Debian package")
# Example -> the scripts that fetch its data, what is asked of the run, held-out rows, and a measure of them.
CASES = {
    "sentiment": (["sentiment/get_data"], "A joy from start to finish.", "data/sentiment/validation.csv", "accuracy"),
    "translation": (["translation/get_data"], "Click Save.", "data/translation/validation.tsv", "bleu"),
    "summarization": (["summarization/get_data"], "A game.", "data/summarization/validation.jsonl", "rouge_1"),
    "chinese": (["chinese/get_data"], "Click Save.", "data/chinese/pairs-validation.tsv", "bleu"),
    "language": (
        ["summarization/get_data"], "It has the [MASK] files.", "data/summarization/validation.jsonl",
        "pseudo_perplexity",
    ),
    "fashion": (["fashion/get_data --rows 1500"], "data/fashion/test/bag/00018.png", "data/fashion/test", "top_1"),
    "objects": (["objects/get_data --train 10 --test 100"], "data/objects/test/00001.png", "data/objects/test.json",
                "map_50"),
    "generation": (["generation/get_data"], "3", "data/digits/test", "agreement"),
    "synthesis": (
        ["synthesis/get_data"], "Call waiting.", "data/synthesis/validation.csv", "diagonality",
    ),
    "speech": (
        ["speech/get_model", "speech/get_data"], "data/speech/sense_and_sensibility_01_austen_64kb-0890.wav",
        "data/speech/transcripts.csv", "word_error_rate",
    ),
}  # fmt: skip
LOCAL = ("sentiment", "generation")
"""Examples whose data need no package of Debian."""


def regard(folder, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "regard.cli", *map(str, arguments)],
        cwd=folder, env=SILENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr[-3000:]
    return done.stdout


def interrupt(folder, configuration):
    """Start a run, and press Ctrl-C when it has validated once."""
    command = [sys.executable, "-u", "-m", "regard.cli", "finetune", configuration]
    told = []
    with subprocess.Popen(
        command, cwd=folder, env=SILENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            told.append(line)
            if line.startswith("  step ") and sum(each.startswith("  step ") for each in told) == 1:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, "".join(told)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where all examples run, so that what two of them need is fetched once."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.slow
@pytest.mark.parametrize("example", [each if each in LOCAL else pytest.param(each, marks=DEBIAN) for each in CASES])
def test_the_short_configuration_runs(example, place):
    scripts, asked, held_out, measure = CASES[example]
    for script in scripts:
        name, *options = script.split()
        command = [sys.executable, str(ROOT / f"examples/{name}.py"), *options]
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    configuration = ROOT / f"examples/{example}/fast.yaml"
    interrupt(place, configuration)
    told = regard(place, "finetune", configuration, "--resume")
    [run] = [line.removeprefix("The report: ").removesuffix("/report.html") for line in told.splitlines()
             if line.startswith("The report: ")]  # fmt: skip
    state = json.loads((place / run / "run.json").read_text(encoding="utf-8"))
    assert state["finished"]
    metrics = json.loads((place / run / "metrics.json").read_text(encoding="utf-8"))
    assert measure in metrics
    assert regard(place, "evaluate", run, held_out).strip()
    assert regard(place, "predict", run, asked).strip()
    assert regard(place, "look", run, asked).strip()
