"""ROUGE against counts by hand, the first sentence, and runs of T5, BART and LED."""

import json
import random
from types import SimpleNamespace

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from regard.cli import app
from regard.errors import DataError
from regard.finetuning.check import check
from regard.finetuning.conduct import finetune
from regard.finetuning.progress import Display
from regard.finetuning.tasks.texts import summarization as task

TOOLS = ["editor", "player", "viewer", "server", "parser"]
THINGS = ["music", "text", "mail", "video", "font"]
FILLERS = ["it is fast", "it is small", "it runs on all systems", "it was written long ago"]
SCRATCH = {"layers": 1, "width": 32, "heads": 2, "vocabulary": 70}
KNOWN = task.Known(prefix="", beams=1, max_output=8, from_scratch=None)


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
    scores = task.measure(split, [{"output": "a cat sat here"}], KNOWN)

    def f1(hits, one, other):
        return 2 / (one / hits + other / hits)

    assert scores["rouge_1"].value == pytest.approx(f1(2, 3, 4))
    assert scores["rouge_2"].value == pytest.approx(f1(1, 2, 3))
    assert scores["rouge_l_sum"].value == pytest.approx(f1(2, 3, 4))


def test_intervals_shrink_with_the_rows():
    def width(rows):
        split = Dataset.from_dict({"text": ["t"] * rows, "summary": ["a b"] * rows})
        low, high = task.measure(split, [{"output": "a" if n % 2 else "b c d"} for n in range(rows)], KNOWN)[
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


def rouge_of(output, reference, known=KNOWN):
    split = Dataset.from_dict({"text": ["t"], "summary": [reference]})
    return {name: score.value for name, score in task.measure(split, [{"output": output}], known).items()}


SAME = [
    "猫坐在垫子上",
    "кошка сидит",
    "القط يجلس هنا",
    "แมวนั่งบนเสื่อ",
    "고양이가 앉았다",
    "猫は座る",
    "η γάτα κάθεται",
    "naïve Äpfel",
]


@pytest.mark.parametrize("text", SAME)
def test_a_text_of_any_language_is_like_itself(text):
    assert set(rouge_of(text, text).values()) == {1.0}


def f1(hits, one, other):
    return 2 / (one / hits + other / hits)


def test_rouge_counts_characters_where_no_spaces_are():
    """Of 猫坐在垫子上, 猫在椅子上 has four characters, one pair in order, and four in a longest common sequence."""
    scores = rouge_of("猫在椅子上", "猫坐在垫子上。")
    assert scores["rouge_1"] == pytest.approx(f1(4, 5, 6))
    assert scores["rouge_2"] == pytest.approx(f1(1, 4, 5))
    assert scores["rouge_l_sum"] == pytest.approx(f1(4, 5, 6))
    mixed = rouge_of("用Python写", "用 Python 读写")
    assert mixed["rouge_1"] == pytest.approx(f1(3, 3, 4))


def test_rouge_keeps_the_letters_of_every_alphabet():
    assert rouge_of("красная кошка", "белая кошка")["rouge_1"] == pytest.approx(0.5)
    assert rouge_of("sch ne pfel", "schöne Äpfel")["rouge_1"] == 0
    assert rouge_of("القط الصغير", "القط الكبير")["rouge_1"] == pytest.approx(0.5)


def test_words_of_english_alone_are_counted_by_their_stems():
    english, german = (KNOWN.model_copy(update={"language": code}) for code in ("en", "de"))
    assert rouge_of("formatting", "formatted", english)["rouge_1"] == 1
    assert rouge_of("formatting", "formatted", german)["rouge_1"] == 0


def test_english_is_scored_as_by_rouge_scores_own_tokenizer():
    from rouge_score.rouge_scorer import RougeScorer

    rng, known = random.Random(3), KNOWN.model_copy(update={"language": "en"})
    vocabulary = ["the", "parser's", "running", "files_of", "3.5", "HTML-5", "documents", "quickly,", "(and)", "Tools!"]
    for _ in range(20):
        output, reference = (" ".join(rng.choices(vocabulary, k=8)) for _ in range(2))
        usual = RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True).score(reference, output)
        assert list(rouge_of(output, reference, known).values()) == [each.fmeasure for each in usual.values()]


def test_summaries_without_words_are_left_out_and_told():
    """Half of the rows can be counted, and those are right."""
    split = Dataset.from_dict({"text": ["t", "t"], "summary": ["！？", "猫"]})
    scores = task.measure(split, [{"output": "x"}, {"output": "猫"}], KNOWN)
    assert scores["rouge_1"].value == 1
    [told] = task._wordless("train", split, "train.csv")
    assert told.message.startswith("train: 1 summaries hold no letters and no digits (first: row 1)")
    with pytest.raises(DataError) as caught:
        task.inspect_held_out(split.select([0]), "more.csv", KNOWN)
    assert str(caught.value) == (
        "more.csv: need summaries with letters or digits to measure by; got none; choose another column."
    )


def test_a_run_in_chinese(tmp_path, values):
    table = tmp_path / "chinese.jsonl"
    rng, rows = random.Random(0), {}
    while len(rows) < 120:
        tool, thing = rng.choice(["编辑器", "播放器", "查看器"]), rng.choice(["音乐", "文本", "邮件"])
        rows[f"{rng.randint(1, 999)}人使用这个软件。这是一个{thing}{tool}，运行很快。"] = f"{thing}{tool}"
    table.write_text("\n".join(json.dumps({"text": t, "summary": s}) for t, s in rows.items()), encoding="utf-8")
    values["data"]["train"] = str(table)
    values["options"]["from_scratch"] = {**SCRATCH, "vocabulary": 60}
    told = [finding.message for finding in check(values).findings]
    assert (
        "train: the summary is in Chinese (zh), by their letters; options.language corrects that; ROUGE counts each of "
        "its characters as a word, for no spaces part its words"
    ) in told
    run = finetune(values, quiet=True)
    assert run.spec.language == "zh"
    first = run.metrics["baselines"]["first sentence"]
    assert first["rouge_1"] == 0  # "999人使用这个软件。": it has none of the summary's characters
    assert run.metrics["baselines"]["nearest training text (TF-IDF)"]["rouge_1"] > 0.5
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "signature language:zh|tok:characters|stem:no|sum:lines|rouge_score:0.1.2" in page
