"""What is said of the rooms of the source is so: the README's tree, and the picture of imports in the design."""

import importlib.util
import re
from pathlib import Path

import pytest

from test_architecture import SOURCE, files, imports_of

ROOT = Path(__file__).parents[1]
NAMES = re.compile(r"[\w.]+(?:/|\.py)(?= |$)")


def tree(readme):
    """The block with the tree, without its first line and what stands beside the source."""
    return re.search(r"^src/regard/\n(.*?)^tests/", readme, re.DOTALL | re.MULTILINE)[1]


def told(text):
    """Every path that a tree names, where its lines begin, below what they are indented under, and in their words."""
    folders = []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = line.split()
        first = names[: next((at for at, name in enumerate(names) if not NAMES.fullmatch(name)), len(names))]
        folders[depth - 1 :] = [first[0]]
        beside = [
            *first[1:],
            *(name.rstrip(":,") for name in names[len(first) :] if NAMES.fullmatch(name.rstrip(":,"))),
        ]
        above = "".join(folders[: depth - 1])
        yield from (above + name for name in first)
        yield from (find(above, first[0], name) for name in beside if name not in first)


def find(above, first, name):
    """Where a name in the words behind lies: in the folder that the line is about, or beside it."""
    within = above + first + name
    return within if (SOURCE / within).exists() else above + name


def untold(text, rooms):
    return sorted(rooms - {path.rstrip("/") for path in told(text)})


def rooms():
    """Every folder of the source down to the second floor, but for what is inner."""
    found = {path.relative_to(SOURCE) for path in SOURCE.rglob("*") if (path / "__init__.py").is_file()}
    return {path.as_posix() for path in found if len(path.parts) <= 2}


def test_the_readme_names_what_is_there():
    named = list(told(tree((ROOT / "README.md").read_text(encoding="utf-8"))))
    assert len(named) > 30
    assert [path for path in named if not (SOURCE / path).exists()] == []


def test_the_readme_leaves_out_no_room():
    assert untold(tree((ROOT / "README.md").read_text(encoding="utf-8")), rooms()) == []


@pytest.mark.parametrize("gone", ["  nn/  layers\n", "    plots/             Matplotlib\n", "  rooms.py nn/  x\n"])
def test_a_tree_that_is_not_so_is_found(gone):
    """The checker itself: a room that is left out, one under another's name, and a file that is not there."""
    whole = tree((ROOT / "README.md").read_text(encoding="utf-8"))
    if gone in whole:
        assert untold(whole.replace(gone, ""), rooms()) == ["inspection/plots"]
    else:
        wrong = "  models/  watch.py, seeing.py\n" + gone
        assert [path for path in told(wrong) if not (SOURCE / path).exists()]


@pytest.fixture(scope="module")
def drawn():
    spec = importlib.util.spec_from_file_location("imports", ROOT / "docs" / "imports.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(picture):
    """What the picture says: a room, and the room it imports from."""
    return {*re.findall(r"<title>(.+) imports from (.+)</title>", picture)}


def test_the_picture_shows_the_imports_of_the_code(drawn):
    assert shown(drawn.PICTURE.read_text(encoding="utf-8")) == {*drawn.edges()}, "run make picture"
    assert 'class="up"' not in drawn.picture()


def test_the_imports_drawn_are_those_that_files_say(drawn):
    """By another count: lines of the files of two rooms that name the other."""
    found = drawn.edges()
    inner = [path for path, name in files(SOURCE) if name.startswith("regard.nn")]
    lines = [line for path in inner for line in path.read_text(encoding="utf-8").splitlines()]
    said = re.findall(r"^\s*from regard\.errors import (.+)$", "\n".join(lines), re.MULTILINE)
    assert found["nn", "errors"] == sum(len(names.split(",")) for names in said) > 0
    assert ("errors", "nn") not in found
    assert {pair for pair in found if "looking" in pair and "models" in pair} == {("looking", "models")}


def test_an_import_more_is_seen(drawn, tmp_path):
    (tmp_path / "regard").mkdir()
    (tmp_path / "regard" / "errors.py").write_text("")
    (tmp_path / "regard" / "masks.py").write_text("def late():\n    from regard.errors import ShapeError\n")
    assert drawn.edges(tmp_path / "regard") == {("attention, weights, masks, biases", "errors"): 1}
    assert [name for _, name in imports_of(tmp_path / "regard" / "masks.py", "regard.masks")]
