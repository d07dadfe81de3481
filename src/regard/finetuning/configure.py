"""Read configurations: YAML, dictionaries, overrides by dotted keys; and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from regard._files import as_path
from regard.errors import ConfigError
from regard.finetuning.config import Config, S, Section
from regard.finetuning.tasks import get_task
from regard.finetuning.words import listed, nearest


def load_yaml(text: str) -> Any:
    """Read YAML of plain values; a key that is there twice, of which the last would win, is an error of it."""
    return yaml.load(text, _EachOnce)


class _EachOnce(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in known and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value} a second time", problem_mark=key.start_mark
                )
            known.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_config(source: str | Path | dict[str, Any] | Config, overrides: dict[str, Any] | None = None) -> Config:
    """Read a configuration from a YAML file, a dictionary or another configuration.

    Args:
        source: the file or the values.
        overrides: dotted key -> value, put in place of what the source says.

    Raises:
        ConfigError: the file cannot be read, or says what cannot be.
    """
    name, values = _read(source)
    if not isinstance(overrides or {}, dict) or not all(isinstance(key, str) for key in overrides or {}):
        raise ConfigError("overrides: need dotted keys -> values; got something else; give a dictionary of them.")
    for key, value in (overrides or {}).items():
        _put(values, key, value)
    return _complete(_build(Config, values, name), name)


def parse_override(text: str) -> tuple[str, Any]:
    """Read `train.epochs=2` as a dotted key and a YAML value."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set: need KEY=VALUE, such as train.epochs=2; got '{text}'; write it so.")
    try:
        return key.strip(), load_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set: need a value in YAML for '{key}'; got {yaml_problem(error)}; quote it.") from None


def _complete(config: Config, who: str) -> Config:
    """Let the task fill in and check what only it knows: its options and its columns."""
    task = get_task(config.task)
    for role in config.data.columns:
        if role not in task.COLUMNS:
            known = [f"data.columns.{known}" for known in task.COLUMNS]
            raise ConfigError(f"{who}: {_unknown_key(f'data.columns.{role}', known)}")
    columns = {role: config.data.columns.get(role, role) for role in task.COLUMNS}
    for role, column in columns.items():
        if not isinstance(column, str) and (task.reading is None or role == task.INPUT):
            raise ConfigError(f"{who}: need one column in data.columns.{role}; got {len(column)}; name one.")
        if isinstance(column, list) and len(set(column)) < max(len(column), 1):
            got = "one twice" if column else "none"
            raise ConfigError(f"{who}: need names of columns in data.columns.{role}; got {got}; name each once.")
    options = _build(task.Options, config.options, who, "options.").model_dump()
    return config.model_copy(update={"options": options, "data": config.data.model_copy(update={"columns": columns})})


def _read(source: str | Path | dict[str, Any] | Config) -> tuple[str, dict[str, Any]]:
    if isinstance(source, Config):
        return "config", source.model_dump()
    if isinstance(source, dict):
        return "config", _copy(source)
    path = as_path(source, "config", "a configuration, its values, or a YAML file", ConfigError)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "nothing there"
        raise ConfigError(f"{path}: need a configuration file; got {got}; make one with 'regard init'.")
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: need YAML; got {yaml_problem(error)}; correct the line.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: need 'key: value' lines; got {_kind(values)}; make one with 'regard init'.")
    return str(path), values


def yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    told = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).split("; ")[0]
    problem = getattr(error, "problem", None) or " ".join(told.split())
    return f"'{problem}' at line {mark.line + 1}" if mark else str(problem)


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key, making the sections on the way."""
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set: need a section at '{section}' in '{key}'; got {_kind(inner)}; name another key.")
        values = inner
    values[last] = value


def _build(model: type[S], values: dict[str, Any], who: str, prefix: str = "") -> S:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{who}: {_explain(model, error, prefix)}") from None


def _explain(model: type[Section], error: ValidationError, prefix: str) -> str:
    """Word the first thing that pydantic found."""
    found = error.errors()[0]
    key = _key(found, prefix)
    if found["type"] == "extra_forbidden":
        return _unknown_key(key, _keys(model, prefix))
    if found["type"] == "missing":
        return f"need the key '{key}'; got a configuration without it; add it."
    reasons = [other["msg"].removeprefix("Input should be ") for other in error.errors() if _key(other, prefix) == key]
    return f"need '{key}' to be {' or '.join(dict.fromkeys(reasons))}; got {_short(found['input'])}; change it."


def _short(value: Any) -> str:
    """Show a value, or the beginning of a long one."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # of numbers with thousands of digits
        return f"a very long {type(value).__name__}"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _key(found: Any, prefix: str) -> str:
    return prefix + ".".join(str(part) for part in found["loc"] if not _is_branch(part))


def _is_branch(part: int | str) -> bool:
    """Tell whether pydantic names a branch of a union here, not a key."""
    return part in ("str", "int", "float") or "[" in str(part) or "-" in str(part)


def _unknown_key(key: str, known: list[str]) -> str:
    section, _, last = key.rpartition(".")
    inside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    elsewhere = [name for name in known if name.rpartition(".")[2] == last]
    near = nearest(last, inside) or next((name for name in inside if last in name.split("_")), None)
    found = inside[near] if near else next(iter(elsewhere), None)
    there = [*inside.values()] or [name for name in known if "." not in name]
    return f"need keys that exist; got '{key}'; " + (
        f"did you mean '{found}'?" if found else f"choose one of {listed(there)}."
    )


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List every dotted key of a section and the sections in it."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys


def _kind(value: Any) -> str:
    return {type(None): "an empty file", str: "a text", list: "a list"}.get(type(value), f"a {type(value).__name__}")
