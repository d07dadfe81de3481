"""The examples run as a reader would run them."""

import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_article(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "article.py")],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert "score 11, scaled 7.78, weight 1, output [5. 6.]" in lines
    assert "output (32, 10, 128) weights (32, 10, 10)" in lines
    assert "rows of the weights sum to 1: True" in lines
    [losses] = [line.partition(": ")[2].split(" -> ") for line in lines if line.startswith("loss")]
    assert [float(loss) for loss in losses] == sorted(map(float, losses), reverse=True)
    assert (tmp_path / "attention.png").stat().st_size > 10_000


def run(script, *arguments, **options):
    done = subprocess.run(
        [sys.executable, *([str(ROOT / script)] if script.endswith(".py") else ["-m", script]), *map(str, arguments)],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_which_patches_decide(tmp_path):
    lines = run("examples/digits/look.py", tmp_path).splitlines()
    [accuracy] = [float(line.split()[1].rstrip(";")) for line in lines if line.startswith("accuracy")]
    assert accuracy > 0.93
    beyond = {line.split()[0]: float(line.split()[5].rstrip(";")) for line in lines if "beyond random" in line}
    assert list(beyond) == ["received", "rollout", "relevance"]
    assert beyond["rollout"] > 0.05  # of the probability of what was decided, mean of 20 digits
    assert beyond["relevance"] > 0.0
    assert (tmp_path / "digits-look.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="the sounds come from a Debian package")
def test_words_and_their_seconds(tmp_path):
    """Whisper tiny.en itself on a sentence from a novel."""
    run("examples/speech/get_model.py", tmp_path)
    run("examples/speech/get_data.py", tmp_path)
    sentence = tmp_path / "sense_and_sensibility_01_austen_64kb-0890.wav"
    told = run("regard.cli", "look", tmp_path / "whisper-tiny.en", sentence, env={**os.environ, "COLUMNS": "200"})
    rows = [line.split() for line in told.splitlines() if line.rstrip()[-1:].isdigit()]
    words = [word.strip(".").lower().replace("-", " ") for word, *_ in rows]
    assert " ".join(words) == "unless to be rather cold hearted and rather selfish is to be ill disposed"
    times = [float(time) for _, *pair in rows for time in pair]
    assert times == sorted(times)
    with wave.open(str(sentence)) as file:
        seconds = file.getnframes() / file.getframerate()
    assert times[0] < 1
    assert seconds - 1 < times[-1] <= seconds + 0.1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="the sounds come from a Debian package")
def test_what_each_token_listens_to(tmp_path):
    (tmp_path / "data").mkdir()
    for script in ("get_model", "get_data"):
        run(f"examples/speech/{script}.py", tmp_path / "data" / "speech")
    told = run("examples/speech/look.py", tmp_path / "out", cwd=tmp_path)
    assert "heard  Had@0.0 he@" in told
    assert (tmp_path / "out" / "alignment.png").stat().st_size > 10_000


KERAS = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def from_nothing(name, folder, *options, **environment):
    """A script of examples/keras in short: accuracy by the name of who reached it, and the lines before."""
    script = f"examples/keras/{name}.py"
    told = run(script, "--fast", "--output", folder, *options, cwd=ROOT, env={**KERAS, **environment})
    lines = told.splitlines()
    [line] = [line for line in lines if line.startswith("accuracy")]
    accuracies = {part.rpartition(" ")[0].strip(): float(part.rpartition(" ")[2]) for part in line.split(";")}
    for picture in ("attention.png", "training.png"):
        assert (folder / picture).stat().st_size > 5_000
    return accuracies, lines


@pytest.mark.slow
def test_sequences_of_varying_length(tmp_path):
    accuracies, lines = from_nothing("lengths", tmp_path)
    assert accuracies["accuracy"] > 0.85
    assert accuracies["accuracy"] > accuracies["commonest digit"] + 0.7
    by_rows = [float(line.split()[3].rstrip(";")) for line in lines if "rows: accuracy" in line]
    assert len(by_rows) == 6
    assert by_rows[-1] > by_rows[0] + 0.1  # who sees more of a digit knows it better


@pytest.mark.slow
def test_text_from_nothing(tmp_path):
    accuracies, _ = from_nothing("text", tmp_path)
    assert accuracies["accuracy"] > accuracies["commonest"] + 0.2


@pytest.mark.slow
def test_pictures_from_nothing(tmp_path):
    accuracies, _ = from_nothing("images", tmp_path, "--digits")
    assert accuracies["accuracy"] > accuracies["commonest"] + 0.75


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="the photographs come from a Debian package")
def test_photographs_from_nothing(tmp_path):
    accuracies, _ = from_nothing("images", tmp_path)
    assert accuracies["accuracy"] > accuracies["commonest"] + 0.65
