"""The figures of the pages that follow a row and a query, drawn from the pages' own tables. `make picture` runs it."""

from html import escape
from pathlib import Path
from textwrap import wrap

DOCS = Path(__file__).parent
PAGES = ("way-of-a-row", "way-of-a-query")
STEP, WIDE = 84, 860
STYLE = """\
text { font: 14px sans-serif; fill: #222 } .paper { fill: #fff } .box { fill: #eef4f8; stroke: #2a6f97 }
.where { fill: #666; font-size: 12px } .name { font-weight: bold }
.line { stroke: #2a6f97; stroke-width: 2; fill: none }
.given { fill: #8a4b00; font-style: italic }"""


def steps(page):
    """What a page's first table says: (function, what it hands on, what the traveller is by then)."""
    table = page.split("|---|---|---|\n")[1].split("\n\n")[0]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()]


def figure(found):
    """The steps below each other: the function in a box, what it hands on along the arrow, the state beside it."""
    high = STEP * len(found) + 10
    marks = [f'<rect class="paper" width="{WIDE}" height="{high}"/>']
    for number, (function, given, state) in enumerate(found):
        marks += step(number * STEP + 10, function.strip("`"), given.replace("`", ""), state.replace("`", ""))
        if number + 1 < len(found):
            marks.append(f'<path class="line" d="M150 {number * STEP + 58}v36m-5 -7l5 7l5 -7"/>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *marks, "</svg>", ""])


def step(top, function, given, state):
    module, _, name = function.rpartition(".")
    if module[module.rfind(".") + 1 :][:1].isupper():  # a method: with its class
        module, _, kind = module.rpartition(".")
        name = f"{kind}.{name}"
    lines = [
        f'<text x="400" y="{top + 20 + 19 * n}">{escape(line)}</text>' for n, line in enumerate(wrap(state, width=58))
    ]
    return [
        f'<rect class="box" x="10" y="{top}" width="370" height="48" rx="6"/>',
        f'<text class="name" x="22" y="{top + 20}">{escape(name)}</text>',
        f'<text class="where" x="22" y="{top + 38}">{escape(module)}</text>',
        f'<text class="given" x="165" y="{top + 71}">{escape(given)}</text>',
        *lines,
    ]


if __name__ == "__main__":
    for name in PAGES:
        found = steps((DOCS / f"{name}.md").read_text(encoding="utf-8"))
        (DOCS / "images" / f"{name}.svg").write_text(figure(found), encoding="utf-8")
