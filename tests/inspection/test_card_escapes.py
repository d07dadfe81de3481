"""What comes from data is read in a model card, and means nothing in Markdown, HTML or YAML."""

import re

from markdown_it import MarkdownIt

from regard.inspection.report.card import Origin, model_card
from regard.inspection.report.content import Finding, Metric, Report

WICKED = "x | y\n# h <script>1</script> ![p](http://a.b) `c` ```\n--- \x1b]0;t\x07 **b**"


def test_a_card_shows_data_as_it_is():
    report = Report(
        WICKED,
        WICKED,
        [("Model", WICKED)],
        metrics=[Metric("Accuracy", 0.5, None, {WICKED: 0.5})],
        findings=[Finding("warning", WICKED), Finding("ok", WICKED)],
        notes=[WICKED],
        config=f"model: {WICKED}",
    )
    origin = Origin(WICKED, "text-classification", f"a: b\n---\n{WICKED}", "transformers", (WICKED, "test"))
    card = model_card(report, origin, limits=[WICKED], use=["print(1)"])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", card)
    body = card.split("\n---\n", 1)[1]
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<h1" in shown
    assert shown.count("<h1") == 1
    assert shown.count("<pre") == 2
