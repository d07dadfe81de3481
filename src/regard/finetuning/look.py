"""What a model attends to in one text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.errors import ConfigError
from regard.inspection.report.content import Example, Report, TokenAttention

if TYPE_CHECKING:
    from regard.finetuning.run import Run


@dataclass(frozen=True)
class Look:
    """The attention in one text, averaged over the layers and heads that were chosen.

    Attributes:
        attention: the text, what was predicted, its tokens, and every weight.
        layer: the layer looked at; None means all.
        head: the head looked at; None means all.
        cut: tokens of the text that the model did not read.
    """

    attention: TokenAttention
    layer: int | None
    head: int | None
    cut: int

    @property
    def which(self) -> str:
        """Say which layers and heads are averaged."""
        layer = "mean of all layers" if self.layer is None else f"layer {self.layer}"
        head = "mean of all heads" if self.head is None else f"head {self.head}"
        return f"{layer}, {head}"

    @property
    def weights(self) -> np.ndarray:
        """The weights averaged, (n, n)."""
        chosen = self.attention.weights
        chosen = chosen if self.layer is None else chosen[self.layer : self.layer + 1]
        chosen = chosen if self.head is None else chosen[:, self.head : self.head + 1]
        return chosen.mean((0, 1))

    def table(self, most: int = 3) -> list[tuple[str, float, str]]:
        """Return for each token: itself, its share of all attention, and the tokens that it attends to most."""
        tokens, weights = self.attention.tokens, self.weights
        shares = weights.mean(0)
        return [(token, float(shares[n]), _targets(tokens, weights[n], most)) for n, token in enumerate(tokens)]

    def write(self, path: Path) -> None:
        """Write a page (`.html`) or a picture (`.png`)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".html":
            self._write_page(path)
        else:
            self._write_picture(path)

    def _write_page(self, path: Path) -> None:
        from regard.inspection.report import write_report

        example = self.attention.example
        told = f"Predicted {example.predicted} with probability {example.confidence:.3f}."
        layers, heads, length, _ = self.attention.weights.shape
        facts = [("Layers", str(layers)), ("Heads", str(heads)), ("Tokens", str(length))]
        write_report(Report("What the model attends to", told, facts, metrics=[], attention=[self.attention]), path)

    def _write_picture(self, path: Path) -> None:
        from regard.inspection import plots

        tokens = self.attention.tokens
        if self.layer is None and self.head is None:
            plots.head_grid(self.attention.weights, "Every layer and head", path=path)
        else:
            plots.heat_map(self.weights, tokens, tokens, self.which, path=path)


def _targets(tokens: list[str], weights: np.ndarray, most: int) -> str:
    order = np.argsort(-weights, kind="stable")[:most]
    return ", ".join(f"{tokens[n]} {weights[n]:.0%}" for n in order)


def look_at(run: Run, text: str, layer: int | None = None, head: int | None = None) -> Look:
    """Predict for a text and keep what every layer and head attends to.

    Args:
        run: a run on text.
        text: what to read.
        layer: the layer to look at, from 0; all if None.
        head: the head to look at, from 0; all if None.

    Raises:
        ConfigError: there is no such layer or head.
    """
    prediction = run.predict([text])[0]
    tokens, weights = look(run.model, run.processor, text)
    _require("layer", layer, weights.shape[0])
    _require("head", head, weights.shape[1])
    example = Example(text, "", prediction["label"], prediction["probability"])
    return Look(TokenAttention(example, tokens, weights), layer, head, prediction["tokens_cut"])


def _require(what: str, number: int | None, count: int) -> None:
    if number is not None and not 0 <= number < count:
        raise ConfigError(f"look: need a {what} from 0 to {count - 1}; got {number}; choose one of those.")


def look(model: Any, processor: Any, text: str) -> tuple[list[str], np.ndarray]:
    """Return the tokens of a text, and the weights of every layer and head as an array (layers, heads, n, n)."""
    import torch

    from regard.models.watch import watch

    options = {"truncation": True, "max_length": processor.model_max_length, "verbose": False}
    batch = processor([text], return_tensors="pt", **options).to(model.device)
    model.eval()
    with torch.inference_mode(), watch(model) as seen:
        model(**batch)
    tokens = processor.convert_ids_to_tokens(batch["input_ids"][0])
    return tokens, np.stack([weights[0].dense().float().cpu().numpy() for weights in seen])
