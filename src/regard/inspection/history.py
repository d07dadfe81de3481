"""How every head attends while a model trains: numbers a step, to be written and plotted."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regard._backends import to_numpy
from regard._escapes import as_json
from regard._files import whole, write_text
from regard.errors import ConfigError, ShapeError
from regard.models.seen import Seen
from regard.models.summary import Summary, in_single

MEASURES = ("entropy", "largest_score", "distance", "first")
SAMPLED = 16
"""Queries of each input whose weights are kept to see how far they move."""
LARGE_SCORE = 100.0
"""Kimi K2's threshold (arXiv 2507.20534)."""
_GROWN = "scores above 100, which goes before unstable training: lower train.learning_rate, or lengthen train.warmup"
_COLLAPSED = "lost nine tenths of their entropy, and look at one token: lower train.learning_rate"
_IDLE = (
    "put nearly all weight on the first token and did not at the start, as heads do that have nothing to do: "
    "lower train.learning_rate, or train fewer steps"
)

Measure = list[list[list[float]]]
"""steps x layers x heads"""


@dataclass
class History:
    """Measures of each head at some steps of training, as plain lists: `history.entropy[step][layer][head]`.

    Low entropy that goes with a largest score that grows without end is what unstable training looks like from
    inside (Zhai et al. 2023, arXiv 2303.06296; Kimi K2, arXiv 2507.20534).

    Attributes:
        steps: how many batches the model had been trained on, each time it was looked at.
        names: the layers' names.
        entropy: mean over the queries, in nats.
        largest_score: the largest score before the softmax.
        distance: mean distance attended over, in positions.
        first: mean weight on the first key.
        drift: how far the weights moved since the beginning: total variation distance, 0 to 1, mean over the sampled
            queries; empty if nobody compared them.

    Example:
        >>> import numpy, torch, regard
        >>> from regard.inspection.history import History
        >>> model, probe, history = torch.nn.MultiheadAttention(12, 3), torch.ones(5, 2, 12), History()
        >>> for step in (0, 100):
        ...     with regard.watch(model) as seen:
        ...         _ = model(probe, probe, probe)
        ...     history.record(step, seen.summary())
        >>> history.steps, numpy.shape(history.entropy)  # steps, layers, heads
        ([0, 100], (2, 1, 3))
    """

    steps: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    entropy: Measure = field(default_factory=list)
    largest_score: Measure = field(default_factory=list)
    distance: Measure = field(default_factory=list)
    first: Measure = field(default_factory=list)
    drift: Measure = field(default_factory=list)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Reads what `save` wrote as JSON."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of what was recorded."""
        return (*MEASURES, "drift") if self.drift else MEASURES

    def until(self, step: int) -> History:
        """What had been recorded after so many steps."""
        kept = sum(each <= step for each in self.steps)
        fields = {measure: getattr(self, measure)[:kept] for measure in self.measures}
        return History(self.steps[:kept], self.names, **fields)

    def record(self, step: int, summary: Summary, drift: list[list[float]] | None = None) -> None:
        """Adds what `Seen.summary()` says of the model after so many steps, and how far its weights moved.

        Raises:
            ShapeError: Other layers than at the steps before.
        """
        if self.steps and summary.names != self.names:
            raise ShapeError(
                f"History.record: need the {len(self.names)} layers of the steps before; got {len(summary.names)}, "
                "not the same; keep a history for each model."
            )
        self.names = list(summary.names)
        self.steps.append(step)
        for measure in MEASURES:
            getattr(self, measure).append([heads.tolist() for heads in getattr(summary, measure)])
        if drift is not None:
            self.drift.append(drift)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each step, layer and head, for `pandas.DataFrame` or a CSV file."""
        return [
            {"step": step, "layer": layer, "name": name, "head": head}
            | {measure: getattr(self, measure)[place][layer][head] for measure in self.measures}
            for place, step in enumerate(self.steps)
            for layer, name in enumerate(self.names)
            for head in range(len(self.entropy[place][layer]))
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes CSV, a row for each step, layer and head, or JSON, which `History(**json.load(file))` reads.

        Raises:
            ConfigError: A path that ends in neither `.csv` nor `.json`.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_text(path, as_json(asdict(self)))
        elif path.suffix == ".csv":
            with whole(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, ("step", "layer", "name", "head", *self.measures))
                writer.writeheader()
                writer.writerows(self.rows())
        else:
            raise ConfigError(f"History.save: need a path that ends in .csv or .json; got {path.name!r}; rename it.")

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws it, a figure of Matplotlib: see `regard.inspection.plots.attention_history`."""
        from regard.inspection import plots

        return plots.attention_history(self, path=path)

    def warnings(self, pretrained: bool = True) -> list[str]:
        """What asks for a decision, in a sentence each that says what to try.

        Args:
            pretrained: whether the beginning is worth keeping, so that moving far from it is a warning.
        """
        if not self.steps:
            return []
        entropy, score, first = (_start_and_now(values) for values in (self.entropy, self.largest_score, self.first))
        found = {
            _GROWN: (score[0] <= LARGE_SCORE) & (score[1] > LARGE_SCORE),
            _COLLAPSED: (entropy[0] > 0.1) & (entropy[1] < 0.1 * entropy[0]),
            _IDLE: (first[0] < 0.5) & (first[1] > 0.95),
        }
        told = [f"{_which(heads, self)} {what}" for what, heads in found.items() if heads.any()]
        if pretrained and self.drift and np.mean(np.array(_flat(self.drift[-1]), float)) > 0.5:
            told.append(
                f"attention: by step {self.steps[-1]}, half of the weight lies elsewhere than in the pretrained model: "
                "lower train.learning_rate, or train few parameters with adapter.kind: lora"
            )
        return told


