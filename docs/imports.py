"""The picture of imports in design.md: which room imports from which, read from the code. `make picture` runs it."""

import sys
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from test_architecture import LAYERS, SOURCE, files, imports_of, layer_of  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "imports.svg"
# Layers that are more than one package, by one of their modules.
NAMES = {
    "regard.finetuning.check": "finetuning.conduct, check, measure",
    "regard.finetuning.config": "finetuning.config, prepared, protocols",
    "regard.attention": "attention, weights, masks, biases",
    "regard._plan": "inner modules",
}
SIDE, LEFT, TOP = 34, 290, 168
STYLE = """\
text { font: 14px sans-serif; fill: #222 } .paper { fill: #fff } .own { fill: #e3e3e3 } .line { stroke: #ddd }
.down { fill: #2a6f97 } .up { fill: #d1495b }"""


def room_of(module):
    """What a module's layer is called."""
    return rooms()[layer_of(module)]


def edges(source=SOURCE):
    """(room that imports, room that is imported) -> by how many imports."""
    known = {name for _, name in files(source)}
    found = Counter()
    for path, name in files(source):
        for _, imported in imports_of(path, name):
            target = imported if imported in known else imported.rpartition(".")[0]
            if target in known and target != "regard":  # the public door, whose imports wait until they are asked for
                found[room_of(name), room_of(target)] += 1
    return {pair: count for pair, count in found.items() if pair[0] != pair[1]}


@cache
def rooms():
    """The rooms from the top to the ground: a package each, or some single files."""
    named = {layer_of(module): name for module, name in NAMES.items()}
    return [named.get(layer, members[0].removeprefix("regard.")) for layer, members in enumerate(LAYERS)]


def picture():
    """The matrix as SVG: a row imports from the columns; below the diagonal would be up."""
    found = edges()
    names = rooms()
    size = SIDE * len(names)
    wide, high = LEFT + size + 60, TOP + size + 20
    marks = [f'<rect class="paper" width="{wide}" height="{high}"/>']
    for at, name in enumerate(names):
        marks += headings(name, at * SIDE, size)
    marks += [cell(importer, imported, names) for importer, imported in sorted(found)]
    body = "\n".join(marks)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}">'
    return f"{head}\n<style>{STYLE}</style>\n{body}\n</svg>\n"


def headings(name, place, size):
    """A room's name before its row and above its column, and the field where both meet."""
    short = name.split(",")[0] + (", …" if "," in name else "")
    return [
        f'<text x="{LEFT - 10}" y="{TOP + place + 22}" text-anchor="end">{name}</text>',
        f'<text transform="translate({LEFT + place + 22},{TOP - 8}) rotate(-50)">{short}</text>',
        f'<path class="line" d="M{LEFT} {TOP + place}h{size}M{LEFT + place} {TOP}v{size}"/>',
        f'<rect class="own" x="{LEFT + place}" y="{TOP + place}" width="{SIDE}" height="{SIDE}"/>',
    ]


def cell(importer, imported, names):
    """That one room imports from another, dark where it goes down."""
    row, column = names.index(importer), names.index(imported)
    kind = "down" if row < column else "up"
    x, y = LEFT + column * SIDE + 3, TOP + row * SIDE + 3
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{SIDE - 6}" height="{SIDE - 6}" rx="4">'
        f"<title>{importer} imports from {imported}</title></rect>"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
