"""Everything that Regard says is in its catalogues, and what is shown is told in the reader's language."""

import importlib.util
import pickle
import re
import subprocess
import sys
from pathlib import Path
from string import Formatter

import numpy as np
import pytest

import regard
from regard._catalogue import INSIDE, Catalogue, catalogue
from regard._spoken import VARIABLES, language, tell
from regard.errors import ConfigError, OutOfRangeError, RegardError

ROOT = Path(__file__).parents[1]
ERRORS = [
    line.split(" | ", 1)[1].format(framework="torch", other="tensorflow", ours="torch or numpy")
    for line in Path(__file__).with_name("errors.txt").read_text(encoding="utf-8").splitlines()
]
PLACE = re.compile(r"\{(\w+)|%\((\w+)\)s")
PROSE = re.compile(r"[a-z]{2,}(?: [a-z]{2,}){2,}")
"""Three English words in a row: no name, no number and no code of ours is written so."""


def script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


messages = script(ROOT / "docs" / "messages.py")
FOUND = messages.collect()


@pytest.fixture(params=[folder.parent.name for folder in messages.LOCALE.glob("*/LC_MESSAGES")])
def folder(request):
    return messages.LOCALE / request.param / "LC_MESSAGES"


@pytest.fixture
def told(folder):
    return messages.read(folder)


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("REGARD_LANGUAGE", "zh")


def places(text):
    return [one or other for one, other in PLACE.findall(text)]


# ---- the language --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "REGARD_LANGUAGE": "en"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "REGARD_LANGUAGE": ""}, "zh"),
        ({"REGARD_LANGUAGE": "zh"}, "zh"),
        ({"REGARD_LANGUAGE": "zh-Hans"}, "zh"),
        ({"REGARD_LANGUAGE": "ZH"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "REGARD_LANGUAGE": "fr"}, "en"),
    ],
)
def test_the_first_variable_that_is_set_decides(monkeypatch, environment, expected):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language() == expected


def test_english_loads_no_catalogue():
    program = (
        "import sys, regard\n"
        "try: regard.attention(0, 0, 0)\n"
        "except regard.errors.DtypeError as error: said = str(error)\n"
        "assert said.startswith('attention: need '), said\n"
        "print('regard._catalogue' in sys.modules)"
    )
    for spoken, expected in (("en", "False"), ("fr", "False")):
        done = subprocess.run(
            [sys.executable, "-c", program], env={"REGARD_LANGUAGE": spoken}, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected, done.stderr


# ---- the catalogues ------------------------------------------------------------------------------------------------


def test_every_message_is_in_the_catalogue(told):
    assert messages.lacking(told, FOUND) == []


def test_nothing_is_in_the_catalogue_that_nobody_says(told):
    kept = {message.id for message in told if message.id and not by_hand(message)}
    assert sorted(kept - set(FOUND)) == []


def test_the_catalogue_that_is_read_is_the_one_that_is_edited(folder, told):
    with (folder / "regard.mo").open("rb") as file:
        read = Catalogue(file)
    assert read._messages == {message.id: message.string for message in told if message.id}


def test_places_of_a_translation_are_those_of_its_message(told):
    """The ending of a plural, which Chinese has none of, may be left out, as may what other libraries put there."""
    for message in told:
        if message.id:
            left_out = set(places(message.id)) - set(places(message.string))
            assert set(places(message.string)) <= set(places(message.id)), message.id
            assert left_out <= {"s"} or by_hand(message), message.id


def test_each_message_leads_to_its_own_translation(folder):
    found = catalogue(folder.parent.name)
    assert len(found._templates) > 500
    for template in found._templates:
        values = {name: f"‹{name}›" for group in template.groups for name in group}
        assert found._line(filled(template.message, values), INSIDE) == filled(template.translation, values)


def filled(message, values):
    """A message with values that no catalogue knows, and no rule about blanks concerns."""
    return "".join(text + (values[name] if name else "") for text, name, *_ in Formatter().parse(message))


def test_a_translation_is_not_english(told):
    """But for what is the same in every language: code, formats, names."""
    for message in told:
        if message.id and message.string == message.id:
            assert not PROSE.search(message.id), message.id


# ---- what is a message ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise DataError(f"{path}: need a new thing; got {len(rows)}.")', ["{path}: need a new thing; got {rows}."]),
        ('say("a sentence " f"of {n} parts")', ["a sentence of {n} parts"]),
        ('told = f"{a!r} and so {a}"', ["{a} and so {a2}"]),
        ("f\"{n} row{'' if n == 1 else 's'} of it\"", ["{n} row{s} of it"]),
        ("f\"it is {'none' if x else 'several'} of all\"", ["none", "several", "it is {x} of all"]),
        ('f"so many: {told:>8}" + (f"; and more {y}" if y else "")', ["so many: {told}{y}", "; and more {y}"]),
        ('say("  one line\\n\\n  another line")', ["one line", "another line"]),
        ('Table("Title", ["truth", "rows"], rows)', ["Title", "truth", "rows"]),
        ('"""A docstring of words."""', []),
        ('name = "text"', []),
        ('COLUMNS = {"text": "a comment of a template"}', []),
    ],
)
def test_texts_with_words_are_messages(source, expected):
    assert sorted({text for text, _ in messages.of_python(source)}) == sorted(expected)


