"""The explorer in a notebook: its script in a real browser, its questions answered by the kernel's widget."""

import base64
import re
import shutil

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import regard
from regard.exploring import widget
from regard.exploring.atlas import Atlas
from regard.exploring.explore import Explorer
from regard.exploring.views import view_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

BRIDGE = """
globalThis.sent = [];
const hear = [];
globalThis.deliver = (told, parts) => hear.forEach((one) => one(told, parts.map((part) =>
    new DataView(Uint8Array.from(atob(part), (sign) => sign.charCodeAt(0)).buffer))));
globalThis.show = async (script, facts) => {
  const found = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  const known = { facts, height: 700 };
  found.default.render({ el: document.body, model: { get: (name) => known[name], on: (_, one) => hear.push(one),
    send: (asked) => globalThis.sent.push(asked) } });
};
null;
"""


def made():
    random = np.random.default_rng(0)
    query, key = (random.normal(size=(1, 2, 60, 8)).astype(np.float32) for _ in range(2))
    weights = regard.attention(query, key, key, causal=True).weights
    return weights, widget.Widget(Atlas([view_of(weights, [f"t{at}" for at in range(60)])]))


def kernel(shown):
    """What the widget sends for each question."""
    sent = []
    shown.send = lambda content, buffers=None: sent.append((content, buffers or []))

    def answer(asked):
        sent.clear()
        shown._answer(shown, asked, [])
        return list(sent)

    return answer


def test_a_question_is_answered_and_an_impossible_one_refused():
    weights, shown = made()
    answer = kernel(shown)
    asked = {"map": "0.0.1", "reduce": "mean", "tiles": [[0, 0, 0, 0]]}
    (first, [frame]), (last, _) = answer({"number": 3, "what": "tiles", "question": asked})
    values = np.frombuffer(frame[-60 * 60 * 4 :], "<f4").reshape(60, 60)
    np.testing.assert_allclose(np.nan_to_num(values), weights.dense()[0, 1], atol=1e-6)
    assert first == {"number": 3}
    assert last == {"number": 3, "done": True, "error": None}
    for wrong in ({}, {"what": "tiles", "question": 7}, {"what": "tiles", "question": {"map": "9.9.9"}}):
        [(told, _)] = answer({"number": 4, **wrong})
        assert told["error"].startswith("explore: need ")


def test_its_style_leaves_the_notebook_alone():
    selectors = re.findall(
        r"^\s*([^@{}\n]+?) \{", widget.style().replace(widget.page_text("leaflet.css"), ""), re.MULTILINE
    )
    assert [each for each in selectors if re.match(r"(html|body)\b", each)] == []
    assert len(selectors) > 40


def test_an_explorer_shows_itself_in_a_notebook(monkeypatch):
    displayed = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    with Explorer([view_of(made()[0])]) as explorer:
        explorer._ipython_display_()
    assert [isinstance(each, widget.Widget) for each in displayed] == [True]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")
def test_the_page_runs_in_a_cell():
    weights, shown = made()
    answer = kernel(shown)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page, said = browser.new_page(viewport={"width": 1100, "height": 720}), []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.evaluate(BRIDGE)
        page.add_style_tag(content=widget.style())
        page.evaluate("([script, facts]) => show(script, facts)", [widget.script(), shown.facts])
        for _ in range(60):
            for asked in page.evaluate("sent.splice(0)"):
                for told, buffers in answer(asked):
                    parts = [base64.b64encode(each).decode() for each in buffers]
                    page.evaluate("([told, parts]) => deliver(told, parts)", [told, parts])
            page.wait_for_timeout(50)
            if page.query_selector('.map[data-ready="yes"]') and page.query_selector('#grid[data-ready="yes"]'):
                break
        box = page.locator(".map-middle").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 - 20, box["y"] + box["height"] / 2 + 40)
        page.wait_for_timeout(100)
        told = page.locator("#sentence").inner_text()
        browser.close()
    query, key, weight = re.fullmatch(r"Query (\d+) “t\d+” gives key (\d+) “t\d+” (\S+)\.", told).groups()
    assert float(weight.replace("−", "-")) == pytest.approx(weights.dense()[0, 0, int(query), int(key)], rel=0.01)
    assert said == []
