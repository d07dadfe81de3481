"""Masks that depend on seed, epoch and text alone, pseudo-perplexity by a loop in float64, and whole runs."""

import csv
import math
import random

import numpy as np
import openpyxl
import pytest
import torch
from datasets import Dataset
from transformers.models.bert.modeling_bert import BertLMPredictionHead
from typer.testing import CliRunner

from conftest import PLAIN, answer_without_numbers, sentences, write_csv
from regard.cli import app
from regard.errors import ConfigError, DataError
from regard.finetuning import conduct
from regard.finetuning.check import check
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.data.tables import read_table
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import evaluate
from regard.finetuning.tasks.texts import masked_language_modeling as task
from regard.finetuning.tasks.texts import masking
from regard.finetuning.training import checkpoints, train
from regard.finetuning.training.sampler import LengthSampler
from regard.finetuning.training.trainer import StepTrainer

SCRATCH = {"layers": 1, "width": 64, "heads": 4, "vocabulary": 65}


def texts(count):
    """Texts of two words in turn: each word says what the others are."""
    rng, found = random.Random(0), set()
    while len(found) < count:
        found.add(" ".join([*rng.sample(PLAIN, 2)] * rng.randint(2, 5)))
    return sorted(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two text files, one in a folder of its own; blank lines part the texts, which may go over several lines."""
    path, found = tmp_path_factory.mktemp("texts"), texts(120)
    (path / "more").mkdir()
    (path / "a.txt").write_text("\n\n\n".join(text.replace(" ", "\n", 1) for text in found[:80]))
    (path / "more" / "b.txt").write_text("\n\n".join(found[80:]) + "\n")
    return path


@pytest.fixture
def values(folder, tmp_path):
    return {
        "task": "masked-language-modeling",
        "model": "bert",
        "data": {"train": str(folder), "validation": 0.1, "test": 0.1},
        "output": str(tmp_path / "run"),
        "train": {"max_steps": 100, "batch_size": 32, "learning_rate": 3e-3, "evaluate_every": 50, "dropout": 0.0,
                  "precision": "float32"},
        "options": {"from_scratch": SCRATCH},
        "report": {"mistakes": 3},
    }  # fmt: skip


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def test_a_run_from_scratch_beats_the_frequencies(values, folder, tmp_path):
    run = finetune(values, quiet=True)
    metrics, rival = run.metrics, run.metrics["baselines"]["frequency of each token"]
    assert metrics["pseudo_perplexity"] < 0.8 * rival["pseudo_perplexity"]
    assert metrics["guessed_right"] > rival["guessed_right"] + 0.1
    low, high = metrics["intervals_95"]["pseudo_perplexity"]
    assert low < metrics["pseudo_perplexity"] < high
    assert evaluate(run, folder)["pseudo_perplexity"].value < rival["pseudo_perplexity"]
    told = CliRunner().invoke(app, ["predict", str(run.path), "the film [MASK] plot"])
    assert len(told.stdout.split(", ")) == task.FILLS
    told = CliRunner().invoke(app, ["predict", str(run.path), "the film"])
    assert told.stdout.startswith("pseudo-perplexity ")
    assert CliRunner().invoke(app, ["look", str(run.path), "the film"]).exit_code == 0


def test_a_model_is_adapted_and_compared_with_itself_before(values, tiny, tables, tmp_path):
    rated = {
        "train": str(tables / "train.csv"),
        "test": str(tables / "test.csv"),
        "text": "sentence",
        "label": "sentiment",
    }
    values |= {"model": str(tiny), "options": {"downstream": rated}}
    values["data"] = {"train": rated["train"], "test": rated["test"], "columns": {"text": "sentence"}}
    values["train"] |= {"max_steps": 10, "evaluate_every": 5}
    run = finetune(values, quiet=True)
    assert set(run.metrics["baselines"]) == {"frequency of each token", "before training"}
    assert run.metrics["pseudo_perplexity"] < run.metrics["baselines"]["before training"]["pseudo_perplexity"]
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Frozen embeddings with logistic regression on test.csv" in page
    book = openpyxl.Workbook()
    for row in [["sentence", "sentiment"], ["a film", "good"], ["dull", "bad"]]:
        book.active.append(row)
    book.create_sheet("more").append(["left"])
    book.save(tmp_path / "b.xlsx")
    values["options"]["downstream"] = rated | {"test": str(tmp_path / "b.xlsx")}
    told = [finding.message for finding in check(values | {"output": str(tmp_path / "other")}).warnings]
    assert f"options.downstream: {tmp_path}/b.xlsx: sheet 'Sheet' is read; left out: 'more'" in told
    values["options"]["downstream"] = rated | {"label": "mood"}
    told = refusal(check, values | {"output": str(tmp_path / "other")}, error=DataError)
    assert told.startswith(f"{tables / 'train.csv'}: need the column 'mood'; got 'sentence', 'sentiment'")


@pytest.mark.slow
def test_resuming_in_the_second_epoch_ends_in_the_same_weights(values, tmp_path):
    from safetensors.torch import load_file

    values["train"] |= {"max_steps": 9, "evaluate_every": 3, "keep": "last", "dropout": 0.1}
    values["report"] |= {"baselines": False, "mistakes": 0}
    calls, step = iter(range(100)), checkpoints.Trainer.training_step

    def stop(*args, **options):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return step(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Trainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(values, quiet=True)
    resumed = finetune(values, resume=True, quiet=True)
    whole = finetune(values | {"output": str(tmp_path / "whole")}, quiet=True)
    one, other = (load_file(run.path / "model" / "model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.fixture(scope="module")
def tokenizer(tiny):
    values = {"task": "masked-language-modeling", "model": str(tiny), "data": {"train": "t"}, "output": "o"}
    return task.load_processor(str(tiny), load_config(values))


def test_training_and_validation_guess_what_is_masked_and_no_more(values, monkeypatch):
    """In bfloat16, so that accelerate, too, puts something around the model, which is saved as it was."""
    guessed, hidden = [], []
    forward, compute = BertLMPredictionHead.forward, StepTrainer.compute_loss

    def recorded(self, states):
        guessed.append((self.training, states.shape[:-1].numel()))
        return forward(self, states)

    def counted(self, model, inputs, *rest, **options):
        hidden.append((model.training, int(inputs["labels"].ne(-100).sum())))
        return compute(self, model, inputs, *rest, **options)

    values |= {"monitor": {"every": 0}, "report": {"baselines": False}}
    values["train"] |= {"max_steps": 3, "evaluate_every": 3, "precision": "bfloat16"}
    with monkeypatch.context() as patch:
        patch.setattr(BertLMPredictionHead, "forward", recorded)
        patch.setattr(StepTrainer, "compute_loss", counted)
        patch.setattr(train, "save", lambda *given: None)
        patch.setattr(conduct, "finish", lambda *given: None)
        finetune(values, quiet=True)
    assert guessed[2:] == hidden  # two rows are looked at before, to find out whether the model reads padding
    assert [training for training, _ in hidden] == [True] * 3 + [False]
    run = finetune(values, overwrite=True, quiet=True)
    assert run.state["precision"] == "bfloat16 with float32 weights"


def test_masks_depend_on_seed_epoch_and_text(tokenizer):
    ids = tokenizer(" ".join(PLAIN * 2))["input_ids"]
    same = [masking.mask(ids, tokenizer, 1, 0) for _ in range(2)]
    assert same[0] == same[1]
    assert len({str(masking.mask(ids, tokenizer, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
    collate, sampler = task.collator(tokenizer), LengthSampler(None, 2, 2, seed=1)
    collate.follow(sampler)
    rows = [{"input_ids": ids, "labels": []}, {"input_ids": ids[:5], "labels": []}]
    first = collate(rows)
    assert first["input_ids"][0].tolist() == same[0][0]
    assert first["labels"][0].tolist() == same[0][1]
    assert first["labels"][1, 5:].eq(-100).all()
    sampler.set_epoch(1)
    assert collate(rows)["input_ids"].tolist() != first["input_ids"].tolist()


def test_shares_of_what_is_masked(tokenizer):
    """Of many tokens 15 % are to be guessed: 80 % of these are the mask, 10 % stay; marks are left alone."""
    ids = tokenizer(" ".join(PLAIN))["input_ids"]
    pairs = [masking.mask(ids, tokenizer, 0, epoch) for epoch in range(3000)]
    seen, labels = (np.array(part) for part in zip(*pairs, strict=True))
    chosen = labels != -100
    assert not chosen[:, [0, -1]].any()
    assert chosen[:, 1:-1].mean() == pytest.approx(round(0.15 * len(PLAIN)) / len(PLAIN))
    np.testing.assert_array_equal(seen[~chosen], np.tile(ids, (3000, 1))[~chosen])
    np.testing.assert_array_equal(labels[chosen], np.tile(ids, (3000, 1))[chosen])
    assert (seen[chosen] == tokenizer.mask_token_id).mean() == pytest.approx(0.8 + 0.1 / len(tokenizer), abs=0.02)
    assert (seen[chosen] == labels[chosen]).mean() == pytest.approx(0.1 + 0.1 / len(tokenizer), abs=0.02)


def test_pseudo_perplexity_is_the_loop_over_tokens(tiny, tokenizer):
    """Salazar et al. 2020: exp of the mean over tokens of -log P(token | all others), here in float64."""
    torch.manual_seed(1)
    model, _ = task.load_model(str(tiny), task.Known(from_scratch=None))
    with torch.no_grad():  # so that the answers differ
        model.cls.predictions.bias.normal_()
    rows = ["the film and actors", "a plot of scenes with music and camera"]
    found = task.respond(model, tokenizer, rows, Display(quiet=True))
    scores = task.measure(Dataset.from_dict({"text": rows}), found, {})
    total, tokens, right = 0.0, 0, 0
    exact = model.double().eval()
    for row in rows:
        ids = tokenizer(row)["input_ids"]
        for place in range(1, len(ids) - 1):
            hidden = torch.tensor([[*ids[:place], tokenizer.mask_token_id, *ids[place + 1 :]]])
            with torch.no_grad():
                logits = exact(input_ids=hidden).logits[0, place]
            total -= float(logits.log_softmax(-1)[ids[place]])
            tokens, right = tokens + 1, right + int(logits.argmax() == ids[place])
    assert scores["pseudo_perplexity"].value == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert scores["guessed_right"].value == pytest.approx(right / tokens)
    assert not scores["pseudo_perplexity"].higher_is_better


def test_texts_of_every_kind(folder, tmp_path):
    expected = texts(120)
    assert read_table(folder, task.FORMATS)["text"] == expected
    assert read_table(folder / "a.txt", task.FORMATS)["text"] == expected[:80]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in expected)])
    assert read_table(tmp_path / "t.csv", task.FORMATS)["text"] == expected
    (tmp_path / "none").mkdir()
    assert refusal(read_table, tmp_path / "none", task.FORMATS, error=DataError) == (
        f"{tmp_path / 'none'}: need a folder with .txt files; got none in it; name their folder, or a table."
    )


def test_a_tokenizer_without_a_mask_is_refused(values, tmp_path):
    from transformers import T5Config

    values["options"] = {"from_scratch": None}
    T5Config().save_pretrained(tmp_path / "t5")
    config = load_config(values | {"task": "summarization", "options": {"from_scratch": SCRATCH}})
    from regard.finetuning.tasks.texts import scratch

    scratch.make_tokenizer("t5", config, [texts(100)], scratch.SEQUENCES).save_pretrained(tmp_path / "t5")
    assert refusal(check, values | {"model": str(tmp_path / "t5")}) == (
        f"model: need a tokenizer with a mask, such as BERT's; got '{tmp_path / 't5'}' without one; name an encoder "
        "that learned by guessing."
    )


def test_a_mask_takes_the_place_of_a_word_with_its_space(values, tmp_path):
    from transformers import AutoTokenizer

    from regard.finetuning.tasks.texts import scratch

    config = load_config(values | {"options": {"from_scratch": SCRATCH}})
    rows = [text.replace(" ", ", ", 1) for text in texts(100)]
    scratch.make_tokenizer("bert", config, [rows], scratch.ENCODERS).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)

    def pieces(text):
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    for hidden, text in (
        ("the [MASK] plot", "the film plot"),
        ("the  [MASK], and", "the film, and"),
        ("[MASK] plot", "film plot"),
    ):
        assert pieces(hidden) == ["[MASK]" if piece == "▁film" else piece for piece in pieces(text)]


def test_what_cannot_begin_from_scratch(values):
    assert refusal(check, values | {"model": "gpt2"}) == (
        "model: need one of bert, modernbert with options.from_scratch; got 'gpt2'; name a family, or leave out "
        "options.from_scratch."
    )


def test_repeated_and_empty_texts_are_told(values, tmp_path):
    rows = [(text, "x") for text, _ in sentences(80, seed=3)]
    values["data"] = {"train": str(write_csv(tmp_path / "t.csv", [*rows, rows[0], (" ", "x")], ("text", "x")))}
    values["options"]["from_scratch"] = SCRATCH | {"vocabulary": 80}
    told = " ".join(finding.message for finding in check(values).warnings)
    assert "are there more than once" in told
    assert "texts are empty" in told


def test_no_answer_of_no_number(values):
    assert "got NaN or infinity for 3 of 3 (number 1, 2, 3); nothing was answered" in answer_without_numbers(values)


def test_parts_of_characters_that_fill_a_mask_are_told_apart():
    """Two bytes that are no character by themselves are two words."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"å": 0, "ç": 1, "çĮ«": 2, "Ġthe": 3}, unk_token="å"))
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    assert task._named(tokenizer, [0, 1, 2, 3], [0.4, 0.3, 0.2, 0.1]) == {
        "\\xe5": 0.4,
        "\\xe7": 0.3,
        "猫": 0.2,
        "the": 0.1,
    }


def test_words_are_counted_in_any_language(tmp_path):
    table = Dataset.from_dict({"text": ["猫坐在垫子上。", "the cat, sat"]})
    config = load_config(
        {"task": "masked-language-modeling", "model": "bert", "data": {"train": "t"}, "output": "o", "options": {}}
    )
    [first, *_] = task.inspect({"train": table}, config)[1]
    assert first.message == "train: 2 texts of 9 words"
