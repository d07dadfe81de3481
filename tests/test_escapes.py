"""Texts of other people in a terminal, in Markdown and in JSON: read, and nothing else."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from regard._escapes import as_json, fenced, markdown, printable

WICKED = ["\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202eevil", "a\u2028b", "\ud800", "\x00", "\x7f", "a\nb"]


@pytest.mark.parametrize("text", WICKED, ids=ascii)
def test_control_characters_are_written_out(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode("ascii", "strict").decode("unicode_escape").encode("utf-16", "surrogatepass") == text.encode(
        "utf-16", "surrogatepass"
    )


@pytest.mark.parametrize("text", ["naïve café", "日本語", "👩‍👩‍👧", "می‌خواهم", "C:\\new", "a\u00a0b"])
def test_other_texts_stay(text):
    assert printable(text) == text


def test_what_is_kept_stays():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    assert printable(3) == "3"


@pytest.mark.parametrize(
    "text",
    [
        "# a",
        "[a](http://b)",
        "<script>x</script>",
        "a|b",
        "**a**",
        "`a`",
        "&lt;",
        "a\nb",
        "- a",
        "1. a",
        "12) a",
        "![a](b)",
        "a_b_c",
        "---",
        "~~a~~",
        "http://a.b/c",
        "\\*a*",
        "+ a",
        "=== a",
        "plain text-classification: 1.5 %",
    ],
)
def test_markdown_shows_a_text_as_it_is(text):
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    shown = reader.render(f"- fact\n\n{markdown(text)}\n")
    told = re.fullmatch(r"<ul>\n<li>fact</li>\n</ul>\n<p>(.*)</p>\n", shown)
    assert told, shown
    assert html.unescape(told[1]) == printable(text)


def test_plain_words_stay_plain_in_markdown():
    assert markdown("text-classification: 1.5 % (of 3)") == "text-classification: 1.5 % (of 3)"


def test_json_holds_no_number_that_is_none():
    nan, infinite = float("nan"), float("inf")
    assert (
        as_json({"a": [nan, 1.5], "b": (infinite, -infinite), "é": "é"})
        == '{"a": [null, 1.5], "b": [null, null], "é": "é"}'
    )


def test_a_fence_is_longer_than_those_in_it():
    text = "a: |\n  ```\n  # heading\n  ```"
    assert fenced(text, "yaml") == f"````yaml\n{text}\n````"
    assert fenced("a") == "```\na\n```"


def test_numbers_stay_plain_in_markdown():
    assert markdown("1.000") == "1.000"
