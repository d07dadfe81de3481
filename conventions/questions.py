"""What every operator is asked, each question with inputs, a reading of what comes, and the same in Regard.

A question is put to each operator that has what it needs. Values are the unit vectors, so that an output is the
weights; most inputs have equal scores, so that a weight says how many keys are seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from operators import Found, Operator

LEAST = np.finfo(np.float32).min


@dataclass(frozen=True)
class Inputs:
    """Arrays, what the operator is given beside them, and by what names an answer may speak of all this."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    call: dict[str, Any] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """In words; and in Regard, the arguments of `attention` or what is asked of its weights, None for nothing."""

    said: str
    same: str | None = None


@dataclass(frozen=True)
class Question:
    """`needs`: the parameters that an operator must have, or `grouped`, `scaled`, `several`."""

    title: str
    needs: tuple[str, ...]
    inputs: Callable[[Operator], Inputs]
    read: Callable[[Found, Inputs], Answer]

    def arises(self, operator: Operator) -> bool:
        has = inspect.signature(operator.attend).parameters
        kinds = ("grouped", "scaled", "several")
        return all(getattr(operator, need) if need in kinds else need in has for need in self.needs)


def equal_scores(queries: int, keys: int, heads: int = 1, groups: int | None = None, examples: int = 1) -> tuple:
    """Query, key and value of which each query sees all keys alike."""
    query = np.zeros((examples, heads, queries, keys), np.float32)
    key = np.zeros((examples, groups or heads, keys, keys), np.float32)
    return query, key, np.broadcast_to(np.eye(keys, dtype=np.float32), key.shape).copy()


def other_scores(length: int, examples: int = 1) -> tuple:
    """The same with scores of unit size."""
    rng = np.random.default_rng(0)
    query, _, value = equal_scores(length, length, examples=examples)
    return *(rng.normal(size=query.shape).astype(np.float32) for _ in range(2)), value


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def near(found: Any, expected: Any) -> bool:
    return np.shape(found) == np.shape(expected) and bool(np.allclose(found, expected, atol=1e-4))


OTHER = Answer("something else")


# What True means.


def one_true(operator: Operator) -> Inputs:
    mask = np.zeros((1, 1, 4, 4), bool)
    mask[..., 1] = True
    return Inputs(*equal_scores(4, 4), {"mask": mask}, {"mask": mask})


def meaning(found: Found, inputs: Inputs) -> Answer:
    weights, true = found.output[0, 0, 0], inputs.names["mask"][0, 0, 0]
    known = [
        (true, Answer("may see", "mask=mask")),
        (~true / 3, Answer("hidden", "mask=~mask")),
        (softmax(true.astype(float)), Answer("the number 1, which is added", "bias=mask.astype(np.float32)")),
        (np.full(4, 0.25), Answer("nothing: it is ignored", "")),
    ]
    return next((answer for expected, answer in known if near(weights, expected)), OTHER)


TRUE = Question("What a mask's True means", ("mask",), one_true, meaning)


@cache
def hides(operator: Operator) -> bool | None:
    """Whether True hides in an operator's masks; None where it has no masks of Booleans."""
    inputs = one_true(operator)
    try:
        found = operator.attend(inputs.query, inputs.key, inputs.value, **inputs.call)
    except Exception:  # whatever a library refuses it with
        return None
    return {"may see": False, "hidden": True}.get(meaning(found, inputs).said)


def masked(operator: Operator, seen: np.ndarray) -> dict[str, Any]:
    """The mask by which an operator lets be seen what is True here."""
    hidden = hides(operator)
    if hidden is None:
        raise NoMasksError
    return {"mask": seen ^ hidden}


class NoMasksError(Exception):
    """An operator takes no masks of Booleans."""


# A query that sees nothing: all queries of the second of two examples.


def second_blind() -> np.ndarray:
    seen = np.ones((2, 1, 4, 4), bool)
    seen[0, ..., 3], seen[1] = False, False
    return seen


def blind(operator: Operator) -> Inputs:
    seen = second_blind()
    return Inputs(*other_scores(4, 2), masked(operator, seen), {"seen": seen})


def blind_by(number: float) -> Callable[[Operator], Inputs]:
    def inputs(operator: Operator) -> Inputs:
        seen = second_blind()
        added = np.where(seen, 0, np.float32(number))
        return Inputs(*other_scores(4, 2), {"added": added}, {"seen": seen, "added": added})

    return inputs


EVENLY = "bias=np.where(seen, 0, np.finfo(np.float32).min)"


def emptiness(zeros: str, evenly: str) -> Callable[[Found, Inputs], Answer]:
    def read(found: Found, inputs: Inputs) -> Answer:
        output = found.output[1, 0]
        scores = inputs.query[1, 0] @ inputs.key[1, 0].T / 2
        if np.isnan(output).all():
            return Answer("NaN")
        known = [
            (np.zeros((4, 4)), Answer("0", zeros)),
            (np.full((4, 4), 0.25), Answer("the mean of all values", evenly)),
            (softmax(scores), Answer("as if it saw all", "mask=seen | ~seen.any(-1, keepdims=True)")),
        ]
        return next((answer for expected, answer in known if near(output, expected)), OTHER)

    return read


