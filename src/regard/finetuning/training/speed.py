"""How long training will take, before it begins: from the model's size, the data, and one matrix product."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from regard.finetuning.config import Config
from regard.finetuning.prepared import Speed
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.training.precision import choose_precision

SHARE = 0.6
"""Of the speed of a matrix product alone that training reaches: MiniLM on two cores, without padding."""


def predict_speed(config: Config, lengths: list[int]) -> Speed | None:
    """Guess how long a run on texts of these lengths takes; None where the model's kind does not say its size."""
    known = config.framework == "torch" and lengths and not config.options.get("from_scratch")
    size = _size(config) if known else None
    if size is None:
        return None
    parameters, layers, width = size
    per_step = config.train.batch_size * config.train.accumulate
    steps = config.train.max_steps or math.ceil(math.ceil(len(lengths) / per_step) * config.train.epochs)
    tokens = int(sum(lengths) * steps * per_step / len(lengths))
    keys = sum(length * length for length in lengths) / sum(lengths)  # that a token sees, on average
    operations = 3 * (2 * parameters + 4 * layers * width * keys)  # a backward pass takes two forward ones
    rate = SHARE * peak(choose_precision(config.train.precision)) / operations
    return Speed(tokens, rate, tokens / rate)


def _size(config: Config) -> tuple[int, int, int] | None:
    """Return the parameters that multiply each token, the layers and their width, of a model that is not loaded."""
    from transformers import AutoConfig, AutoModel

    with quiet_transformers(), torch.device("meta"):
        try:
            described: Any = AutoConfig.from_pretrained(config.source, trust_remote_code=False)
            model = AutoModel.from_config(described, trust_remote_code=False)
        except Exception:  # a kind of model that cannot be built so: nothing is said of its speed
            return None
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    counted = sum(p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in embeddings)
    layers, width = (getattr(described, name, None) for name in ("num_hidden_layers", "hidden_size"))
    return (counted, layers, width) if layers and width else None


def peak(precision: str, size: int = 1024) -> float:
    """Time a product of two square matrices: operations a second, the best of some."""
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    matrix = torch.ones(size, size, dtype=getattr(torch, precision), device=device)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
