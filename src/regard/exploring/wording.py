"""Words made of their tokens: a coarser view, whose cells are sums over a word's keys and means over its queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from regard._language import is_spaceless
from regard.exploring.heads import Worded
from regard.exploring.views import Axis, View
from regard.looking.tokens import is_rest, together

_SPACES = "Ġ▁Ċ"
"""How tokenizers of bytes and SentencePiece write spaces and line ends."""


def in_words(views: Sequence[View]) -> list[View]:
    """The same views between words; none where each token is a word."""
    found = [by_words(view) for view in views]
    pairs = [(len(one.labels), len(other.labels)) for each in zip(found, views, strict=True)
             for one, other in zip(*(view.axes for view in each), strict=True)]  # fmt: skip
    return found if any(words < tokens for words, tokens in pairs) else []


def by_words(view: View) -> View:
    """The same view between words; what has no words, such as a picture's patches, stays as it is."""
    starts = [word_starts(axis) for axis in view.axes]
    axes = [_axis(*each) for each in zip(view.axes, starts, strict=True)]
    layers = [
        replace(layer, weights=_between(view, number, (starts[layer.queries], starts[layer.keys])))
        for number, layer in enumerate(view.layers)
    ]
    return View(view.title, layers, axes, view.kind, view.media)


def _between(view: View, layer: int, starts: tuple[np.ndarray, np.ndarray]) -> Worded:
    heads = int(view.layers[layer].weights.shape[0])
    return Worded((heads, len(starts[0]) - 1, len(starts[1]) - 1), partial(view.head, layer), starts)


def word_starts(axis: Axis) -> np.ndarray:
    """Where words begin, and the end of the last, `(words + 1,)`, by the marks that tokenizers put on tokens.

    A word begins at a space, or a mark for one; where `##` marks what goes on with a word, at each token without it.
    Punctuation, special tokens and tokens of languages without spaces between words are words of their own; what is
    parted over several tokens, one character, is one.
    """
    labels = axis.labels
    first, special = [True] * len(labels), set(axis.special)
    goes_on = any(label.startswith("##") and len(label) > 2 for label in labels)
    if goes_on or any(_opens(label) for label in labels):
        for at in range(1, len(labels)):
            label, before = labels[at], labels[at - 1]
            apart = at in special or at - 1 in special or not _is_part(label) or not _is_part(before)
            first[at] = apart or (not label.startswith("##") if goes_on else _opens(label) or _opens(before[-1:]))
    whole = [place for place in range(len(labels)) if first[place] and not is_rest(labels[place])]
    return np.append(whole, len(labels)).astype(int)


def _opens(label: str) -> bool:
    return label[:1].isspace() or label.startswith(tuple(_SPACES))


def _is_part(label: str) -> bool:
    """Whether a token may be part of a longer word."""
    return any(sign.isalnum() or sign == "_" for sign in label.lstrip(_SPACES)) and not any(map(is_spaceless, label))


def _axis(axis: Axis, starts: np.ndarray) -> Axis:
    if len(starts) == len(axis.labels) + 1:
        return axis
    spans = list(zip(starts.tolist(), starts[1:].tolist(), strict=False))
    labels = [together([axis.labels[start], *(each.removeprefix("##") for each in axis.labels[start + 1 : stop])])
              for start, stop in spans]  # fmt: skip
    special = sorted({word_at(starts, place) for place in axis.special})
    bands = {
        name: [(part, word_at(starts, start), word_at(starts, stop - 1) + 1) for part, start, stop in parts]
        for name, parts in axis.bands.items()
    }
    return Axis(labels, special, bands)


def word_at(starts: np.ndarray, place: int) -> int:
    """The word that a token is in."""
    return int(np.searchsorted(starts, place, "right")) - 1
