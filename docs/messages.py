"""Bring the catalogues of what Regard says up to date with the sources: `make messages`.

A message is a text in the sources with words in it; of an f-string, each value becomes a place with a name. Entries of
the catalogue that are marked `by hand` are words that stand alone in the sources, and those of other libraries.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from string import Formatter

from babel.messages import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

SOURCE = Path(__file__).parents[1] / "src" / "regard"
LOCALE = SOURCE / "locale"
BY_HAND = "by hand"
UNDATED = datetime(2026, 1, 1, tzinfo=UTC)  # so that the same messages are the same bytes
# What is for programs, not for people: pages, programs on cards, fonts, patterns, and signs in tokenizers.
SILENT = {"finetuning/reporting/usage.py", "inspection/report/page.css", "_backends/_torch_varlen.py"}
NOT_SAID = re.compile(
    r"Source Han |PingFang |Hiragino |Microsoft YaHei|WenQuanYi |"
    r"default-src |<|\^|\(\?|```|\[CLS\] |\$A |DejaVu |Noto |Arial |upper right|outside right|offset points|%B|html"
    r"|[\w.]+\(|import |export |function |Metric `|Input should be|`is_gradient|unexpected pos|\.ndjson|model name$"
    r"|module '|\{self\} object has|regard (predict|look|evaluate) |RUN RUN|in_features=|shape=\{|can't allocate"
    r"|out of memory|second list|need a finite loss$"
)
# Comments of configurations: template.zh.yaml has them.
COMMENTING = {"Template", "Field"}
COMMENTS = {"COLUMNS", "COMMENTS", "ADDITIONS", "NORMALIZER", "HEADER", "BY_LOSS", "CALIBRATE", "CLASS_WEIGHTS"}
# Calls whose words stand alone where they are shown.
SHOWING = {"Table", "Curve", "print_table", "display.bar", "clock"}
ALIASES = {"ConfigFile", "RunFolder"}
WORD = re.compile(r"[^\W\d_]{2,}")
Found = dict[str, list[tuple[str, int]]]


def collect() -> Found:
    """Return each message and where it is."""
    found: Found = {}
    for path in sorted(SOURCE.rglob("*")):
        where = path.relative_to(SOURCE).as_posix()
        reads = {".py": of_python, ".j2": of_template, ".js": of_script}.get(path.suffix)
        if reads and where not in SILENT and not where.startswith("exploring/page/"):
            source = path.read_text(encoding="utf-8")
            helps = of_commands(source) if where.startswith(("cli.py", "commands/")) else ()
            for text, line in (*reads(source), *helps):
                found.setdefault(text, []).append((where, line))
    return found


def of_commands(source: str) -> Iterator[tuple[str, int]]:
    """Yield what the help says of each command: its docstring."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and any(map(is_option, node.args.args)):
            for line in filter(None, (ast.get_docstring(node) or "").split("\n")):
                yield line, node.lineno


def is_option(argument: ast.arg) -> bool:
    return "Annotated" in (written := ast.unparse(argument.annotation or argument)) or written in ALIASES


def of_python(source: str) -> Iterator[tuple[str, int]]:
    """Yield the messages of a module: texts of several words, and words that a message chooses of."""
    tree = ast.parse(source)
    skipped = silent(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue):
            yield from ((word, node.lineno) for word in choices(node.value))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in SHOWING:
            yield from ((word, node.lineno) for word in shown(node))
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            template = rendered(node, skipped)
            for message in filter(None, map(str.strip, (template or "").split("\n"))):
                if is_said(message):
                    yield message, node.lineno


def is_said(message: str) -> bool:
    plain = "".join(literal for literal, *_ in Formatter().parse(message))
    return bool(" " in message and WORD.search(plain) and not NOT_SAID.match(message))


def shown(call: ast.Call) -> Iterator[str]:
    """Yield the words that a table, a chart or a bar shows as they are."""
    inside = {id(part) for each in ast.walk(call) for part in getattr(each, "values", []) + getattr(each, "ops", [])}
    for node in ast.walk(call):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in inside else None
        if isinstance(text, str) and WORD.search(text) and " " not in text and not text.startswith(("eval_", ".")):
            yield text


def choices(node: ast.expr) -> Iterator[str]:
    """Yield the single words among which an f-string chooses."""
    options = [node.body, node.orelse] if isinstance(node, ast.IfExp) else []
    options += node.values[1:] if isinstance(node, ast.BoolOp) else []
    for option in options:
        if isinstance(option, ast.Constant) and isinstance(option.value, str) and WORD.fullmatch(option.value):
            yield option.value


def silent(tree: ast.AST) -> set[int]:
    """Return the nodes that say nothing: docstrings, and the comments of templates, which a table of its own has."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and ast.unparse(node.func) in COMMENTING
        named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in COMMENTS
        if called or named:
            skipped.update(map(id, ast.walk(node)))
        for statement in body if isinstance(body := getattr(node, "body", None), list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                skipped.add(id(statement.value))
    return skipped


def rendered(node: ast.expr, inner: set[int]) -> str | None:
    """Return a text as a message, and note the parts that are not messages of their own; None for what is no text."""
    if isinstance(node, ast.Constant):
        return escaped(node.value) if isinstance(node.value, str) else None
    pieces = list(flat(node))
    if not any(isinstance(piece, str) for piece in pieces):
        return None
    inner.update(id(part) for part in parts(node))
    named: dict[str, str] = {}
    return "".join(piece if isinstance(piece, str) else place(piece, named) for piece in pieces)


def flat(node: ast.expr) -> Iterator[str | ast.expr]:
    """Yield what a text is made of: literals, and expressions in between."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield escaped(node.value)
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from flat(part.value) if isinstance(part, ast.FormattedValue) and is_text(part.value) else flat(part)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and (is_text(node.left) or is_text(node.right)):
        yield from flat(node.left)
        yield from flat(node.right)
    else:
        yield node


