"""The picture of imports in design.md: which room imports from which, read from the code. `make picture` runs it."""

import sys
from collections import Counter
from itertools import permutations
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from test_architecture import SOURCE, files, imports_of, layer_of  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "imports.svg"
CORE = {9: "attention, weights, masks, biases", 10: "inner modules"}  # layers of single files
SIDE, LEFT, TOP = 34, 256, 168
STYLE = """\
text { font: 14px sans-serif; fill: #222 } .paper { fill: #fff } .own { fill: #e3e3e3 } .line { stroke: #ddd }
.down { fill: #2a6f97 } .within { fill: #8fb8d0 } .up { fill: #d1495b }"""


def room_of(module):
    """The room that a module lies in: one of finetuning's, another package, or a layer of single files."""
    parts = module.split(".")
    layer = layer_of(module)
    if layer in CORE:
        return CORE[layer]
    if "finetuning" in parts:
        inner = ".".join(parts[1:3])
        return inner if (SOURCE / inner.replace(".", "/")).is_dir() else "finetuning"
    return parts[1] if len(parts) > 1 else "regard"


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


def rooms(found):
    """The rooms from the top to the ground; those of finetuning in the order in which the fewest imports go up."""
    layers = {room_of(name): layer_of(name) for _, name in files(SOURCE)}
    inner = [room for room in sorted(layers) if room.startswith("finetuning")]

    def upward(order):
        return sum(found.get((order[low], order[high]), 0) for low in range(len(order)) for high in range(low))

    order = min(permutations(inner), key=upward)
    return sorted(layers, key=lambda room: (layers[room], order.index(room) if room in order else 0))


def picture():
    """The matrix as SVG: a row imports from the columns; below the diagonal would be up."""
    found = edges()
    names = rooms(found)
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
    both = importer.startswith("finetuning") and imported.startswith("finetuning")
    kind = "down" if row < column else "within" if both else "up"
    x, y = LEFT + column * SIDE + 3, TOP + row * SIDE + 3
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{SIDE - 6}" height="{SIDE - 6}" rx="4">'
        f"<title>{importer} imports from {imported}</title></rect>"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
