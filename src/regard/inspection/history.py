"""How every head attends while a model trains: numbers a step, to be written and plotted."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from regard.errors import ConfigError, ShapeError
from regard.models.summary import Summary

MEASURES = ("entropy", "largest_score", "distance")

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

    Example:
        >>> import torch, regard
        >>> from regard.inspection.history import History
        >>> model, probe, history = torch.nn.MultiheadAttention(12, 3), torch.ones(5, 2, 12), History()
        >>> for step in (0, 100):
        ...     with regard.watch(model) as seen:
        ...         _ = model(probe, probe, probe)
        ...     history.record(step, seen.summary())
        >>> history.steps, len(history.entropy), len(history.entropy[0]), len(history.entropy[0][0])
        ([0, 100], 2, 1, 3)
    """

    steps: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    entropy: Measure = field(default_factory=list)
    largest_score: Measure = field(default_factory=list)
    distance: Measure = field(default_factory=list)

    def record(self, step: int, summary: Summary) -> None:
        """Adds what `Seen.summary()` says of the model after so many steps.

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

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each step, layer and head, for `pandas.DataFrame` or a CSV file."""
        return [
            {"step": step, "layer": layer, "name": name, "head": head}
            | {measure: getattr(self, measure)[place][layer][head] for measure in MEASURES}
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
            path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        elif path.suffix == ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, ("step", "layer", "name", "head", *MEASURES))
                writer.writeheader()
                writer.writerows(self.rows())
        else:
            raise ConfigError(f"History.save: need a path that ends in .csv or .json; got {path.name!r}; rename it.")

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws it, a figure of Matplotlib: see `regard.inspection.plots.attention_history`."""
        from regard.inspection import plots

        return plots.attention_history(self, path=path)
