"""Learning rates that fall from the head down to the embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer

from regard.errors import ConfigError

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_EMBEDDING = re.compile(r"embed|(?:^|\.)(?:shared|wte|wpe)\.")


def layer_rates(names: Iterable[str], decay: float) -> dict[str, float]:
    """Return what each parameter's learning rate is multiplied by.

    What stands above the last layer, such as the head, learns at the whole rate; the last layer at `decay` times that,
    the one below at `decay` squared, and so on down to the embeddings. Encoder and decoder count their own layers.

    Raises:
        ConfigError: no name has a layer's number in it.

    Source:
        Howard and Ruder 2018, arXiv 1801.06146, section 3.2; as used by ELECTRA and BEiT.
    """
    names = list(names)
    layers = {name: int(found[1]) for name in names if (found := _LAYER.search(name))}
    if not layers:
        raise ConfigError("train.layer_decay: need a model with numbered layers; got one without; leave the key out.")
    top = max(layers.values()) + 2
    depths = {name: 0 if _EMBEDDING.search(name) else top for name in names} | {
        name: n + 1 for name, n in layers.items()
    }
    return {name: decay ** (top - depth) for name, depth in depths.items()}


def apply_rates(optimizer: Optimizer, names: dict[int, str], decay: float) -> None:
    """Part an optimizer's groups by the rates of their parameters, the highest rate first.

    Args:
        optimizer: before its first step.
        names: `id` of a parameter -> its name.
        decay: as in `layer_rates`.
    """
    rates = layer_rates(names.values(), decay)
    groups: dict[tuple[int, float], dict[str, Any]] = {}
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            rate = rates[names[id(parameter)]]
            part = groups.setdefault((number, rate), {**group, "params": [], "lr": group["lr"] * rate})
            part["params"].append(parameter)
    optimizer.param_groups[:] = sorted(groups.values(), key=lambda group: -group["lr"])
