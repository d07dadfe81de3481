"""Configurations to start from: they hold every key and every default, in two languages, and the reference agrees."""

import re
import runpy
from pathlib import Path

import pytest
import yaml
from rich.cells import cell_len

from regard.errors import ConfigError
from regard.finetuning.config import Config
from regard.finetuning.configure import load_config
from regard.finetuning.tasks import TASKS, get_task
from regard.finetuning.template import HEADER, LANGUAGES, as_yaml, comment, entries, translations, wrap, write_template

DOCS = Path(__file__).parents[2] / "docs"
reference = runpy.run_path(str(DOCS / "configuration.py"))
each = pytest.mark.parametrize("name", TASKS)
both = pytest.mark.parametrize("language", LANGUAGES)


def switched_on(text):
    """A template with every example in place of its comment."""
    return re.sub(r"^( {0,4})# ( *[\w.]+:( |$))", r"\1\2", text, flags=re.MULTILINE)


def flat(values, prefix=""):
    """Every dotted key, sections too."""
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")


@each
@both
def test_a_template_holds_every_default(name, language):
    written = yaml.safe_load(write_template(name, language))
    template, columns = get_task(name).TEMPLATE, {role: role for role in get_task(name).COLUMNS}
    data = {"train": template.train, "test": 0.1}
    assert written["data"]["columns"] == columns
    assert load_config(written) == load_config(
        {"task": name, "model": template.model, "data": data, "output": template.output}
    )


@each
@both
def test_a_template_shows_every_key_of_the_task_and_no_other(name, language):
    """Uncommented, what it shows is read; the keys are those of the configuration with its options and examples."""
    written = yaml.safe_load(switched_on(write_template(name, language)))
    shown, known = set(flat(written)), set(flat(load_config(written).model_dump()))
    hidden = get_task(name).TEMPLATE.hidden
    assert {key for key in known - shown if not key.startswith("search.space.")} == {
        key for key in known if any(key == other or key.startswith(f"{other}.") for other in hidden)
    }
    assert shown <= known
    assert written["data"]["group"]


@each
def test_what_a_task_says_is_said_of_keys_that_there_are(name):
    template = get_task(name).TEMPLATE
    known = set(flat(load_config(yaml.safe_load(switched_on(write_template(name)))).model_dump()))
    assert {*template.hidden, *template.comments, *template.additions, *template.examples} <= known
    assert not {*template.hidden} & {*template.comments, *template.additions, *template.examples}


@each
@both
def test_a_template_is_a_pleasure_to_look_at(name, language):
    for line in write_template(name, language).splitlines():
        assert cell_len(line) <= 120, line
        assert line == line.rstrip()
        if beside := re.match(r"( *(?:# +)?[\w.]+: ?(?:\S.*\S|\S)?) +# ", line):
            assert line.index("# ", len(beside[1])) == max(30, len(beside[1]) + 2), line


@each
def test_every_key_says_what_it_is(name):
    """All but the two examples of what may be searched."""
    silent = [entry.name for entry in entries(name) if not entry.said]
    assert silent == ["train.learning_rate", "train.batch_size"]
    assert "|  |\n" not in re.sub(r"\| section \|  \|", "", reference["about"](name))


def test_comments_are_translated_each_and_none_is_left_over():
    said = {part for name in TASKS for entry in entries(name) for part in entry.said}
    assert set(translations("zh")) == {HEADER, *said}


def test_no_translation_ends_in_a_comment():
    """A `#` in a plain scalar would."""
    path = DOCS.parent / "src" / "regard" / "finetuning" / "template.zh.yaml"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith('"')]
    assert len(lines) == len(translations("zh"))
    for line, value in zip(lines, translations("zh").values(), strict=True):
        assert re.sub(r'["\\]', "", line).endswith(value.replace('"', ""))


def test_a_language_that_is_not_there():
    with pytest.raises(ConfigError) as caught:
        write_template("translation", "fr")
    assert str(caught.value) == "language: need en or zh; got 'fr'; choose one."


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 6, ["one", "two", "three"]),
        ("unbreakable", 3, ["unbreakable"]),
        ("要学习的任务", 8, ["要学习的", "任务"]),
        ("列出全部，名称", 8, ["列出全", "部，名称"]),
        ("模型：torch，或 jax（一）", 12, ["模型：", "torch，或", "jax（一）"]),
    ],
)
def test_lines_end_between_words_and_between_characters(text, width, lines):
    assert wrap(text, width) == lines


@each
@both
def test_no_letter_is_lost_where_lines_end(name, language):
    for entry in entries(name):
        for said in entry.said:
            text = said if language == "en" else translations("zh")[said]
            assert "".join("".join(wrap(text, 20)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-5, "5.0e-5"),
        (1e-10, "1.0e-10"),
        (3, "3"),
        ("", "''"),
        (None, "null"),
        (["a", "b"], "[a, b]"),
        (True, "true"),
    ],
)
def test_values_are_written_in_a_line(value, text):
    assert as_yaml(value) == text
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Rows of `train`.\n\nMore of it.", "rows of train"),
        ("A table,\nor two", "a table, or two"),
        ("COCO's JSON", "COCO's JSON"),
        ("`xywh`: left", "xywh: left"),
    ],
)
def test_a_comment_is_the_first_paragraph(text, said):
    assert comment(text) == said


def test_the_reference_of_keys_is_that_of_the_code():
    """`python docs/configuration.py` writes it."""
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference["page"]()


@pytest.mark.parametrize(
    "row",
    [
        "| `train.evaluate_every` | whole number above 0 or number above 0 up to 1 | `0.2` | ",
        "| `train.unpad` | `auto` or `true`, `false` | `auto` | ",
        "| `data.columns` | name: text or list of texts | `{}` | ",
        "| `data.train` | text | required | ",
        "| `adapter.targets` | list of texts | `null` | ",
        "| `train` | section |  | How to learn. |",
        "| `options.downstream.test` | text | required | ",
        "| `options.normalizer` | `basic`, `english`, `none` | `basic` | ",
    ],
)
def test_the_reference_says_what_a_key_may_hold(row):
    assert f"\n{row}" in reference["page"]()


def test_the_reference_has_every_key():
    told = set(re.findall(r"^\| `([\w.]+)` \|", reference["page"](), re.MULTILINE))
    shown = {key for name in TASKS for key in flat(yaml.safe_load(switched_on(write_template(name))))}
    assert {key for key in shown if not key.startswith("search.space.")} <= told
    assert {*Config.model_fields} <= told
