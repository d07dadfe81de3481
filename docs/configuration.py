"""Writes configuration.md: every key of a configuration, from the models that read it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regard.finetuning.config import Config, Section
from regard.finetuning.tasks import TASKS, Task, get_task
from regard.finetuning.template import as_yaml, description, section_of

HEAD = """\
# Configuration

Every key of a configuration, as `regard init TASK` writes it with comments (`--language zh`: in Chinese). Keys that are
left out have their defaults; others than these are refused. `--set train.epochs=2` puts a value in place of the file's.
This page is made from the code: `python docs/configuration.py`.
"""
BOUNDS = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "up to"}
KINDS = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text", "null": ""}


def page() -> str:
    """Return the page."""
    task = get_task("text-classification")
    parts = [HEAD]
    for key, section in sections(task, Config):
        if key != "options" and not key.startswith("options."):
            told = inspect.getdoc(section)
            parts.append(f"## {key or 'The whole'}\n\n{told}\n\n{table(task, key, section)}")
    parts.append("## options\n\nKeys that only one task knows.\n")
    for name in TASKS:
        parts.append(f"### {name}\n\n{about(name)}")
    return "\n".join(parts)


def about(name: str) -> str:
    """Return a task's options and columns, and what other keys mean to it."""
    task = get_task(name)
    told = [f"{(inspect.getdoc(task) or '').partition(': ')[2].splitlines()[0].capitalize()}\n"]
    told += [table(task, key, section) for key, section in sections(task, Config) if key.partition(".")[0] == "options"]
    if hidden := task.TEMPLATE.hidden:
        told.append(f"No part in this task have {', '.join(f'`{key}`' for key in hidden)}.\n")
    own = {f"data.columns.{role}": held for role, held in task.COLUMNS.items()} | task.TEMPLATE.comments
    for key, added in task.TEMPLATE.additions.items():
        own[key] = f"{own[key]}; {added}" if key in own else added
    rows = [f"| `{key}` | {cell(said[:1].upper() + said[1:])} |" for key, said in own.items()]
    return "\n".join([*told, "| key | in this task |", "|---|---|", *rows, ""])


def sections(task: Task, section: type[Section], key: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yield the dotted key of a section, and of those in it, with what it is."""
    yield key, section
    for name, field in section.model_fields.items():
        below = f"{key}.{name}".lstrip(".")
        if inner := section_of(task, below, field):
            yield from sections(task, inner, below)


def table(task: Task, key: str, section: type[Section]) -> str:
    """Return the keys of a section: what they may hold, their defaults and what they do."""
    schema = section.model_json_schema()
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        own = f"{key}.{name}".lstrip(".")
        inner = section_of(task, own, field)
        held = "section" if inner else values(schema["properties"][name], schema.get("$defs", {}))
        default = "required" if field.is_required() else "" if inner else f"`{as_yaml(field.get_default())}`"
        lines.append(f"| `{own}` | {held} | {default} | {cell(description(task, own, field) or '')} |")
    return "\n".join([*lines, ""])


def values(schema: dict[str, Any], known: dict[str, Any]) -> str:
    """Say in words what a JSON schema allows; that a key may be left out, its default says."""
    if "anyOf" in schema:
        return " or ".join(filter(None, (values(choice, known) for choice in schema["anyOf"])))
    if "$ref" in schema:
        keys = known[schema["$ref"].rpartition("/")[2]]["properties"]
        return f"section with {', '.join(f'`{key}`' for key in keys)}"
    if choices := schema.get("enum") or [schema[key] for key in ("const",) if key in schema]:
        return ", ".join(f"`{choice}`" for choice in choices)
    if schema.get("type") == "array":
        return f"list of {values(schema['items'], known)}".replace("list of text", "list of texts").removesuffix(" of ")
    if schema.get("type") == "object":
        return f"name: {values(schema['additionalProperties'], known)}"
    bounds = [f"{word} {schema[bound]:g}" for bound, word in BOUNDS.items() if bound in schema]
    return " ".join([KINDS.get(schema.get("type", ""), ""), *bounds]).strip()


def cell(text: str) -> str:
    """Return a text as it stands in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
