"""Views of what a model reads: a text, a picture or a sound, with their parts and what is shown beside the map."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from regard._language import SENTENCE_END
from regard.errors import DataError, UnsupportedError
from regard.exploring.heads import pieced
from regard.exploring.views import Axis, Layer, View
from regard.looking.looked import Looked
from regard.looking.sounds import SOUNDS, open_sound, resample

Told = Callable[[str, int], None]
_PARAGRAPH = re.compile(r"\n\s*\n")
_PAGE = re.compile(r"\f")
_WAVE = 1000  # values a second that a drawn sound has


def of_text(
    model: Any, processor: Any, given: str | list[dict[str, str]], title: str, window: int | None = None,
    generate: int = 0, told: Told | None = None,
) -> View:  # fmt: skip
    """What a model of transformers attends to in a text or a conversation, and in what it writes behind it.

    `told` hears of each step.
    """
    from regard.looking.transformers.chats import rendered
    from regard.looking.transformers.long_texts import read_whole

    text, turns = (given, []) if isinstance(given, str) else rendered(processor, given, generate > 0)
    read = read_whole(model, processor, text, window, generate, told, not isinstance(given, str))
    bands = {
        name: found for name, cut in (("sentences", SENTENCE_END), ("paragraphs", _PARAGRAPH), ("pages", _PAGE))
        if 1 < len(found := parts(text, cut, read.spans)) <= 2000
    }  # fmt: skip
    count = len(read.tokens)
    if len(read.pieces) > 1:
        ends = [*read.pieces[1:], count]
        bands["pieces"] = [
            (f"{at}", start, stop) for at, (start, stop) in enumerate(zip(read.pieces, ends, strict=True))
        ]
    if read.written:
        start = count - read.written
        bands = {"read and written": [("read", 0, start), ("written", start, count)], **bands}
    if turns:
        own = [(role, *_between(read.spans, first, last)) for role, first, last in turns]
        answer = [("assistant", count - read.written, count)] if read.written else []
        bands = {"turns": own + answer, **bands}
    axis = Axis(read.tokens, read.special, bands)
    layers = [
        Layer(name, pieced([weights[0] for weights in each]))
        for name, *each in zip(read.seen[0].names, *read.seen, strict=True)
    ]
    return View(title, layers, [axis], media={"ids": read.ids})


def _between(spans: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """The first token that has some of a part of the text, and the one behind the last."""
    [inside] = np.nonzero((spans[:, 1] > start) & (spans[:, 0] < stop))
    return int(inside[0]), int(inside[-1]) + 1


def parts(text: str, cut: re.Pattern, spans: np.ndarray) -> list[tuple[str, int, int]]:
    """Parts of a text as spans of tokens: their first words, the first token and the one behind the last."""
    starts = [0, *(found.end() for found in cut.finditer(text))]
    real = np.flatnonzero(spans[:, 1] > spans[:, 0])
    if not len(real):
        return []
    begins = np.minimum(np.searchsorted(spans[real, 0], starts), len(real) - 1)
    firsts = real[begins].tolist()
    found = []
    for start, first, stop in zip(starts, firsts, [*firsts[1:], int(real[-1]) + 1], strict=True):
        if stop > first:
            found.append((" ".join(text[start : start + 60].split())[:40], first, stop))
    return found


def of_looked(looked: Looked, title: str, path: str = "") -> View:
    """A view of a picture or a sound that a model was shown, or of a text by a library other than transformers."""
    axes = [Axis(looked.labels, _special(looked), _words(looked))]
    layers = [Layer(name, weights[0]) for name, weights in zip(looked.seen.names, looked.seen, strict=True)]
    if looked.across is not None:
        axes.append(Axis(looked.written))
        layers += [
            Layer(name, weights[0], 1, 0)
            for name, weights in zip(looked.across.names, looked.across, strict=True)
            if weights.shape[-2:] == (len(looked.written), len(looked.labels))
        ]
    return View(title, layers, axes, looked.kind, dict(_media(looked, path)))


def _special(looked: Looked) -> list[int]:
    if looked.grid is not None:
        first, behind = _patches(looked)
        return [*range(first), *range(behind, len(looked.labels))]
    return [] if looked.removable is None else np.flatnonzero(~looked.removable).tolist()


def _patches(looked: Looked) -> tuple[int, int]:
    """The first patch and what is behind the last: a detector may have queries of boxes there."""
    rows, columns = looked.grid or (0, 0)
    more = len(looked.labels) - rows * columns
    first = more if looked.found is None else min(more, 1)
    return first, first + rows * columns


def _words(looked: Looked) -> dict[str, list[tuple[str, int, int]]]:
    if not looked.words or not looked.moment:
        return {}
    most = len(looked.labels)
    found = [
        (word, min(int(first / looked.moment), most - 1), min(max(int(last / looked.moment), 1), most))
        for word, first, last in looked.words
    ]
    return {"words": [(word, first, max(last, first + 1)) for word, first, last in found]}


def _media(looked: Looked, path: str) -> Iterator[tuple[str, Any]]:
    """What the page shows beside the map."""
    if looked.answer:
        yield "answer", looked.answer[:500]
    if looked.picture is not None and looked.grid is not None:
        yield "picture", _png(looked.picture)
        yield "grid", list(looked.grid)
        yield "prefix", _patches(looked)[0]
    if looked.found:
        yield "boxes", [[each.label, each.score, *each.box] for each in looked.found]
    if looked.kind == "audio" and Path(path).suffix.lower() in SOUNDS:
        sound, rate = open_sound(path)
        heard = np.abs(resample(sound, rate, min(rate, _WAVE * 8)))
        step = max(round(min(rate, _WAVE * 8) * looked.moment), 1)
        loud = [float(heard[start : start + step].max(initial=0)) for start in range(0, len(heard), step)]
        yield "wave", [round(value, 4) for value in loud[: len(looked.labels)]]


def _png(picture: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def alike(one: View, other: View) -> None:
    """Raise DataError where two models do not read the same tokens, so that their maps cannot be laid side by side."""
    if one.media.get("ids") != other.media.get("ids"):
        counts = [len(view.axes[0].labels) for view in (one, other)]
        raise DataError(
            f"--against: need two models that read the same tokens; got {counts[0]} and {counts[1]} by other "
            "tokenizers, which cannot be laid side by side; compare a run with its base, say."
        )
    if one.shape(0, 0) != other.shape(0, 0):
        raise UnsupportedError(
            f"--against: need maps of one shape; got {one.shape(0, 0)} and {other.shape(0, 0)}; choose another model."
        )
