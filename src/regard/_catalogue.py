"""A catalogue of gettext's whose messages have places for values: what is told is found again by what lies between."""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from string import Formatter

LOCALE = Path(__file__).with_name("locale")
LETTERS, FEW = 10, 4
"""Letters of its own from which a message is told wherever it stands, and from which where words are expected."""
ANYWHERE, WORDS, INSIDE = range(3)
"""Where something stands: among texts of others, where Regard says a few words, or inside of a message of ours."""
QUOTES = ("'", '"', "`")
QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
LISTS = (("; ", "；"), (", ", "，"))
"""What parts the parts of a list, and what does in Chinese."""
SIGNS = tuple("，。；：（）？")
WIDE, NARROW = re.compile("[\u4e00-\u9fff]"), re.compile("[0-9A-Za-z\"'`(\\[-]")


@cache
def catalogue(name: str) -> Catalogue:
    """Return the catalogue of a language, such as "zh_CN"."""
    with (LOCALE / name / "LC_MESSAGES" / "regard.mo").open("rb") as file:
        return Catalogue(file)


class Template:
    """A message and its translation: `{name}: need {what}; got {kind}.`

    In a translation, `{what:word}` stands for a value that is a word of the catalogue, and is translated, too. What is
    in quotes is somebody's, and stays.
    """

    def __init__(self, message: str, translation: str) -> None:
        self.message, self.translation = message, translation
        self.literals: list[str] = [""]
        self.groups: list[list[str]] = []
        self.quoted: set[str] = set()
        for literal, field, *_ in Formatter().parse(message):
            if self.groups and not literal:
                self.groups[-1] += [field] if field else []
                continue
            self.literals[-1] += literal
            if field:
                self.groups.append([field])
                self.literals.append("")
                if literal.endswith(QUOTES):
                    self.quoted.add(field)

    @cached_property
    def place(self) -> int:
        """Where it is told: a sentence, a part of one, or what has a heading, anywhere."""
        letters = sum(map(str.isalpha, "".join(self.literals)))
        if letters >= LETTERS and (self.groups or " " in self.message):
            return ANYWHERE
        if letters and self.literals[0].rstrip().endswith(":"):
            return ANYWHERE
        return WORDS if letters >= FEW or (letters and not self.groups) else INSIDE

    @property
    def weight(self) -> tuple[int, int]:
        """How much of a text that fits is the message's own."""
        return sum(map(len, self.literals)), -len(self.groups)

    @cached_property
    def key(self) -> str:
        return max(self.literals, key=len)

    def match(self, text: str) -> list[str] | None:
        """Return what stands in each group of places, from the left the shortest; None if the text is another."""
        if not self.groups:
            return [] if text == self.message else None
        first, *between, last = self.literals
        stop = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last) or stop < len(first):
            return None
        values, at = [], len(first)
        for literal in between:
            found = text.find(literal, at, stop)
            if found < 0:
                return None
            values.append(text[at:found])
            at = found + len(literal)
        return [*values, text[at:stop]]

    def begins(self, text: str) -> int | None:
        """Return from where on the rest of a text is this message, with at least a sign before it; None if nowhere."""
        first = self.literals[0]
        if not first or self.key not in text or not text.endswith(self.literals[-1]):
            return None
        start = text.find(first, 1) if self.groups else len(text) - len(first)
        if start < 1 or (text[start - 1].isalnum() and first[0].isalnum()):
            return None
        return None if self.match(text[start:]) is None else start