def _flat(layers: list[list[float]]) -> list[float]:
    return [value for heads in layers for value in heads]


def _start_and_now(measure: Measure) -> np.ndarray:
    """The values of all heads at the first step and at the last."""
    return np.array([_flat(measure[0]), _flat(measure[-1])], float)  # null in a file is NaN


def _which(chosen: np.ndarray, history: History) -> str:
    places = [(layer, head) for layer, heads in enumerate(history.entropy[-1]) for head in range(len(heads))]
    layer, head = places[int(np.argmax(chosen))]
    return (
        f"attention: by step {history.steps[-1]}, {int(chosen.sum())} of {len(places)} heads (first: layer {layer}, "
        f"head {head}) have"
    )


class Recorder:
    """Records what a model attends to on the same probe each time, and how far that is from the first time.

    Args:
        real: which queries of the probe count, boolean `(B, T)`, or a list with one such array, or None, for each
            attention; default all.

    Attributes:
        history: what was recorded.
    """

    def __init__(self, real: Any = None) -> None:
        self.real, self.history = real, History()
        self._start: list[np.ndarray] | None = None

    def compare_with(self, seen: Seen) -> None:
        """Take this as the beginning that later weights are compared with."""
        self._start = self._sample(seen)

    def record(self, step: int, seen: Seen) -> None:
        """Add what was seen after so many steps."""
        sampled = self._sample(seen)
        self._start = self._start or sampled
        drift = [
            (0.5 * np.abs(now - start).sum(-1)).mean(0).tolist()
            for now, start in zip(sampled, self._start, strict=False)
        ]
        self.history.record(step, seen.summary(real=self.real), drift)

    def _sample(self, seen: Seen) -> list[np.ndarray]:
        """The weights of some real queries of each input, `(queries, H, S)` for each layer."""
        real = self.real if isinstance(self.real, list) else [self.real] * len(seen)
        return [_rows(weights, each) for weights, each in zip(seen, real, strict=True)]


def _rows(weights: Any, real: Any) -> np.ndarray:
    queries = weights.shape[-2]
    chosen = np.unique(np.linspace(0, queries - 1, min(queries, SAMPLED)).round().astype(int))
    tile = np.asarray(to_numpy(in_single(weights)[..., chosen, :]), np.float32)
    tile = np.moveaxis(tile.reshape(-1, *tile.shape[-3:]), 2, 1)  # (B, queries, H, S)
    if real is None:
        return tile.reshape(-1, *tile.shape[2:])
    return tile[np.broadcast_to(np.asarray(to_numpy(real), bool), (len(tile), queries))[:, chosen]]