def test_a_sentence_that_is_added_is_missed(told):
    added = {
        text: [("new.py", line)] for text, line in messages.of_python('raise DataError("need a wholly new thing.")')
    }
    assert messages.lacking(told, FOUND | added) == ["new.py:1: need a wholly new thing."]


def test_what_pages_and_scripts_say_is_found():
    assert "How good it is" in FOUND
    assert "head →" in FOUND
    assert "Look at configuration and data without training." in FOUND


def test_an_update_keeps_what_is_said_and_what_is_by_hand(told):
    told.add("{x}: need {y}", "{x}: 需要 {y}")
    again = messages.updated(told, {"{x}: need {y}": [("x.py", 1)], "a new one": [("x.py", 2)]})
    assert again["{x}: need {y}"].string == "{x}: 需要 {y}"
    assert not again["a new one"].string
    assert {message.id for message in again if by_hand(message)} == {message.id for message in told if by_hand(message)}


def by_hand(message):
    return messages.BY_HAND in message.auto_comments


# ---- what is shown -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentence", ERRORS, ids=range(len(ERRORS)))
def test_errors_are_told_in_chinese(sentence, chinese):
    said = tell(sentence)
    assert re.search("[\u4e00-\u9fff]", said), said
    assert not re.search(r"\b(need|got|the|of|as|with|and|a)\b", re.sub(r"'[^']*'", "", said)), said
    assert said.startswith(sentence.partition(": ")[0])
    assert set(re.findall(r"\d+", sentence)) <= set(re.findall(r"\d+", said)), said


def test_an_error_stays_what_it_is(chinese):
    error = ConfigError("runs/a/config.yaml: need YAML; got 'mapping' at line 3; correct the line.")
    assert error.args == ("runs/a/config.yaml: need YAML; got 'mapping' at line 3; correct the line.",)
    assert str(error) == "runs/a/config.yaml: 需要 YAML；收到的是第 3 行的 'mapping'；请改正这一行。"
    assert pickle.loads(pickle.dumps(error)).args == error.args
    with pytest.raises(OutOfRangeError, match="收到的是 2"):
        regard.attention(*[np.ones((2, 2), "float32")] * 3).weights[2]


def test_an_error_is_english_in_english():
    assert str(RegardError("watch: need a name; got 3.")) == "watch: need a name; got 3."


@pytest.mark.parametrize(
    "own",
    ["a few words of somebody's", "text", "none", "cats and dogs", "3 of 4", "layer 5", "", "\n", "need {x}; got {y}"],
)
def test_what_others_write_is_left_alone(own, chinese):
    assert tell(own) == own


def test_what_is_in_quotes_is_left_alone(chinese):
    said = tell("train.csv: need the column 'text'; got 'a text', 'none'; set data.columns.text to one of them.")
    assert "'text'" in said
    assert "'a text', 'none'" in said
    assert said.startswith("train.csv: 需要")


def test_what_is_chinese_already_stays_within_its_quotes(chinese):
    said = tell("数据/训练.csv: need the column '文本'; got '正文', '标签'; set data.columns.text to one of them.")
    assert said == "数据/训练.csv: 需要列 '文本'；收到的是 '正文', '标签'；请把 data.columns.text 设为其中之一。"
    assert tell("train: label '中性' has 3 rows; a class needs more to be learned").startswith(
        "train: 标签 '中性' 有 3 行；"
    )


def test_endings_that_are_chosen_are_told(chinese):
    said = tell("attention.ask: need questions among entropy, max; got 'entropie'; did you mean 'entropy'?")
    assert said == "attention.ask: 需要的问题是 entropy, max 之一；收到的是 'entropie'；您是不是指 'entropy'？"


def test_a_sentence_within_a_sentence_is_told(chinese):
    inner = "validation: 3 texts are there more than once (first in rows 1 and 7)"
    assert tell(f"{inner}; they count more than once") == (
        "validation: 有 3 个文本出现不止一次（最先是第 1 行和第 7 行）；它们被重复计入"
    )


def test_lines_are_told_one_by_one(chinese):
    assert tell("\nThe report: runs/a/report.html\n  regard look runs/a x") == (
        "\n报告：runs/a/report.html\n  regard look runs/a x"
    )


def test_long_texts_take_no_time(chinese):
    """Each literal is looked for once, from the left: nothing is tried again."""
    text = "need ; got " * 2000
    assert tell(text) == text


def test_short_messages_wait_for_where_words_are_expected(chinese):
    assert tell("mean") == "mean"
    assert tell("mean", word=True) == "平均"
    assert tell("Macro F1", word=True) == "宏平均 F1"


def test_a_catalogue_is_one_of_gettexts(folder):
    with (folder / "regard.mo").open("rb") as file:
        assert Catalogue(file).gettext("How good it is") == "效果如何"
