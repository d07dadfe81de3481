"""The paragraphs of LibreOffice's help in several languages, as Debian ships it (MPL-2.0)."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

_HELP = "usr/share/libreoffice/help"
# Package, folder in it, and the sha256 of that folder's files.
ENGLISH = (
    "libreoffice-help-en-us",
    f"{_HELP}/en-US/text",
    "c3facd77137dfddeff50740842104cdc173ce399bb9b22e273806ddf2b8bf964",
)
GERMAN = (
    "libreoffice-help-de",
    f"{_HELP}/de/text",
    "24572dea0595f4c195cf5452306d3692f392ce339efce8b7fbe2e0fb1fcd40da",
)
CHINESE = (
    "libreoffice-help-zh-cn",
    f"{_HELP}/zh-CN/text",
    "78a6b6ba2f8b0ef5f6a76b2bf78a0c3a797cb8eb1dc1c999ac8e936c33cad983",
)
_PARAGRAPH = re.compile(r'<(p|h\d) id="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)


def paragraphs(folder: Path) -> dict[tuple[str, str], str]:
    """Return (page, number) -> the text of each paragraph."""
    found: dict[tuple[str, str], str] = {}
    for page in sorted(folder.rglob("*.html")):
        for _, number, inside in _PARAGRAPH.findall(page.read_text(encoding="utf-8")):
            found.setdefault((page.relative_to(folder).as_posix(), number), shown(inside))
    return found


class _Shown(HTMLParser):
    """Collects what a reader sees; variants for other systems are hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.texts = [False], [""]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("br", "img", "input", "meta", "link"):
            variant = dict(attributes).get("class") in ("MAC", "UNIX", "WIN")
            self.hidden.append(self.hidden[-1] or variant)

    def handle_endtag(self, tag: str) -> None:
        if len(self.hidden) > 1:
            self.hidden.pop()

    def handle_data(self, data: str) -> None:
        if not self.hidden[-1]:
            self.texts.append(data)


def shown(html: str) -> str:
    parser = _Shown()
    parser.feed(html)
    parser.close()
    return " ".join("".join(parser.texts).split())
