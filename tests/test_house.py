"""What is said of the rooms of the source is so: the README's tree, and the picture of imports in the design."""

import importlib.util
import itertools
import os
import re
from pathlib import Path

import pytest
import yaml
from fontTools.ttLib import TTFont

import regard
from test_architecture import SOURCE, files, imports_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
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


def loaded(path):
    """A module by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn():
    return loaded(ROOT / "docs" / "imports.py")


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


def nav_of(entries):
    """The pages that the navigation leads to."""
    for entry in entries:
        for target in entry.values():
            yield from nav_of(target) if isinstance(target, list) else [target]


def lost(pages, led_to):
    """Pages that nobody is led to, and places where there is none."""
    return sorted(pages ^ led_to)


def test_the_navigation_leads_to_every_page():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    led_to = {*nav_of(yaml.safe_load(settings[settings.index("nav:") :])["nav"])}
    notebooks = {path.relative_to(ROOT / "docs").with_suffix(".md").as_posix() for path in DOCS.rglob("*.ipynb")}
    assert lost({path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | notebooks, led_to) == []
    assert lost({"a.md", "b.md"}, {"b.md", "c.md"}) == ["a.md", "c.md"]


def broken(page, pages):
    """Links of a page, `pages` being each page's text, that lead to no file, or to no heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", pages[page])):
        file, _, anchor = target.partition("#")
        if "://" in target or file.endswith(".ipynb"):
            continue
        place = (page.parent / file).resolve() if file else page
        notebook = place.with_suffix(".ipynb")
        if not (place.is_file() or notebook.is_file()) or (anchor and anchor not in headings(pages.get(place, ""))):
            yield target


def headings(text):
    """What the headings of a page are called in links."""
    named = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", name).strip().lower()) for name in named}


def test_links_of_pages_lead_somewhere():
    pages = {path: path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
    assert {page.name: found for page in pages if (found := [*broken(page, pages)])} == {}
    page = DOCS / "index.md"
    assert [*broken(page, {page: "[a](nowhere.md) [b](#where) [c](log.md)\n# Here\n[d](#here)"})] == [
        "nowhere.md",
        "#where",
    ]


def test_what_is_told_of_a_module_stands_in_the_reference():
    """Every public name has its place there."""
    told = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    modules = {"biases": "regard.biases", "errors": "regard.errors", "masks": "regard.masks"}
    names = {name: modules.get(name, name) for name in regard.__all__}
    assert [name for name, shown in names.items() if not re.search(rf"\b{re.escape(shown)}\b", told)] == []


def test_the_font_has_the_chinese_of_the_navigation():
    made = loaded(DOCS / "font.py")
    assert {"中", "文"} < made.characters()
    known = TTFont(made.FONT).getBestCmap()
    assert [each for each in sorted(made.characters()) if ord(each) not in known] == [], "run docs/font.py"
    assert ord("鱻") not in known


def test_the_gallery_shows_what_its_script_draws():
    made = loaded(DOCS / "gallery.py")
    files = [*map(made.file, made.GALLERY), *(f"{name}.png" for name in (*made.LOOKED, *made.PAGES))]
    shown = re.findall(r"images/([\w-]+\.png)", (DOCS / "gallery.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(files)
    programs = [each.program for each in made.GALLERY.values()]
    programs += [program for each in made.LOOKED.values() for program in each.programs]
    programs += [each.configuration for each in made.LOOKED.values() if each.configuration]
    assert [program for program in programs if not (ROOT / "examples" / program).is_file()] == []
    assert {*made.LONGER} < {*made.LOOKED}


def test_pages_of_reports_are_photographed_by_the_script():
    made = loaded(DOCS / "gallery.py")
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *DOCS.rglob("*.md")))
    assert {*re.findall(r"images/(report-[\w-]+)\.png", pages)} == {*made.PAGES}
    page = '<head><meta http-equiv="Content-Security-Policy" content="x"></head><section id="attention">'
    shown = made.only("attention", page)
    assert "Content-Security-Policy" not in shown
    assert shown.index("display: none") < shown.index("</head>")


def test_a_photograph_ends_where_its_page_does():
    made = loaded(DOCS / "gallery.py")
    picture = made.Image.new("RGB", (40, 400), "white")
    picture.paste("black", (5, 10, 20, 100))
    assert made.trimmed(picture).size == (40, 124)


FINDINGS = ROOT / "findings"
TOLD = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def faults(program):
    """What a finding lacks: a head that says what was seen, versions of all that it installs, and to be without us."""
    head = "".join(
        line[2:] for line in itertools.takewhile(lambda line: line.startswith("#"), program.splitlines()[1:])
    )
    installed = re.search(r"pip-version-check((?:.*\\\n)*.*)", program)
    packages = installed[1].replace("\\", " ").split() if installed else []
    return [
        fault
        for fault, is_so in (
            ("what was seen", not re.search(r"\bseen\b", head, re.IGNORECASE)),
            ("a version in its head", not re.search(r"\d+\.\d+", head)),
            ("packages", not packages),
            ("pinned packages", not all(re.fullmatch(r"[\w-]+==[\d.]+", package) for package in packages)),
            ("a temporary folder", "mktemp -d" not in program or "trap 'rm -rf \"$work\"' EXIT" not in program),
            ("a check", "assert " not in program),
            ("to be without Regard", "import regard" in program or "regard" in " ".join(packages)),
        )
        if is_so
    ]


@pytest.mark.parametrize("script", sorted(FINDINGS.glob("*.sh")), ids=lambda script: script.stem)
def test_a_finding_has_all_that_it_needs_and_its_row(script):
    assert os.access(script, os.X_OK)
    assert faults(script.read_text(encoding="utf-8")) == []
    table = (FINDINGS / "README.md").read_text(encoding="utf-8")
    assert table.count(f"| [{script.stem}]({script.name}) |") == 1


def test_rows_of_findings_name_programs_and_tests_that_are_there():
    table = (FINDINGS / "README.md").read_text(encoding="utf-8")
    assert {name for name in re.findall(r"\]\((.*?)\)", table) if not (FINDINGS / name).is_file()} == set()
    told = TOLD.findall(table)
    assert len(told) > 20
    assert [(file, name) for file, name in told if f"def {name}(" not in (ROOT / file).read_text("utf-8")] == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Seen", "Known", "what was seen"),
        ("2.13.0", "2", "a version in its head"),
        ("numpy==2.4.6", "numpy", "pinned packages"),
        ("numpy==2.4.6", "numpy==2.4.6 regard==1.0", "to be without Regard"),
        ("trap", "echo", "a temporary folder"),
        ("assert ", "print ", "a check"),
    ],
)
def test_a_finding_that_lacks_something_is_found(old, new, fault):
    program = (FINDINGS / "torch-cpu-attention-gradient-of-a-filled-row.sh").read_text(encoding="utf-8")
    assert fault in faults(program.replace(old, new))
