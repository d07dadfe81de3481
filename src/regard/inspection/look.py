"""What one input made a model attend to: as a table for the terminal, as a picture, as a page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regard._backends import to_numpy
from regard._digits import per_cent
from regard.errors import ConfigError
from regard.inspection import plots
from regard.inspection.faithfulness import Faithfulness, faithfulness
from regard.inspection.patches import patch_map, span
from regard.inspection.report import write_report
from regard.inspection.report.content import Example, Picture, Report, Table, TokenAttention
from regard.models.summary import in_single

if TYPE_CHECKING:
    from regard.looking.looked import Looked
    from regard.models.seen import Seen

METHODS = ("weights", "received", "rollout", "relevance", "alignment")
_CAVEAT = "Attention shows where a head looks; it is not by itself an explanation of the decision."
_MOST_MAPPED = 1024  # positions up to which every pair is looked at


@dataclass(frozen=True)
class Look:
    """One way to look at what a model attended to.

    Attributes:
        looked: what was seen.
        method: "weights" (of one position, or where each position looks), "received" (by each position from all),
            "rollout" or "relevance" (through all layers), or "alignment" (of each token written with those read).
        layer, head: the ones looked at; None means the mean of all. Not for "rollout" and "relevance".
        start: the position that attends; None for all, and for "relevance" the one that the model decides by.
        given: what it was shown, as it was given.
        hide_special: whether special tokens of a text are left out of tables and drawings; shares stay what they are.
    """

    looked: Looked
    method: str = "received"
    layer: int | None = None
    head: int | None = None
    start: int | None = None
    given: str = ""
    hide_special: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"look: need a method, one of {', '.join(METHODS)}; got '{self.method}'.")
        if self.method == "alignment" and self.looked.across is None:
            raise ConfigError("look: need a model that writes for alignment; got one that only reads; choose another.")
        seen = self._seen
        _require("layer", self.layer, len(seen))
        _require("head", self.head, seen[0].shape[-3])
        _require("position", self.start, len(self.looked.labels))
        if self.method in ("rollout", "relevance") and not (self.layer is self.head is None):
            raise ConfigError(
                f"look: need no --layer and no --head with {self.method}, which goes through all of them."
            )

    @property
    def _seen(self) -> Seen:
        return self.looked.across if self.method == "alignment" else self.looked.seen  # type: ignore[return-value]

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
            found = to_numpy(seen.rollout(self.start))[0]
        elif self.method == "relevance":
            start = self.looked.decides if self.start is None else self.start
            # The token itself is always 1; what the layers add to it is what is asked for.
            found = to_numpy(seen.relevance(start))[0].astype(np.float64)
            found[start] = max(found[start] - 1, 0.0)
        else:
            rows = [weights.received(None if self.start is None else [self.start]) for weights in self._layers]
            found = np.mean([self._heads(to_numpy(row)[0]).mean(0) for row in rows], 0)
        return found / max(float(found.sum()), 1e-30)

    @property
    def scale(self) -> str:
        """The shares in words, beside what each position had if all had the same."""
        return span(self.scores[self.shown])

    @cached_property
    def shown(self) -> np.ndarray:
        """The positions in tables and drawings: all, or those of no special token."""
        plain = self.looked.removable
        if not self.hide_special or self.looked.kind != "text" or plain is None or not np.any(plain):
            return np.arange(len(self.looked.labels))
        return np.flatnonzero(plain)

    @property
    def hidden(self) -> str:
        """What is left out and what share it gets, in a sentence; nothing if nothing is."""
        rest = np.setdiff1d(np.arange(len(self.looked.labels)), self.shown)
        names = ", ".join(dict.fromkeys(self.looked.labels[place] for place in rest))
        return f"Hidden: {names}, with {per_cent(float(self.scores[rest].sum()))} of the shares." if names else ""

    @property
    def _layers(self) -> list[Any]:
        return [self._seen[layer] for layer in self._numbers(self.layer, len(self._seen))]

    def _heads(self, array: np.ndarray) -> np.ndarray:
        return array[self._numbers(self.head, len(array))]

    @staticmethod
    def _numbers(chosen: int | None, count: int) -> list[int]:
        return list(range(count)) if chosen is None else [chosen]

    @cached_property
    def map(self) -> np.ndarray | None:
        """The weights averaged over the chosen layers and heads, `(n, n)`, or `(tokens written, n)` for "alignment";
        None where that would be too many."""
        if len(self.looked.labels) > _MOST_MAPPED:
            return None
        return self._mean.dense()

    @property
    def _mean(self) -> _Mean:
        return _Mean([weights[0].heads(self._numbers(self.head, weights.shape[-3])) for weights in self._layers])

    def faithfulness(self, repeats: int = 40) -> Faithfulness | None:
        """How far the scores say what the model decides by; None where it decides nothing, or nothing may be taken
        away. See `faithfulness`."""
        if self.looked.score is None or not np.any(self.looked.removable):
            return None
        return faithfulness(self.looked.score, self.scores, repeats=repeats, removable=self.looked.removable)

    def table(self, most: int = 3, rows: int = 40) -> list[tuple[str, float, str]]:
        """For each position: its label, its share of the scores, and the positions that it attends to most.

        Texts in their order; of pictures, sounds and long texts the `rows` with the largest shares.
        """
        labels, scores = self.looked.labels, self.scores
        order = self.shown
        if self.looked.kind != "text" or len(labels) > 4 * rows:
            order = order[np.argsort(-scores[order], kind="stable")[:rows]]
        return [(labels[place], float(scores[place]), self._targets(int(place), most)) for place in order]

    def alignment(self, most: int = 3) -> list[tuple[str, str]]:
        """For each token that the model writes: the tokens read that it attends to most while it writes it."""
        return [(token, self._most_attended(place, most)) for place, token in enumerate(self.looked.written)]

    def _targets(self, place: int, most: int) -> str:
        one_row = self.start is not None or self.method in ("rollout", "relevance", "alignment")
        return "" if one_row or self.looked.kind != "text" else self._most_attended(place, most)

    def _most_attended(self, place: int, most: int) -> str:
        if self.map is None:
            return ""
        row = self.map[place]
        order = self.shown[np.argsort(-row[self.shown], kind="stable")[:most]]
        return ", ".join(f"{self.looked.labels[other]} {row[other]:.0%}" for other in order)

    def write(self, path: Path, found: Faithfulness | None = None) -> None:
        """A page (`.html`), with how faithful this explanation was found if it was measured, or a picture (`.png`)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        faithful = [] if found is None else [_curves(found)]
        if path.suffix == ".png":
            self.draw(path)
        elif self.looked.kind == "text" and len(self.looked.labels) <= _MOST_MAPPED and self.method != "alignment":
            self._write_page(path, faithful)
        else:
            self._write_pictures_page(path, faithful)

    def draw(self, path: Any) -> None:
        """Draws a picture into a file, by name or open for bytes."""
        looked, title = self.looked, f"{self.looked.answer}  {self.which}".strip()
        labels = [looked.labels[place] for place in self.shown]
        if looked.found is not None:
            plots.boxes(looked.picture, looked.found, path=path)
        elif looked.picture is not None:
            plots.image_overlay(looked.picture, patch_map(self.scores, looked.grid), title, path=path)
        elif looked.words:
            plots.words_in_time(looked.words, self.scores, looked.moment, title, path=path)
        elif self.method == "alignment":
            plots.heat_map(self._of_shown(self._mean, rows=False), looked.written, labels, self.which, path=path)
        elif self.method != "weights" or self.start is not None:
            plots.tokens(labels, self.scores[self.shown], title, path=path)
        elif self.layer is None and self.head is None:
            plots.head_grid([self._of_shown(each[0]) for each in looked.seen], "Every layer and head", path=path)
        else:
            plots.heat_map(self._of_shown(self._mean), labels, labels, self.which, path=path)

    def _of_shown(self, weights: Any, rows: bool = True) -> Any:
        """Weights `(..., T, n)` of the positions that are shown, as they are if that is all."""
        if len(self.shown) == len(self.looked.labels):
            return weights
        kept = to_numpy(weights.dense())[..., self.shown]
        return kept[..., self.shown, :] if rows else kept

    def _write_page(self, path: Path, faithful: list[Picture]) -> None:
        """The explorer of the report: every layer, head and token."""
        looked = self.looked
        predicted, _, chance = looked.answer.rpartition(" ")
        told = f"Predicted {predicted} with probability {chance}." if looked.answer else "The model only encodes."
        example = Example(self.given, "", predicted, float(chance) if looked.answer else float("nan"))
        attention = TokenAttention(example, looked.labels, looked.seen.dense())
        report = Report(
            "What the model attends to",
            told,
            self._facts,
            metrics=[],
            attention=[attention],
            pictures=faithful,
            hide_special=self.hide_special,
        )
        write_report(report, path)

    @property
    def _facts(self) -> list[tuple[str, str]]:
        seen = self._seen
        positions = {"text": "Tokens", "image": "Patches and special positions", "audio": "Positions"}
        counts = (("Layers", len(seen)), ("Heads", seen[0].shape[-3]), (positions[self.looked.kind], seen[0].shape[-1]))
        hidden = [("Left out", self.hidden)] if self.hidden else []
        return [*((name, str(count)) for name, count in counts), ("Looked at", self.which), *hidden]

    def _write_pictures_page(self, path: Path, faithful: list[Picture]) -> None:
        drawn = io.BytesIO()
        self.draw(drawn)
        shares = Table(
            "Largest shares", ["position", "share"], [[at, per_cent(share)] for at, share, _ in self.table()]
        )
        write_report(
            Report(
                f"What the model attends to: {Path(self.given).name[:80]}",
                self.looked.answer,
                [*self._facts, ("Shares", self.scale)],
                metrics=[],
                pictures=[Picture(self.which, drawn.getvalue(), _CAVEAT), *faithful],
                tables=[shares],
            ),
            path,
        )


@dataclass(frozen=True)
class _Mean:
    """The mean of several `(heads, T, S)` weights over layers and heads, lazy as they are."""

    several: list[Any]

    @property
    def shape(self) -> tuple[int, int]:
        return self.several[0].shape[-2:]

    def dense(self) -> np.ndarray:
        return np.mean([to_numpy(in_single(weights).dense()).mean(0) for weights in self.several], 0)

    def pool(self, rows: int, columns: int, reduce: str) -> np.ndarray:
        return np.mean([to_numpy(weights.pool(rows, columns, reduce=reduce)).mean(0) for weights in self.several], 0)


def _curves(found: Faithfulness) -> Picture:
    drawn = io.BytesIO()
    plots.faithfulness(found, path=drawn)
    return Picture("How far this explains the decision.", drawn.getvalue(), "; ".join(str(found).splitlines()) + ".")


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
