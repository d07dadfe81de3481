"""ROUGE against counts by hand, the first sentence, and runs of T5, BART and LED."""

import json
import random
from types import SimpleNamespace

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from regard.cli import app
from regard.finetuning.conduct import finetune
from regard.finetuning.progress import Display
from regard.finetuning.tasks.texts import summarization as task

TOOLS = ["editor", "player", "viewer", "server", "parser"]
THINGS = ["music", "text", "mail", "video", "font"]
FILLERS = ["it is fast", "it is small", "it runs on all systems", "it was written long ago"]
SCRATCH = {"layers": 1, "width": 32, "heads": 2, "vocabulary": 70}


def descriptions(count):
    rng, rows = random.Random(0), {}
    while len(rows) < count:
        tool, thing = rng.choice(TOOLS), rng.choice(THINGS)
        rest = ". ".join(rng.sample(FILLERS, 3))
        rows[f"{rng.randint(1, 999)} people use this. {rest}. a {tool} of {thing}."] = f"{thing} {tool}"
    return rows.items()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [{"text": text, "summary": summary} for text, summary in descriptions(120)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def values(table, tmp_path):
    return {
        "task": "summarization",
        "model": "t5",
        "data": {"train": str(table), "validation": 0.1, "test": 0.1},
        "output": str(tmp_path / "run"),
        "train": {"max_steps": 6, "evaluate_every": 3, "precision": "float32"},
        "options": {"from_scratch": SCRATCH, "beams": 1, "max_output": 8},
        "report": {"attention": 1, "mistakes": 2},
    }


@pytest.mark.parametrize("family", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_a_run(values, family):
    run = finetune(values | {"model": family}, quiet=True)
    assert run.model.config.model_type == family
    assert set(run.metrics["baselines"]) == {"first sentence", "nearest training text (TF-IDF)"}
    assert set(run.metrics["intervals_95"]) == {"rouge_1", "rouge_2", "rouge_l_sum"}
    text = next(iter(descriptions(1)))[0]
    told = CliRunner().invoke(app, ["look", str(run.path), text], env={"COLUMNS": "200"})
    assert "attends most to" in told.stdout
    row = json.loads((run.path / "predictions.jsonl").read_text().splitlines()[0])
    assert list(row) == ["text", "truth", "output", "tokens_cut"]


@pytest.mark.slow
def test_led_of_a_checkpoint(values, tmp_path):
    """Its attention is its own code, which cannot be seen: the report says so, and all else is as for others."""
    import torch
    from transformers import LEDConfig, LEDForConditionalGeneration

    first = finetune(values, quiet=True)
    folder = tmp_path / "led"
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    positions = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 16, "attention_window": 8}
    wide = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 70}
    marks = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "decoder_start_token_id": 0}
    LEDForConditionalGeneration(LEDConfig(**sizes, **positions, **wide, **marks)).save_pretrained(folder)
    first.processor.save_pretrained(folder)
    values |= {"model": str(folder), "output": str(tmp_path / "again"), "options": {"beams": 1, "max_output": 8}}
    run = finetune(values, quiet=True)
    assert run.model.config.model_type == "led"
    assert len(run.predict(["a text to sum up"])) == 1
    assert "Attention is not shown: watch: need a model that runs" in (run.path / "report.html").read_text()


def test_rouge_is_what_counts_by_hand_give():
    """Of "the cat sat", "a cat sat here" has two words, one pair in order, and two in a longest common sequence."""
    split = Dataset.from_dict({"text": ["t"], "summary": ["the cat sat"]})
    scores = task.measure(split, [{"output": "a cat sat here"}], {})

    def f1(hits, one, other):
        return 2 / (one / hits + other / hits)

    assert scores["rouge_1"].value == pytest.approx(f1(2, 3, 4))
    assert scores["rouge_2"].value == pytest.approx(f1(1, 2, 3))
    assert scores["rouge_l_sum"].value == pytest.approx(f1(2, 3, 4))


def test_intervals_shrink_with_the_rows():
    def width(rows):
        split = Dataset.from_dict({"text": ["t"] * rows, "summary": ["a b"] * rows})
        low, high = task.measure(split, [{"output": "a" if n % 2 else "b c d"} for n in range(rows)], {})[
            "rouge_1"
        ].interval
        return high - low

    assert 0 < width(400) < 0.4 * width(25)


def test_baselines():
    train = Dataset.from_dict({"text": ["a player of music", "a font viewer"], "summary": ["plays", "views"]})
    test = Dataset.from_dict({"text": ["Views a font. Very fast.", "No stop here\nbut music"], "summary": ["", ""]})
    config = SimpleNamespace(seed=0, report=SimpleNamespace(baseline_rows=10))
    found = task.baselines(train, test, None, {}, config, Display(quiet=True))
    assert [each["output"] for each in found["first sentence"]] == ["Views a font.", "No stop here\nbut music"]
    assert [each["output"] for each in found["nearest training text (TF-IDF)"]] == ["views", "plays"]
