"""Configurations to start from: every key of a task with its default and what it says of itself, as commented YAML.

What is said of a key is the first paragraph of its description in its section, then what the task adds in its
`Template`. Comments in Chinese stand in `template.zh.yaml`, by the English ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from regard._language import wrap
from regard.errors import ConfigError
from regard.finetuning.config import Config, Section
from regard.finetuning.tasks import Task, get_task

LANGUAGES = ("en", "zh")
WIDTH = 120
"""Columns of a line at most; a Chinese character takes two."""
COLUMN = 30
"""Where comments begin, if the key and its value leave them room."""
BESIDE = 2
"""Lines that a comment takes beside its key at most, one at the top level; a longer one stands above it."""
HEADER = (
    "Every key that is left out has the value shown here; one behind a # is left out, and shows an example. Paths "
    "start where you run the command."
)
SET_ASIDE = 0.1
"""Share of the rows that measures the result, where nobody says otherwise."""
MARKS = {"en": ("; ", "."), "zh": ("；", "。")}
"""Between the parts of a comment, and behind it where it stands above its key."""


@dataclass(frozen=True)
class Entry:
    """A key of a template.

    Attributes:
        depth: of the section that it is in; 0 for the configuration itself.
        name: of the key in its section.
        value: what stands there; None for a section, whose keys follow.
        off: depth of the key that is left out, this one or what it is in; None if all are there.
        said: what is said of it, in English.
    """

    depth: int
    name: str
    value: Any
    off: int | None
    said: tuple[str, ...]


def write_template(name: str, language: str = "en") -> str:
    """Return a configuration of a task, commented in English (`en`) or Chinese (`zh`).

    Raises:
        ConfigError: there is no such task, or no such language.
    """
    if language not in LANGUAGES:
        raise ConfigError(f"language: need {' or '.join(LANGUAGES)}; got '{language}'; choose one.")
    lines = [f"# {line}" for line in wrap(translate(HEADER, language), WIDTH - 2)]
    alone = True
    for entry in entries(name):
        written = _written(entry, language)
        if entry.depth == 0:
            lines += [""] * (alone or entry.value is None or len(written) > 1)
            alone = entry.value is None
        lines += written
    return "\n".join([*lines, ""])


def entries(name: str) -> Iterator[Entry]:
    """Yield the keys of a task's template."""
    task = get_task(name)
    values: dict[str, Any] = {"task": name, "model": task.TEMPLATE.model, "data.train": task.TEMPLATE.train}
    values |= {"output": task.TEMPLATE.output, "data.test": SET_ASIDE}
    values |= {"data.columns": {role: role for role in task.COLUMNS}}
    yield from _section(task, values, Config)


def _section(
    task: Task, values: dict[str, Any], section: type[Section], prefix: str = "", off: int | None = None
) -> Iterator[Entry]:
    depth = prefix.count(".")
    for name, field in section.model_fields.items():
        key = prefix + name
        if key in task.TEMPLATE.hidden:
            continue
        said, inner = _said(task, key, description(task, key, field)), section_of(task, key, field)
        if inner:
            below = depth if off is None and field.default is None else off
            yield Entry(depth, name, None, below, said)
            yield from _section(task, values, inner, f"{key}.", below)
            continue
        examples = values.get(key), task.TEMPLATE.examples.get(key), *(field.examples or ())
        shown = next((example for example in examples if example is not None), field.get_default())
        left_out = depth if off is None and key not in values and shown != field.get_default() else off
        yield from _value(task, Entry(depth, name, shown, left_out, said), key)


def _value(task: Task, entry: Entry, key: str) -> Iterator[Entry]:
    """Yield a key; if it holds a dictionary, as a section."""
    if not isinstance(entry.value, dict):
        yield entry
        return
    yield Entry(entry.depth, entry.name, None, entry.off, entry.said)
    for name, value in entry.value.items():
        said = _said(task, f"{key}.{name}", task.COLUMNS.get(name))
        yield Entry(entry.depth + 1, name, value, entry.off, said)


def section_of(task: Task, key: str, field: FieldInfo) -> type[Section] | None:
    """Return the section that a key holds, if it holds one."""
    if key == "options":
        return task.Options
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def description(task: Task, key: str, field: FieldInfo) -> str | None:
    """Return what describes a key: the text under it, or else that of the section it holds."""
    inner = section_of(task, key, field)
    return field.description or (inner.__doc__ if inner else None)


def _said(task: Task, key: str, described: str | None) -> tuple[str, ...]:
    """Return what a template says of a key: first in general, or for this task in its place, then what is added."""
    own, added = task.TEMPLATE.comments.get(key) or described, task.TEMPLATE.additions.get(key)
    return tuple(text for text in (own and comment(own), added) if text)


def comment(text: str) -> str:
    """Return the first paragraph of a description, as it stands behind a `#`."""
    first = " ".join(text.split("\n\n")[0].split()).replace("`", "").removesuffix(".")
    return first if first[1:2].isupper() else first[:1].lower() + first[1:]


def _written(entry: Entry, language: str) -> list[str]:
    """Return the lines of a key: with its comment beside it, or above it where that would be long."""
    out = entry.depth if entry.off is None else entry.off
    mark = "  " * out + "# " * (entry.off is not None)
    value = "" if entry.value is None else f" {as_yaml(entry.value)}"
    text = f"{mark}{'  ' * (entry.depth - out)}{entry.name}:{value}"
    between, end = MARKS[language]
    told = between.join(translate(part, language) for part in entry.said)
    if not told:
        return [text]
    column = max(COLUMN, len(text) + 2)
    beside = wrap(told, WIDTH - column - 2)
    if len(beside) <= min(entry.depth + 1, BESIDE) or entry.off is not None:
        starts = [text, *[""] * (len(beside) - 1)]
        return [f"{start:{column}}# {line}" for start, line in zip(starts, beside, strict=True)]
    return [*(f"{mark}# {line}" for line in wrap(told[0].upper() + told[1:] + end, WIDTH - len(mark) - 2)), text]


def as_yaml(value: Any) -> str:
    """Write a value in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return re.sub(r"(?<=\de)-0(?=\d\b)", "-", text.removesuffix("\n").removesuffix("\n..."))


def translate(text: str, language: str) -> str:
    """Return a comment in another language."""
    return text if language == "en" else translations(language).get(text, text)


@cache
def translations(language: str) -> dict[str, str]:
    """Return English comment -> the same in another language."""
    return yaml.safe_load(Path(__file__).with_name(f"template.{language}.yaml").read_text(encoding="utf-8"))
