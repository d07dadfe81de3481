"""`effects`: how much a score changes without a head, a layer, a token or a pair of tokens."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from regard.errors import DataError, DtypeError, OutOfRangeError
from regard.inspection.effects.found import Effects, interval, mean
from regard.inspection.effects.kept import Kept
from regard.inspection.effects.kinds import Kind, kind
from regard.inspection.effects.plain import Plain, batches_of, is_batch, scored
from regard.models.edit import edit
from regard.models.places import Places
from regard.models.watch import watch


def effects(
    model: Any,
    inputs: Any,
    score: Callable[..., Any],
    of: str = "heads",
    *,
    layers: Iterable[int | str] | int | str | None = None,
    pairs: Any = None,
    output: str = "zero",
    estimate: bool = True,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Effects:
    """How much a score changes by each edit of a model's attention, mean over inputs, with intervals.

    The model runs once for each batch as it is, and once with each edit: exact, for these inputs. Beside it stands what
    a gradient foretells, from one forward and backward pass, and how well both agree.

    Args:
        model: As for `regard.edit`, in evaluation (`model.eval()`).
        inputs: One batch, as the model takes it: a mapping by name, an array, or a tuple of arrays by position; or
            several of these, in a list or by an iterator.
        score: Takes what the model returns, and the batch too if it needs two arguments; gives one number for each
            example, `(B,)`: a label's logit, the negative loss, an answer's log-probability.
        of: `"heads"`: what comes out of one head is replaced; `"layers"`: of all heads of one layer; `"tokens"`: nobody
            may look at a token, in all heads and layers; `"pairs"`: one query may not look at one key.
        layers: Which attentions, as for `regard.edit`; default all.
        pairs: With `of="pairs"`, a list of (query, key). Positions, of tokens too, are counted in each example from the
            first that is real, in pairs from the end below 0; of an `attention_mask` in the batch, or else of what
            the model lets be seen as keys.
        output: What comes out of heads instead: `"zero"`, or `"mean"`, over the real positions.
        estimate: Also estimate effects by a gradient, in PyTorch and if the score has one.
        resume: A file (.npz) that keeps what is known, written every few seconds: called again after it was killed,
            it goes on there.
        progress: Show a bar on the error stream, where that is a terminal and rich is installed.

    Shapes:
        score (B,): B examples.

    Returns:
        The effects, each the score with the edit minus that without.

    Raises:
        ConfigError: An `of` or output of a name that there is not, pairs without `of="pairs"`.
        DataError: A model that does not answer the same twice, scores that are not finite, no inputs, or a file of
            another model, question, inputs or score.
        DtypeError: Something that is no model, no batch or no score.
        OutOfRangeError: Layers that did not run, or pairs that no input has.
        ShapeError: A score that is not one number for each example; tokens of attentions over different positions.
        UnsupportedError: A model that cannot be watched and edited.

    Edges:
        Parts that stand in for each other each have a small effect alone. Hidden keys leave their weight to the others.

    Cost:
        A forward pass for each edit, and, for estimates, one with a backward pass; O(T + S) memory for masks.

    Source:
        Michel et al. 2019, arXiv 1905.10650, section 2.2 and equation 2, for heads, with the sign; for tokens and pairs
        the gradient by a score, P_ij (g_i . v_j - g_i . a_i), of which the sums are made lazily.

    Example:
        >>> import torch, regard
        >>> class Block(torch.nn.Module):
        ...     def forward(self, x):
        ...         return torch.nn.functional.scaled_dot_product_attention(x, x, x)
        >>> model, x = torch.nn.Sequential(Block(), Block()), torch.randn(2, 4, 7, 16)
        >>> found = regard.effects(model, x, lambda answer: answer[:, 0].sum((-2, -1)))
        >>> found.effect.shape, bool((found.effect[:, 1:] == 0).all())  # heads of other scores do not matter
        ((2, 4), True)
    """
    asked, places = kind(of, output, pairs), Places(layers)
    framework = _framework(model)
    question = {"of": of, "layers": repr(layers), "pairs": asked.pairs.tolist(), "output": output}
    kept = Kept(resume, question if resume is None else {**question, "model": framework.weights_digest(model)})
    number = len(inputs) if hasattr(inputs, "__len__") and not is_batch(inputs) else None
    found = []
    with _bar(progress) as advance:
        measured = _Measured(model, framework, _two_arguments(score), asked, places.wanted, estimate, kept, advance)
        for at, batch in enumerate(batches_of(inputs)):
            found.append(measured.batch(at, batch, 1 if is_batch(inputs) else number))
    if not found:
        raise DataError("effects: need a batch of inputs; got none.")
    return _gathered(of, asked, found)


class _Measured:
    """One batch after the other."""

    def __init__(
        self,
        model: Any,
        framework: Any,
        score: Callable,
        asked: Kind,
        layers: Any,
        estimate: bool,
        kept: Kept,
        advance: Any,
    ) -> None:
        self._model, self._framework, self._score, self._asked = model, framework, score, asked
        self._layers, self._estimate, self._kept, self._advance = layers, estimate, kept, advance
        self._done = 0

    def batch(self, at: int, batch: Any, batches: int | None) -> tuple[Plain, np.ndarray, np.ndarray | None]:
        """A batch as it is, its scores `(edits, B)` with each edit, and the estimates of how they change."""

        def run() -> Any:
            return self._score(self._framework.call(self._model, batch), batch)

        plain = self._plain(run, batch, first=at == 0)
        edited = self._kept.batch(at, batch, plain.scores)
        count = self._asked.count(plain)
        self._tell(len(edited), self._done + count * (1 if batches is None else batches - at))
        estimates = self._kept.estimates(at)
        if estimates is None and self._estimate:
            estimates = self._asked.estimates(self._framework, self._model, run, plain)
        try:
            for number in range(len(edited), count):
                edited.append(self._edited(run, number, plain))
                self._tell(1)
                self._kept.keep(at, edited, estimates)
        finally:
            self._kept.keep(at, edited, estimates, now=True)
        return plain, np.array(edited), estimates

    def _plain(self, run: Callable[[], Any], batch: Any, first: bool) -> Plain:
        with self._framework.quietly(), watch(self._model) as seen:
            scores = scored(run())
        if first:
            with self._framework.quietly():
                again = scored(run())
            if not np.allclose(scores, again, rtol=1e-4, atol=1e-6):
                raise DataError(
                    "effects: need a model that answers the same twice; got other scores the second time; turn dropout "
                    "off with model.eval()."
                )
        return Plain(scores, seen, self._layers, batch)

    def _edited(self, run: Callable[[], Any], number: int, plain: Plain) -> np.ndarray:
        with self._framework.quietly(), edit(self._model, **self._asked.edit(number, plain)):
            scores = scored(run())
        return np.where(self._asked.counted(number, plain), scores, np.nan)

    def _tell(self, steps: int, total: int | None = None) -> None:
        self._done += steps
        self._advance(steps, total=total)


def _gathered(of: str, asked: Kind, found: list[tuple[Plain, np.ndarray, np.ndarray | None]]) -> Effects:
    """All batches together."""
    first = found[0][0]
    widest = max(len(edited) for _, edited, _ in found)

    def joined(several: Iterable[np.ndarray]) -> np.ndarray:
        wide = [np.pad(each, ((0, widest - len(each)), (0, 0)), constant_values=np.nan) for each in several]
        return asked.arranged(np.concatenate(wide, 1).T, first.heads)

    each = joined(edited - plain.scores for plain, edited, _ in found)
    if of == "pairs" and (nowhere := np.isnan(each).all(0)).any():
        raise OutOfRangeError(
            f"effects: need pairs of positions that an input has; got {asked.pairs[nowhere].tolist()}, which none has."
        )
    some = [estimates for *_, estimates in found if estimates is not None]
    estimates = joined(some) if len(some) == len(found) else None
    return Effects(
        of,
        mean(each),
        *interval(each),
        each,
        np.concatenate([plain.scores for plain, *_ in found]),
        first.numbers,
        first.names,
        [(int(query), int(key)) for query, key in asked.pairs],
        None if estimates is None else mean(estimates),
        estimates,
        first.unseen,
    )


def _two_arguments(score: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A score as a function of what a model returns and of the batch."""
    if not callable(score):
        raise DtypeError(f"effects: need a score that is a function; got {type(score).__name__}.")
    try:
        needed = [
            each
            for each in inspect.signature(score).parameters.values()
            if each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # of a function in C
        needed = [None]  # type: ignore[list-item]
    return score if len(needed) == 2 else lambda answer, _: score(answer)


def _framework(model: Any) -> Any:
    """What does for this framework what is not the same in all."""
    if "keras" in sys.modules:  # before PyTorch, whose modules Keras' layers are on its PyTorch backend
        from regard.inspection.effects import keras
        from regard.models.keras import is_model

        if is_model(model):
            return keras
    if "torch" in sys.modules:
        from regard.inspection.effects import torch
        from regard.models import torch as models

        if models.is_model(model):
            return torch
    raise DtypeError(
        f"effects: need a PyTorch module or a Keras model; got {type(model).__name__}; pass the model itself."
    )


@contextmanager
def _bar(wanted: bool) -> Iterator[Any]:
    """What advances a bar, if there is one."""
    try:
        from rich.console import Console

        from regard.inspection.progress import bar
    except ModuleNotFoundError:
        wanted = False
    console = Console(stderr=True) if wanted else None
    if console is None or not (console.is_terminal or console.is_jupyter):
        yield lambda *_, **__: None
        return
    with bar(console, "edits", None) as advance:
        yield advance
