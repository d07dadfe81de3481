"""Reads an HTML page and says what is wrong with it: `problems(html)` is empty for a page that may be published."""

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "img", "input", "hr", "col", "wbr", "source", "area", "base", "embed", "track"}
_REFERENCES = {"src", "href", "srcset", "action", "formaction", "poster", "data", "background", "xlink:href", "ping"}
_CALLS = re.compile(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|Worker)\b|\bimport\s*\(")
_LEVELS = ("h1", "h2", "h3", "h4", "h5", "h6")


class Page(HTMLParser):
    """The page's tags, texts, scripts and tables, and what is wrong with them, as they go by."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.problems, self.tags, self.scripts, self.styles = [], [], [], [], []
        self.visible: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.tables: list[list[list[str]]] = []
        self.headers: list[int | None] = []  # of each table; None where it has no row yet
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        names = [name for name, _ in attrs]
        if len(set(names)) != len(names):
            self.problems.append(f"<{tag}> repeats an attribute")
        self.tags.append((tag, attributes, [t for t, _ in self.open]))
        if tag == "script":
            self.scripts.append((attributes, ""))
        if tag == "style":
            self.styles.append("")
        if tag in _LEVELS:
            self.headings.append((int(tag[1]), ""))
        if tag == "table":
            self.tables.append([])
            self.headers.append(None)
        if tag == "tr" and self.tables:
            self.tables[-1].append([])
            self.headers[-1] = self.headers[-1] or 0
        if tag == "th" and self.tables:
            self.headers[-1] += 1
        if tag in ("td", "th") and self.tables:
            self.tables[-1][-1].append("")
        if tag not in _VOID:
            self.open.append((tag, attributes))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), [t for t, _ in self.open]))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1][0] if self.open else 'nothing'}")
            return
        self.open.pop()

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if "script" in inside:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
            return
        if "style" in inside:
            self.styles[-1] += data
            return
        self.visible.append(data)
        if any(tag in _LEVELS for tag in inside):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)
        if "td" in inside or "th" in inside:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.visible))

    def find(self, tag: str, **wanted: str) -> list[dict]:
        return [a for t, a, _ in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes, _ in self.tags if "id" in attributes]


def _references(page: Page) -> list[str]:
    found = []
    for tag, attributes, _ in page.tags:
        for name, value in attributes.items():
            if name in _REFERENCES and not (value or "").startswith(("#", "data:")):
                found.append(f"<{tag} {name}={value!r}> leaves the page")
            if name.startswith("on"):
                found.append(f"<{tag} {name}> runs code from an attribute")
            if "url(" in (value or "") and name == "style":
                found.append(f"<{tag}> has a style that loads")
        if tag in ("iframe", "object", "embed", "base", "form"):
            found.append(f"<{tag}> has no place here")
    for style in page.styles:
        if re.search(r"url\(\s*['\"]?(?!data:)|@import|@font-face", style):
            found.append("the style loads something")
    for attributes, source in page.scripts:
        if attributes.get("type") in (None, "module", "text/javascript") and (_CALLS.search(source) or "://" in source):
            found.append("the script can load something")
    return found


def _structure(page: Page) -> list[str]:
    found = []
    levels = [level for level, _ in page.headings]
    if levels.count(1) != 1:
        found.append(f"{levels.count(1)} first-level headings")
    found += ["a heading skips a level" for before, after in itertools.pairwise(levels) if after > before + 1]
    found += ["an empty heading" for _, text in page.headings if not text.strip()]
    ids = page.ids()
    found += [f"id {name} occurs twice" for name in set(ids) if ids.count(name) > 1]
    targets = [a["href"][1:] for a in page.find("a") if a.get("href", "").startswith("#")]
    found += [f"#{name} leads nowhere" for name in targets if name not in ids]
    if not page.find("html") or not page.find("html")[0].get("lang"):
        found.append("no language")
    if not page.find("meta", charset="utf-8") or not page.find("meta", name="viewport"):
        found.append("no charset or viewport")
    return found


def _access(page: Page) -> list[str]:
    found = ["an image without alt" for a in page.find("img") if not a.get("alt")]
    for tag, attributes, inside in page.tags:
        if tag == "svg" and not (attributes.get("aria-label") or attributes.get("aria-hidden") == "true"):
            found.append("a drawing without a text alternative")
        if tag == "th" and not attributes.get("scope"):
            found.append("a table header without scope")
        if tag in ("select", "input", "textarea") and "label" not in inside and not attributes.get("aria-label"):
            found.append(f"<{tag}> without a label")
        if "tabindex" in attributes and int(attributes["tabindex"]) > 0:
            found.append("a positive tabindex")
    found += ["a table without headers" for headers in page.headers if headers == 0]
    return found


def _policy(page: Page) -> list[str]:
    policies = [a["content"] for a in page.find("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    if len(policies) != 1 or "default-src 'none'" not in policies[0]:
        return ["no policy that forbids loading"]
    running = [source for attributes, source in page.scripts if "type" not in attributes]
    hashes = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in running]
    return [f"the policy does not allow script {i}" for i, h in enumerate(hashes) if f"'sha256-{h}'" not in policies[0]]


def problems(html: str) -> list[str]:
    page = Page(html)
    return page.problems + _references(page) + _structure(page) + _access(page) + _policy(page)
