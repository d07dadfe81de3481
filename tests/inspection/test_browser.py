"""The explorer in a real browser: what it shows is what NumPy computes, and the browser has nothing to complain of."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from page_checks import Page
from reports import TOKENS, full, softmax_weights

from regard.inspection.report import Example, TokenAttention, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")]

WEIGHTS = softmax_weights(3, 5, len(TOKENS))
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)


def opened(report, folder, fragment=""):
    """The page as the browser has it once its script has run, and what the browser said on its console."""
    path = write_report(report, folder / "report.html")
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"{path.as_uri()}{fragment}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Page(result.stdout), [line for line in result.stderr.splitlines() if "CONSOLE" in line]


def saying(page):
    inside = re.search(r"((?:Layer|Mean)[^.]*?: “.*?)\s+0\s", page.text)
    return inside.group(1)


def strongest(values):
    order = np.argsort(-values, kind="stable")[:4]
    text = [token.removeprefix("##") for token in TOKENS]
    return ", ".join(f"“{text[i]}” {values[i]:.3f}" for i in order)


@pytest.mark.parametrize(
    ("fragment", "start", "values"),
    [
        ("", "Layer 2, mean of all heads: “[CLS]” attends most to ", WEIGHTS[2].mean(0)[0]),
        ("#layer=1&head=3&token=5", "Layer 1, head 3: “film” attends most to ", WEIGHTS[1, 3, 5]),
        (
            "#layer=1&head=3&token=5&direction=received",
            "Layer 1, head 3: “film” is attended most by ",
            WEIGHTS[1, 3, :, 5],
        ),
        ("#layer=mean&head=2&token=3", "Mean of all layers, head 2: “get” attends most to ", WEIGHTS[:, 2].mean(0)[3]),
        (
            "#layer=99&head=-7&token=x&direction=no",
            "Layer 2, mean of all heads: “[CLS]” attends",
            WEIGHTS[2].mean(0)[0],
        ),
    ],
)
def test_deep_link_shows_the_weights_of_numpy(tmp_path, fragment, start, values):
    page, console = opened(full(), tmp_path, fragment)
    assert console == []
    assert saying(page).startswith(start)
    assert strongest(values.astype(np.float16 if "head=3" in fragment else np.float64)) in saying(page)
    if "received" in fragment:
        assert f"In all it receives {values.sum():.2f} of the 7 units given." in saying(page)


def test_marks_can_be_hidden(tmp_path):
    page, console = opened(full(), tmp_path, "#layer=1&head=3&token=2&marks=hidden")
    assert console == []
    tokens = [a for a in page.find("button") if "token" in a["class"]]
    assert len(tokens) == len(TOKENS) - 2
    assert saying(page).startswith("Layer 1, head 3: “get” attends most to ")
    given = WEIGHTS[1, 3, 3].astype(np.float16)
    order = [i for i in np.argsort(-given, kind="stable") if TOKENS[i] not in ("[CLS]", "[SEP]")][:4]
    text = [token.removeprefix("##") for token in TOKENS]
    assert ", ".join(f"“{text[i]}” {given[i]:.3f}" for i in order) in saying(page)
    assert f"The marks that are hidden get {given[[0, -1]].sum():.3f}." in page.text
    assert not [a for a in page.find("label", id="hide-box") if "hidden" in a]


@pytest.mark.parametrize(("address", "hidden"), [("", True), ("#marks=shown", False)])
def test_marks_are_hidden_from_the_start_where_that_is_asked_for(tmp_path, address, hidden):
    page, console = opened(full(hide_special=True), tmp_path, address)
    assert ("The marks that are hidden get" in page.text) == hidden
    assert console == []


def test_where_there_are_no_marks_nothing_is_offered_to_hide(tmp_path):
    attention = TokenAttention(Example("a", "b", "b", 0.5), list("abcd"), softmax_weights(1, 1, 4))
    page, console = opened(full(attention=[attention]), tmp_path, "#marks=hidden")
    assert console == []
    assert len([a for a in page.find("button") if "token" in a["class"]]) == 4
    assert [a for a in page.find("label", id="hide-box") if "hidden" in a]


def test_chosen_head_and_token_are_marked(tmp_path):
    page, _ = opened(full(), tmp_path, "#layer=1&head=3&token=5")
    thumbs = [a for a in page.find("button") if "thumb" in a["class"]]
    assert len(thumbs) == 15
    assert [a["aria-label"] for a in thumbs if a["aria-pressed"] == "true"] == ["layer 1, head 3"]
    tokens = [a for a in page.find("button") if "token" in a["class"]]
    assert [a["data-index"] for a in tokens if a["aria-pressed"] == "true"] == ["5"]
    assert [a["tabindex"] for a in tokens].count("0") == 1
    assert not page.find("div", id="explorer")[0].keys() & {"hidden"}


@pytest.mark.parametrize(
    ("largest", "said"),
    [
        (0.27, "0.500 (twice the even share; the largest weight here is 0.270; even would be 0.250)"),
        (0.7, "0.700 (the largest weight here; even would be 0.250)"),
    ],
)
def test_the_scale_says_what_even_would_be(tmp_path, largest, said):
    weights = np.full((1, 1, 4, 4), (1 - largest) / 3)
    weights[..., 1] = largest
    attention = TokenAttention(Example("a", "b", "b", 0.5), list("abcd"), weights)
    page, console = opened(full(attention=[attention]), tmp_path)
    assert console == []
    assert said in page.text


def test_pooled_input_says_so(tmp_path):
    weights = softmax_weights(1, 2, 300)
    attention = TokenAttention(Example("a", "b", "b", 0.5), [f"t{i}" for i in range(300)], weights)
    page, console = opened(full(attention=[attention]), tmp_path)
    assert console == []
    assert "This input has 300 tokens, too many to show one by one: each box stands for 3 in a row." in page.text
    assert "t0 t1 t2" in page.text


def test_hostile_tokens_stay_text(tmp_path):
    hostile = "</script><img src=x onerror=console.log(1)>"
    attention = TokenAttention(Example(hostile, hostile, hostile, 0.5), [hostile, "b"], softmax_weights(1, 1, 2))
    page, console = opened(full(attention=[attention], title=hostile), tmp_path)
    assert console == []
    assert [tag for tag in page.find("img") if not tag["src"].startswith("data:image/png;base64,")] == []
    assert page.text.count(hostile) > 4


def test_console_is_heard(tmp_path):
    path = tmp_path / "wrong.html"
    path.write_text("<script>undefinedFunction()</script>")
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "undefinedFunction is not defined" in result.stderr
    assert "CONSOLE" in result.stderr