EMPTY = Question("hidden by Booleans", ("mask",), blind, emptiness("mask=seen", EVENLY))
EMPTY_INF = Question("hidden by -inf", ("added",), blind_by(-np.inf), emptiness("bias=added", EVENLY))
EMPTY_LEAST = Question("hidden by `finfo.min`", ("added",), blind_by(LEAST), emptiness("mask=added == 0", "bias=added"))


# Corners and windows.


def cornered(operator: Operator) -> Inputs:
    return Inputs(*equal_scores(4 if operator.alone else 2, 4), {"causal": True})


def corner(found: Found, inputs: Inputs) -> Answer:
    weights = found.output[0, 0]
    queries, keys = weights.shape
    if queries == keys:
        return Answer("as many keys as queries", "causal=True") if near(weights, even(0, keys)(queries)) else OTHER
    known = [
        (0, Answer("query i sees keys up to i (top left)", "mask=masks.causal_top_left()")),
        (keys - queries, Answer("query i sees keys up to i + S - T (lower right)", "causal=True")),
    ]
    return next((answer for shift, answer in known if near(weights, even(shift, keys)(queries))), OTHER)


def even(shift: int, keys: int) -> Callable[[int], np.ndarray]:
    def weights(queries: int) -> np.ndarray:
        seen = np.tri(queries, keys, shift)
        return seen / seen.sum(-1, keepdims=True)

    return weights


CAUSAL = Question("2 queries, 4 keys", ("causal",), cornered, corner)


def both(operator: Operator) -> Inputs:
    seen = np.ones((1, 1, 4, 4), bool)
    seen[..., 1] = False
    return Inputs(*equal_scores(4, 4), {"causal": True, **masked(operator, seen)}, {"seen": seen})


def which(found: Found, inputs: Inputs) -> Answer:
    seen = inputs.names["seen"][0, 0]
    known = [
        (np.tri(4) * seen, Answer("both hold", "mask=seen, causal=True")),
        (np.tri(4), Answer("the mask is ignored", "causal=True")),
        (seen, Answer("the corner is ignored", "mask=seen")),
    ]
    weights = found.output[0, 0]
    return next((answer for rule, answer in known if near(weights, rule / rule.sum(-1, keepdims=True))), OTHER)


BESIDE = Question("a mask beside it", ("causal", "mask"), both, which)
SIZE = 4


def through_a_window(operator: Operator) -> Inputs:
    return Inputs(*equal_scores(13 if operator.alone else 9, 13), {"window": SIZE})