class Catalogue(gettext.GNUTranslations):
    """Translations of messages with places for values in them."""

    @cached_property
    def _messages(self) -> dict[str, str]:
        return {message: told for message, told in self._catalog.items() if message and told}  # type: ignore[attr-defined]

    @cached_property
    def _made(self) -> list[Template]:
        """All messages, the most telling first."""
        made = [Template(message, told) for message, told in self._messages.items()]
        return sorted(made, key=lambda template: template.weight, reverse=True)

    @cached_property
    def _templates(self) -> list[Template]:
        return [template for template in self._made if template.groups]

    @cached_property
    def _constants(self) -> list[Template]:
        return [template for template in self._made if not template.groups]

    @cached_property
    def _words(self) -> dict[str, Template]:
        """Those without places, also in lower case: measures, say, begin with a capital where they stand alone."""
        lower = {each.message.casefold(): each for each in self._constants}
        return lower | {each.message: each for each in self._constants}

    def tell(self, text: str, word: bool = False) -> str:
        """Return a text in the catalogue's language, line by line; blanks around each stay."""
        return "\n".join(self._line(line, WORDS if word else ANYWHERE) for line in text.split("\n"))

    def _line(self, line: str, place: int) -> str:
        core = line.strip()
        if not core:
            return line
        listed = (self._listed(core, place, *mark) for mark in LISTS if place and mark[0] in core)
        told = next(filter(None, listed), None) or self._told(core, place)
        before, _, after = line.partition(core)
        return _beside(before, told) + after

    def _listed(self, text: str, place: int, mark: str, theirs: str) -> str | None:
        """Return the translation of a list of words, or of parts that are one message; None for any other text."""
        found = [each for part in text.split(mark) if (each := self._found(part, INSIDE))]
        alike = {template if template.groups else None for template, _ in found}
        if len(found) <= text.count(mark) or len(alike) > 1:
            return None
        whole = self._found(text, place)
        if whole and whole[0].weight > found[0][0].weight:
            return None
        return theirs.join(self._filled(*each) for each in found)

    def _told(self, text: str, place: int) -> str:
        """Return a text in the catalogue's language: all of it, what follows a name, or its end and what is before."""
        who, colon, rest = text.partition(": ")
        whole, inner = self._found(text, place), self._found(rest, ANYWHERE)
        if inner and (not whole or inner[0].weight > whole[0].weight):
            return f"{who}{colon}{self._filled(*inner)}"
        if whole:
            return self._filled(*whole)
        head, told = self._ending(text, ANYWHERE)
        return _beside(self._line(head, place), told) if told else text

    def _found(self, text: str, place: int) -> tuple[Template, list[str]] | None:
        """Return the message that a text is, and what stands in its places."""
        constant = self._words.get(text.casefold() if place else text)
        if constant and constant.place <= place:
            return constant, []
        for template in self._templates:
            if template.key in text and template.place <= place:
                values = template.match(text)
                if values is not None:
                    return template, values
        return None

    def _filled(self, template: Template, values: list[str]) -> str:
        known: dict[str, str] = {}
        for names, value in zip(template.groups, values, strict=True):
            *others, first = zip(reversed(names), self._parted(value, len(names)), strict=True)
            known.update([*others, first])
        told = ""
        for literal, field, spec, _ in Formatter().parse(template.translation):
            told = told + literal if literal.startswith(QUOTES) else _beside(told, literal)
            if field:
                value = known[field]
                theirs = field in template.quoted or QUOTED.fullmatch(value)
                told = _beside(told, value if theirs else self._line(value, INSIDE if spec == "word" else ANYWHERE))
        return told

    def _parted(self, value: str, count: int) -> Iterator[str]:
        """Part what stands in places side by side, from the last: each but the first is an ending that is known."""
        for _ in range(count - 1):
            head, _ = self._ending(value, INSIDE)
            yield value[len(head) :]
            value = head
        yield value

    def _ending(self, text: str, place: int) -> tuple[str, str]:
        """Return a text without its longest ending that is a message, and the translation of that."""
        starts = [
            start
            for template in (*self._constants, *self._templates)
            if template.place <= place and (start := template.begins(text)) is not None
        ]
        if not starts:
            return text, ""
        found = self._found(text[min(starts) :], place)
        return text[: min(starts)], self._filled(*found) if found else ""


def _beside(one: str, other: str) -> str:
    """Put two texts side by side: a blank parts ideographs from letters and numbers, and none goes before a sign."""
    if other.startswith(SIGNS):
        return one.rstrip(" ") + other
    left, right = one[-1:], other[:1]
    meets = (WIDE.match(left) and NARROW.match(right)) or (WIDE.match(right) and left.isascii() and left.isalnum())
    return f"{one} {other}" if meets else one + other