def is_text(node: ast.expr) -> bool:
    """Whether an expression is written as a text, alone or with others added to it."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return is_text(node.left) or is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def parts(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the literals that belong to a text."""
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
        yield from (*parts(node.left), *parts(node.right))
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield part
            if isinstance(part, ast.FormattedValue) and part.format_spec:
                yield part.format_spec
                yield from parts(part.format_spec)


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def place(node: ast.expr, named: dict[str, str]) -> str:
    """Return the place of a value, with a name that tells what it is; equal expressions have one name."""
    written = ast.unparse(node)
    node = node.value if isinstance(node, ast.FormattedValue) else node
    if written not in named:
        name = name_of(node) or "value"
        taken = list(named.values())
        number = next(n for n in range(1, 99) if f"{name}{n if n > 1 else ''}" not in taken)
        named[written] = f"{name}{number if number > 1 else ''}"
    return f"{{{named[written]}}}"


def name_of(node: ast.expr) -> str | None:
    """Return the word for a value: its variable's, or that of what it is made of; `s` for the ending of a plural."""
    if isinstance(node, ast.IfExp):
        texts = [each.value for each in (node.body, node.orelse) if isinstance(each, ast.Constant)]
        if sorted(map(str, texts)) in (["", "s"], ["", "es"]):
            return "s"
        return name_of(node.body) or name_of(node.orelse) or name_of(node.test)
    if isinstance(node, ast.Name):
        return node.id.strip("_").lower()
    if isinstance(node, ast.Attribute):
        return name_of(node.value) if node.attr in ("name", "__name__", "dtype", "shape") else node.attr.strip("_")
    if isinstance(node, ast.Subscript):
        named = node.slice.value if isinstance(node.slice, ast.Constant) else None
        return named if isinstance(named, str) and named.isidentifier() else name_of(node.value)
    if isinstance(node, ast.Call):
        return next(filter(None, map(name_of, node.args)), None) or name_of(node.func)
    children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return next(filter(None, map(name_of, children)), None)


def of_template(source: str) -> Iterator[tuple[str, int]]:
    """Yield the messages of a page."""
    from jinja2.ext import babel_extract

    for line, _, message, _ in babel_extract(io.BytesIO(source.encode()), ["_", "gettext"], [], {"trimmed": "true"}):
        yield message, line


def of_script(source: str) -> Iterator[tuple[str, int]]:
    """Yield the messages of a script, which are given to a function `told`."""
    from babel.messages.jslexer import tokenize

    tokens = list(tokenize(source))
    for name, bracket, text in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if (name.value, bracket.value) == ("told", "(") and text.type in ("string", "template_string"):
            yield text.value[1:-1], text.lineno


def updated(old: Catalog, found: Found) -> Catalog:
    """Return a catalogue of what is found, with the translations that there are."""
    new = Catalog(locale=old.locale, domain="regard", project="Regard", fuzzy=False, header_comment=old.header_comment)
    new.mime_headers = [(key, value) for key, value in old.mime_headers if key != "POT-Creation-Date"]
    kept = {message.id: message.string for message in old if message.id}
    hand = {message.id for message in old if message.id and BY_HAND in message.auto_comments}
    same = {shape(message): told for message, told in kept.items() if told}
    for text in dict.fromkeys([*found, *sorted(hand)]):
        told = kept.get(text) or renamed(same.get(shape(text)), text) or ""
        new.add(text, told, [(where, 0) for where, _ in found.get(text, [])], auto_comments=[BY_HAND] * (text in hand))
    return new


def shape(message: str) -> str:
    return re.sub(r"\{\w+\}", "{}", message)


def renamed(told: str | None, text: str) -> str | None:
    """Return a translation whose places are named anew, where each has a name that the message knows."""
    names = set(re.findall(r"\{(\w+)", text))
    return told if told and set(re.findall(r"\{(\w+)", told)) <= names else None


def write(catalog: Catalog, folder: Path) -> None:
    catalog.creation_date = catalog.revision_date = UNDATED
    po = io.BytesIO()
    write_po(po, catalog, width=0, sort_output=True, omit_header=False, include_lineno=False)
    text = re.sub(r'^"(POT-Creation-Date|PO-Revision-Date|Generated-By).*\n', "", po.getvalue().decode(), flags=re.M)
    (folder / "regard.po").write_text(text, encoding="utf-8")
    with (folder / "regard.mo").open("wb") as file:
        write_mo(file, catalog)


def read(folder: Path) -> Catalog:
    with (folder / "regard.po").open("rb") as file:
        return read_po(file, domain="regard", abort_invalid=True)


def lacking(catalog: Catalog, found: Found) -> list[str]:
    """Return the messages that a catalogue has no translation of."""
    told = {message.id for message in catalog if message.string}
    return [f"{where[0][0]}:{where[0][1]}: {text}" for text, where in found.items() if text not in told]


def main() -> None:
    found = collect()
    for folder in LOCALE.glob("*/LC_MESSAGES"):
        catalog = updated(read(folder), found)
        write(catalog, folder)
        missing = lacking(catalog, found)
        print(*missing, f"{folder.parent.name}: {len(found)} messages, {len(missing)} without a translation", sep="\n")
        if missing:
            sys.exit(1)


if __name__ == "__main__":
    main()