def window(found: Found, inputs: Inputs) -> Answer:
    seen = (found.weights if found.output is None else found.output)[0, 0] > 0
    queries, keys = seen.shape
    middle = np.flatnonzero(seen[queries // 2])
    for corner, shift in (("_top_left", 0), ("", keys - queries)):
        own = queries // 2 + shift
        before, after = own - int(middle[0]), int(middle[-1]) - own
        i, j = np.ogrid[:queries, :keys]
        if before >= 0 and after >= 0 and (seen == ((j >= i + shift - before) & (j <= i + shift + after))).all():
            place = "" if queries == keys else "; query i is at key i" if corner else "; query i is at key i + S - T"
            rule = f"window{corner if queries != keys else ''}({before}, {after})"
            return Answer(f"{before} before, its own, {after} after{place}", f"mask=masks.{rule}")
    return OTHER


WINDOW = Question(f"a window of {SIZE}", ("window",), through_a_window, window)


# What is returned.


def dropped(operator: Operator) -> Inputs:
    return Inputs(*equal_scores(8, 8, operator.heads or 2), {"dropout": 0.5, "weights": True})


def when(found: Found, inputs: Inputs) -> Answer:
    weights = np.asarray(found.weights)
    if near(weights, np.full(weights.shape, 0.125)):
        return Answer("before dropout", "weights.dense()" if weights.ndim == 4 else "weights.dense().mean(-3)")
    return Answer("after dropout") if (weights == 0).any() else OTHER


WHEN = Question("before or after dropout", ("dropout", "weights"), dropped, when)


def several(operator: Operator) -> Inputs:
    return Inputs(*equal_scores(4, 4, operator.heads or 2), {"weights": True})


def of_what(found: Found, inputs: Inputs) -> Answer:
    if np.shape(found.weights) == (1, 4, 4):
        return Answer("their mean", "weights.dense().mean(-3)")
    return Answer("each head's", "weights.dense()") if np.ndim(found.weights) == 4 else OTHER


OF_HEADS = Question("of several heads", ("weights", "several"), several, of_what)


def four(operator: Operator) -> Inputs:
    return Inputs(*equal_scores(4, 4), {"logsumexp": True})


def base(found: Found, inputs: Inputs) -> Answer:
    known = [
        (np.log(4), Answer("natural", "weights.logsumexp")),
        (2.0, Answer("base 2", "weights.logsumexp / np.log(2)")),
    ]
    return next((answer for value, answer in known if near(found.logsumexp, np.full((1, 1, 4), value))), OTHER)


BASE = Question("base", ("logsumexp",), four, base)


def four_blind(operator: Operator) -> Inputs:
    return Inputs(*equal_scores(4, 4), {"logsumexp": True, **masked(operator, np.zeros((1, 1, 4, 4), bool))},
                  {"mask": np.zeros((1, 1, 4, 4), bool)})  # fmt: skip


def of_nothing(found: Found, inputs: Inputs) -> Answer:
    value = float(np.ravel(found.logsumexp)[0])
    return Answer("-inf", "weights.logsumexp") if value == -np.inf else Answer(f"{value:.2g}")


OF_NOTHING = Question("of a query that sees nothing", ("logsumexp", "mask"), four_blind, of_nothing)


# What stands between the scores and the weights.


def four_heads(operator: Operator) -> Inputs:
    query, key, value = equal_scores(4, 4, 4, 2)
    value *= np.array([1, 2], np.float32)[:, None, None]
    return Inputs(query, key, value)


def sharing(found: Found, inputs: Inputs) -> Answer:
    of_each = np.rint(4 * found.output[0, :, 0, 0]).astype(int).tolist()
    if of_each == [1, 1, 2, 2]:
        return Answer("neighbours: head h reads h // (H / G)", "")
    turned = "key=np.tile(key, (1, 2, 1, 1)), value=np.tile(value, (1, 2, 1, 1))"
    return Answer("heads in turns: head h reads h % G", turned) if of_each == [1, 2, 1, 2] else OTHER


GROUPS = Question("4 query heads, 2 key heads", ("grouped",), four_heads, sharing)


def capped(operator: Operator) -> Inputs:
    added = np.random.default_rng(1).normal(size=(1, 1, 4, 4)).astype(np.float32)
    call = {"softcap": 0.5, "added": added}
    return Inputs(*other_scores(4), call, call)


def order(found: Found, inputs: Inputs) -> Answer:
    scores, added = inputs.query @ inputs.key.swapaxes(-1, -2) / 2, inputs.names["added"]
    known = [
        (
            0.5 * np.tanh(scores / 0.5) + added,
            Answer("first the cap, then mask or bias", "softcap=softcap, bias=added"),
        ),
        (0.5 * np.tanh((scores + added) / 0.5), Answer("first the bias, then the cap")),
    ]
    return next((answer for each, answer in known if near(found.output, softmax(each))), OTHER)


CAP = Question("the order", ("softcap", "added"), capped, order)


def sunk(operator: Operator) -> Inputs:
    sinks = np.array([2], np.float32)
    return Inputs(*equal_scores(4, 4), {"sinks": sinks}, {"sinks": sinks})


def rest(found: Found, inputs: Inputs) -> Answer:
    share = 4 / (4 + np.exp(2))
    return Answer("n / (n + exp(sink)), for n equal scores of 0", "sinks=sinks") if near(
        found.output.sum(-1), np.full((1, 1, 4), share)
    ) else OTHER  # fmt: skip


SINK = Question("what a row sums to", ("sinks",), sunk, rest)


def as_they_are(operator: Operator) -> Inputs:
    return Inputs(*other_scores(4))


def factor(found: Found, inputs: Inputs) -> Answer:
    scores = inputs.query @ inputs.key.swapaxes(-1, -2)
    known = [(0.5, Answer("1 / sqrt(D)", "")), (1.0, Answer("1", "scale=1.0"))]
    return next((answer for scale, answer in known if near(found.output, softmax(scale * scores))), OTHER)


SCALE = Question("if none is given", ("scaled",), as_they_are, factor)

# The page: a heading, what is asked, and the questions, each with a table.
SECTIONS: list[tuple[str, str, tuple[Question, ...]]] = [
    ("A query that sees nothing", "Its output, all keys being hidden.", (EMPTY, EMPTY_INF, EMPTY_LEAST)),
    ("Masks", "", (TRUE,)),
    ("The causal corner", "Where there are other numbers of queries (T) and keys (S).", (CAUSAL, BESIDE)),
    ("Windows", "Which keys a query sees through the operator's own window.", (WINDOW,)),
    ("Weights that are returned", "", (WHEN, OF_HEADS)),
    ("Grouped heads", "Which of G key heads each of H query heads reads.", (GROUPS,)),
    ("Soft caps", "c tanh(score / c), and what else is done to a score.", (CAP,)),
    ("Sinks", "A score more in the sum, which has no value.", (SINK,)),
    ("Log-sum-exps", "", (BASE, OF_NOTHING)),
    ("The scale", "", (SCALE,)),
]  # fmt: skip


def questions() -> Iterator[tuple[str, Question]]:
    """Every question under the name that it has in the data."""
    for heading, _, asked in SECTIONS:
        yield from ((f"{heading}: {question.title}", question) for question in asked)
