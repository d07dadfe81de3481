"""What one input made a model attend to, whatever the model and the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from regard.models.seen import Seen


@dataclass(frozen=True)
class Looked:
    """What one input made a model attend to.

    Attributes:
        kind: "text", "image" or "audio".
        labels: one for each position that is attended to: tokens, patches by row and column, or seconds.
        seen: the self-attentions, one for each layer, of the part that reads the input.
        answer: what the model says of the input, if it has a head that says something.
        decides: the position that it decides by, 0 or -1.
        cut: tokens of the text that the model did not read.
        picture: the picture as the model saw it, `(height, width, 3)` in 0..1.
        grid: its rows and columns of patches.
        moment: how long each position of a sound is, in seconds.
        unheard: seconds at the end of a sound that the model did not hear.
        score: takes which positions are kept, booleans `(cases, n)`, and gives the probability of the answer in each
            case; None for a model that decides nothing.
        removable: which positions may be taken away, `(n,)`.
        words: the words of a recogniser, each with its first and last second.
        found: the objects of a detector, the surest first.
        written: the tokens that a model with a decoder writes.
        across: the decoder's attentions to the input, one for each layer, each with a query for each token written.
    """

    kind: str
    labels: list[str]
    seen: Seen
    answer: str = ""
    decides: int = 0
    cut: int = 0
    picture: np.ndarray | None = None
    grid: tuple[int, int] | None = None
    moment: float = 0.0
    unheard: float = 0.0
    score: Callable[[np.ndarray], np.ndarray] | None = None
    removable: np.ndarray | None = None
    words: list[tuple[str, float, float]] = field(default_factory=list)
    found: list[Found] | None = None
    written: list[str] = field(default_factory=list)
    across: Seen | None = None


@dataclass(frozen=True)
class Found:
    """An object that was found.

    Attributes:
        label: its class.
        score: how sure the model is.
        box: left, top, width and height in fractions of the picture.
        patches: where its query looks, `(rows, columns)`: shares of the attention, the mean of layers and heads. A
            query that looks at a few points shares it among the patches around each, as
            `regard.models.transformers.deformable` says. None where nothing is known of a model's deformable attention.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    patches: np.ndarray | None
