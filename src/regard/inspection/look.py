"""What one input made a model attend to: as a table for the terminal, as a picture, as a page."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.errors import ConfigError
from regard.inspection import plots
from regard.inspection.faithfulness import Faithfulness, faithfulness
from regard.inspection.patches import patch_map
from regard.inspection.report import write_report
from regard.inspection.report.content import Example, Report, TokenAttention

if TYPE_CHECKING:
    from regard.models.transformers_look import Looked

METHODS = ("weights", "received", "rollout", "relevance")
_MOST_MAPPED = 1024  # positions up to which every pair is looked at


@dataclass(frozen=True)
class Look:
    """One way to look at what a model attended to.

    Attributes:
        looked: what was seen.
        method: "weights" (of one position, or where each position looks), "received" (by each position from all),
            "rollout" or "relevance" (through all layers).
        layer, head: the ones looked at; None means the mean of all. Only for "weights" and "received".
        start: the position that attends; None for all, and for "relevance" the one that the model decides by.
        given: what it was shown, as it was given.
    """

    looked: Looked
    method: str = "received"
    layer: int | None = None
    head: int | None = None
    start: int | None = None
    given: str = ""

    def __post_init__(self) -> None:
        seen = self.looked.seen
        if self.method not in METHODS:
            raise ConfigError(f"look: need a method, one of {', '.join(METHODS)}; got '{self.method}'.")
        _require("layer", self.layer, len(seen))
        _require("head", self.head, seen[0].shape[-3])
        _require("position", self.start, len(self.looked.labels))
        if self.method in ("rollout", "relevance") and not (self.layer is self.head is None):
            raise ConfigError(
                f"look: need no --layer and no --head with {self.method}, which goes through all of them."
            )

    @property
    def which(self) -> str:
        """In words."""
        where = "" if self.start is None else f" from {self.looked.labels[self.start].strip()}"
        if self.method in ("rollout", "relevance"):
            return f"{self.method}{where}"
        layer = "mean of all layers" if self.layer is None else f"layer {self.layer}"
        head = "mean of all heads" if self.head is None else f"head {self.head}"
        return f"{layer}, {head}{where}"

    @cached_property
    def scores(self) -> np.ndarray:
        """One number for each position, which sum to one: how much it is attended to, or matters."""
        seen = self.looked.seen
        if self.method == "rollout":
            found = _numpy(seen.rollout(self.start))[0]
        elif self.method == "relevance":
            found = _numpy(seen.relevance(self.looked.decides if self.start is None else self.start))[0]
            # The token itself is always 1; what the layers add to it is what is asked for.
            found = found - np.eye(len(found))[self.looked.decides if self.start is None else self.start]
        else:
            rows = [weights.received(None if self.start is None else [self.start]) for weights in self._layers]
            found = np.mean([self._heads(_numpy(row)[0]).mean(0) for row in rows], 0)
        return found / max(float(found.sum()), 1e-30)

    @property
    def _layers(self) -> list[Any]:
        return [self.looked.seen[layer] for layer in self._numbers(self.layer, len(self.looked.seen))]

    def _heads(self, array: np.ndarray) -> np.ndarray:
        return array[self._numbers(self.head, len(array))]

    @staticmethod
    def _numbers(chosen: int | None, count: int) -> list[int]:
        return list(range(count)) if chosen is None else [chosen]

    @cached_property
    def map(self) -> np.ndarray | None:
        """The weights averaged over the chosen layers and heads, `(n, n)`; None where that would be too many."""
        if len(self.looked.labels) > _MOST_MAPPED:
            return None
        return np.mean([self._heads(_numpy(weights[0].dense())).mean(0) for weights in self._layers], 0)

    def faithfulness(self, repeats: int = 40) -> Faithfulness | None:
        """How far the scores say what the model decides by; None where it decides nothing. See `faithfulness`."""
        if self.looked.score is None:
            return None
        return faithfulness(self.looked.score, self.scores, repeats=repeats, removable=self.looked.removable)

    def table(self, most: int = 3, rows: int = 40) -> list[tuple[str, float, str]]:
        """For each position: its label, its share of the scores, and the positions that it attends to most.

        Texts in their order; of pictures, sounds and long texts the `rows` with the largest shares.
        """
        labels, scores = self.looked.labels, self.scores
        order = np.arange(len(labels))
        if self.looked.kind != "text" or len(labels) > 4 * rows:
            order = np.argsort(-scores, kind="stable")[:rows]
        return [(labels[place], float(scores[place]), self._targets(int(place), most)) for place in order]

    def _targets(self, place: int, most: int) -> str:
        if self.start is not None or self.looked.kind != "text" or self.method in ("rollout", "relevance"):
            return ""
        if self.map is None:
            return ""
        row = self.map[place]
        order = np.argsort(-row, kind="stable")[:most]
        return ", ".join(f"{self.looked.labels[other]} {row[other]:.0%}" for other in order)

    def write(self, path: Path) -> None:
        """A page (`.html`) or a picture (`.png`)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            self._draw(path)
        elif self.looked.kind == "text" and len(self.looked.labels) <= _MOST_MAPPED:
            self._write_page(path)
        else:
            self._write_pictures_page(path)

    def _draw(self, path: Any) -> None:
        looked, title = self.looked, f"{self.looked.answer}  {self.which}".strip()
        if looked.picture is not None:
            plots.image_overlay(looked.picture, patch_map(self.scores, looked.grid), title, path=path)
        elif looked.words:
            plots.words_in_time(looked.words, self.scores, looked.moment, title, path=path)
        elif self.method != "weights" or self.start is not None:
            plots.tokens(looked.labels, self.scores, title, path=path)
        elif self.layer is None and self.head is None:
            stacked = np.stack([_numpy(plots._shrunk(weights[0], plots.MAX_GRID_CELLS)) for weights in looked.seen])
            plots.head_grid(stacked, "Every layer and head", path=path)
        elif self.map is not None:
            plots.heat_map(self.map, looked.labels, looked.labels, self.which, path=path)
        else:
            raise ConfigError(
                f"look: need at most {_MOST_MAPPED} positions for a map; got {len(looked.labels)}; use "
                "--method received."
            )

    def _write_page(self, path: Path) -> None:
        """The explorer of the report: every layer, head and token."""
        looked = self.looked
        predicted, _, chance = looked.answer.rpartition(" ")
        weights = np.stack([_numpy(weights[0].dense()) for weights in looked.seen])
        layers, heads, length, _ = weights.shape
        told = f"Predicted {predicted} with probability {chance}." if looked.answer else "The model only encodes."
        facts = [("Layers", str(layers)), ("Heads", str(heads)), ("Tokens", str(length))]
        attention = TokenAttention(
            Example(self.given, "", predicted, float(chance) if looked.answer else 0.0), looked.labels, weights
        )
        write_report(Report("What the model attends to", told, facts, metrics=[], attention=[attention]), path)

    def _write_pictures_page(self, path: Path) -> None:
        drawn = io.BytesIO()
        self._draw(drawn)
        picture = base64.b64encode(drawn.getvalue()).decode()
        rows = "".join(f"<tr><td>{html.escape(label)}<td>{share:.1%}" for label, share, _ in self.table())
        title = html.escape(f"What the model attends to: {Path(self.given).name[:80]}")
        path.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            "<style>body{font:16px system-ui;max-width:60rem;margin:2rem auto}img{max-width:100%}</style>"
            f"<h1>{title}</h1><p>{html.escape(self.looked.answer)} ({html.escape(self.which)})</p>"
            f'<img alt="{html.escape(self.which)}" src="data:image/png;base64,{picture}">'
            f"<table><tr><th>position<th>share{rows}</table></html>\n",
            encoding="utf-8",
        )


def position(labels: list[str], asked: str) -> int:
    """The number of the position that is meant by a number or by its label.

    Raises:
        ConfigError: There is no such position.
    """
    if asked.lstrip("-").isdigit():
        number = int(asked)
        if -len(labels) <= number < len(labels):
            return number % len(labels)
    bare = [label.strip(" ▁Ġ").removeprefix("##").lower() for label in labels]
    if asked in labels:
        return labels.index(asked)
    if asked.lower() in bare:
        return bare.index(asked.lower())
    shown = ", ".join(labels[:12]) + (", ..." if len(labels) > 12 else "")
    raise ConfigError(
        f"look: need a token of the input, or its number, from 0 to {len(labels) - 1}; got '{asked}'; of {shown}."
    )


def _require(what: str, number: int | None, count: int) -> None:
    if number is not None and not 0 <= number < count:
        raise ConfigError(f"look: need a {what} from 0 to {count - 1}; got {number}; choose one of those.")


def _numpy(array: Any) -> np.ndarray:
    return np.asarray(plots._numpy(array), np.float64)
