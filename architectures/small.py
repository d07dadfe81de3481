"""Small configurations of transformers' architectures: every width 32, four heads of 8, two layers of a kind.

Whatever a configuration calls its sizes, the same size fits the same part everywhere, so that the parts of a model of
several fit one another. What a family cannot bear is in `EXCEPTIONS`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exceptions import EXCEPTIONS
from sizes import FILLED, HEAD, KINDS, LACKING, LAYERS, TOKENS, TRIED, VOCABULARY, Sizes
from transformers import ResNetConfig


def small(kind: type, sizes: Sizes = TRIED[0], held: Any = None, further: dict[str, Any] | None = None) -> Any:
    """A small configuration of this class, and of all that it holds.

    A part of a model has the defaults that its model gives it where widths stay, and values of its own else.
    """
    own = (EXCEPTIONS.get(kind.model_type, {}) if sizes.narrow else {}) | (further or {})
    old = _defaults(kind, own) if held is None or sizes.narrow else held
    values: dict[str, Any] = {} if sizes.narrow else _given(kind, old)
    for field in dataclasses.fields(kind):
        value = _value(field.name, _default(field, old), sizes)
        if sizes.fill and value is None and _default(field, old) is None:
            value = FILLED.get(field.name)
        if value is not None:
            values[field.name] = value
    for name in kind.sub_configs:
        values |= _part(name, getattr(old, name, None), sizes, own)
    _layers(old, values)
    _tokens(kind, old, values)
    if held is not None:
        _features(held, values)
    if sizes.narrow:
        _rotary(kind, old, values)
    if "backbone_config" in {field.name for field in dataclasses.fields(kind)} and "backbone_config" not in values:
        values["backbone_config"] = _backbone(one=_of_timm(getattr(old, "backbone_config", None)))
    parts = set(kind.sub_configs) & values.keys()
    return kind(
        **values | {name: value for name, value in own.items() if name not in parts or not isinstance(value, dict)}
    )


def _part(name: str, part: Any, sizes: Sizes, own: dict[str, Any]) -> dict[str, Any]:
    """A part of a configuration, small, under its name."""
    if _of_timm(part):
        return {} if sizes.narrow else {name: part}
    if part is None or not hasattr(part, "sub_configs"):
        return {}
    given = own.get(name)
    return {name: small(type(part), sizes, part, given if isinstance(given, dict) else None)}


def completed(config: Any, error: Exception) -> bool:
    """Gives a part of a configuration what an error says that it lacks; whether it did."""
    found = re.search(r"'(\w+)' object has no attribute '(\w+)'", str(error))
    if found is None:
        return False
    value = _value(found[2], 10**6, TRIED[1]) or LACKING.get(found[2]) or FILLED.get(found[2])
    parts = [each for each in _parts(config) if type(each).__name__ == found[1]]
    for part in parts if value is not None else ():
        setattr(part, found[2], value)
    return bool(parts) and value is not None


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(config, "sub_configs", {}):
        if getattr(config, name, None) is not None:
            yield from _parts(getattr(config, name))


def _defaults(kind: type, own: dict[str, Any]) -> Any:
    try:
        return kind()
    except Exception:  # of one whose defaults do not fit one another
        return kind(**own)


def _of_timm(part: Any) -> bool:
    return "Timm" in type(part).__name__


def _backbone(one: bool) -> ResNetConfig:
    """Where a timm model would be: its last features, or those of the last three stages."""
    stages = ["stage4"] if one else ["stage2", "stage3", "stage4"]
    return ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=stages)


def _features(held: Any, values: dict[str, Any]) -> None:
    """As many features as a model takes from a part of it: those of the last layers, or of the same stages."""
    places = getattr(held, "out_indices", None)
    if not isinstance(places, (list, tuple)) or not hasattr(held, "stage_names"):
        return
    if len(held.stage_names) - 1 == getattr(held, "num_hidden_layers", None):
        count = max(len(places), values.get("num_hidden_layers", LAYERS))
        values |= {"num_hidden_layers": count, "out_indices": list(range(count + 1))[-len(places) :]}
    else:
        values["out_features"] = list(held.out_features)


def _given(kind: type, old: Any) -> dict[str, Any]:
    """What a part of a model has that is not its default."""
    plain, names = kind(), {field.name for field in dataclasses.fields(kind) if field.init}
    values = {name: getattr(old, name, None) for name in names - set(kind.sub_configs) - {"model_type"}}
    return {name: value for name, value in values.items() if value != getattr(plain, name, None)}


def _default(field: Any, old: Any) -> Any:
    try:
        value = getattr(old, field.name, None)
    except Exception:  # of one that differs by layer
        value = None
    if value is None and field.default is not dataclasses.MISSING:
        value = field.default
    return value


def _value(name: str, old: Any, sizes: Sizes) -> Any:
    if isinstance(old, bool) or old is None:
        return None
    if TOKENS.fullmatch(name) and isinstance(old, list):
        return [2]
    if re.fullmatch(r"(.*_)?(num_key_value_heads|kv_heads|n_head_kv|num_kv_heads)", name):
        return min(sizes.keys, old) if isinstance(old, int) and sizes.narrow else None
    for pattern, value in sizes.rules:
        if re.fullmatch(pattern, name):
            if isinstance(old, int) and old > 0:
                return min(value, old) if "heads" in name else value
            if isinstance(old, (list, tuple)) and old and isinstance(old[0], int):
                return type(old)(value for _ in old)
    return None


def _layers(old: Any, values: dict[str, Any]) -> None:
    """As many layers as there are kinds of them, and each kind once."""
    if "num_hidden_layers" not in values:
        return
    fields = {field.name for field in dataclasses.fields(old)}
    lists = {name: getattr(old, name, None) for name in KINDS if name in fields}
    kinds = {name: list(dict.fromkeys(each)) for name, each in lists.items() if each and not isinstance(each, str)}
    count = max([LAYERS, *map(len, kinds.values())])
    values |= {name: (each * count)[:count] for name, each in kinds.items()} | {"num_hidden_layers": count}


def _rotary(kind: type, old: Any, values: dict[str, Any]) -> None:
    """Sections of the rotary positions that fit small heads, where a model divides them."""
    source = _source(inspect.getfile(kind).replace("configuration_", "modeling_"))
    given = getattr(old, "rope_parameters", None) or {}
    if "mrope_section" not in source or any(isinstance(each, dict) for each in given.values()):
        return
    if "rope_parameters" in {field.name for field in dataclasses.fields(kind)}:
        half = int(values.get("head_dim", HEAD) * given.get("partial_rotary_factor", 1.0)) // 2
        sections = [half - 2 * (half // 3), half // 3, half // 3] if half > 2 else [1, 1, 0]
        defaults = {"rope_type": "default", "rope_theta": 10000.0}
        values["rope_parameters"] = defaults | given | {"mrope_section": sections}


def _source(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _tokens(kind: type, old: Any, values: dict[str, Any]) -> None:
    """Special tokens get places at the end of the vocabulary."""
    place = VOCABULARY - 1
    for field in dataclasses.fields(kind):
        number = _default(field, old)
        if TOKENS.fullmatch(field.name) and isinstance(number, int) and field.name not in values and number > 2:
            values[field.name] = place
            place -= 1
