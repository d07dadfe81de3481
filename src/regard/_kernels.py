"""Which kernel computes an attention, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard import _compiled
from regard._asking import Asked
from regard._backends.protocol import Array, Backend
from regard._blockwise import Attend, Scores
from regard._layout import Operand
from regard._problem import Problem
from regard._questions import Question
from regard.errors import UnsupportedError

ONE_TILE = 1 << 19  # scores, from which on it pays to share them out
NAMES = ("auto", "fused", "blockwise", "compiled")


@dataclass(frozen=True)
class Choice:
    """A kernel by name, and the reason for it."""

    name: str
    reason: str


def choose(asked: str, problem: Problem, value: Operand, drop: Any, asks: bool = False) -> Choice:
    """The kernel asked for; under "auto" the fused one wherever it can do what is asked, else the compiled pass.

    Where questions are asked on the way, the compiled pass comes first, and gradients of all together are its own.

    Raises:
        UnsupportedError: The kernel asked for cannot do this.
    """
    if asked == "blockwise":
        return Choice("blockwise", "asked for")
    if asked == "compiled":
        return _compiled_choice(problem, value, drop)
    obstacle = _obstacle(problem, value, drop)
    if asked == "fused" and obstacle is not None:
        raise UnsupportedError(
            f"attention: need a case that the fused kernel of {problem.xp.name} can do; got {obstacle}; "
            "use kernel='auto' or kernel='blockwise'."
        )
    if asked == "fused" or (obstacle is None and not asks):
        return Choice("fused", reason(asked, problem.xp))
    against = _compiled.obstacle(problem, value, drop) or _compiled.reluctance(
        math.prod(problem.layout.space), problem.dtype
    )
    if against is not None and obstacle is None:
        return Choice("fused", reason(asked, problem.xp))
    return _unfused(obstacle, against)


def _unfused(obstacle: str | None, against: str | None) -> Choice:
    """The compiled pass or blocks, by what speaks against the former; `obstacle` kept the fused kernel from it."""
    if against is None:
        return Choice("compiled", "questions on the way" if obstacle is None else f"not fused: {obstacle}")
    hint = f"; {against}" if against == _compiled.NOT_YET else ""
    return Choice("blockwise", f"not fused: {obstacle}{hint}")


def at_once(xp: Any, query: Array, key: Array, value: Array, scale: float | None) -> tuple[Array, Array, Choice] | None:
    """Output `(..., T, E)`, log-sum-exp in parts `(..., T, 2)` and the kernel, of few plain scores of NumPy; else None.

    Without blocks and all that plans them, which takes longer than such an attention.
    """
    if not _in_one_tile(query, key, value):
        return None
    *lead, rows, width = query.shape
    against = _compiled.reluctance(math.prod(lead) * rows * key.shape[-2], query.dtype.name)
    choice = _unfused(xp.fused_obstacle(None, None), against)
    factor = 1 / math.sqrt(width) if scale is None else scale
    operands = query.reshape(*lead, 1, rows, 1, width), key[..., None, None, :, :], value[..., None, None, :, :]
    nowhere: Any = None  # no rule asks where the tile lies
    with xp.quiet():
        if choice.name == "compiled":
            output, parts = _compiled.at_once(*operands, factor)
        else:
            output, parts = Attend(Scores(factor))(xp, operands, nowhere, False)
    return output.reshape(*lead, rows, -1), parts.reshape(*lead, rows, 2), choice


def _in_one_tile(query: Array, key: Array, value: Array) -> bool:
    """Whether these are arrays of NumPy, of one type and the same heads, that fit together in one tile."""
    if not type(query) is type(key) is type(value) is np.ndarray or not query.dtype == key.dtype == value.dtype:
        return False
    if (
        query.dtype.str[1:] not in ("f4", "f8")
        or not query.dtype.isnative
        or not query.ndim == key.ndim == value.ndim > 1
    ):
        return False
    *lead, rows, width = query.shape
    return (
        (*lead, width) == (*key.shape[:-2], key.shape[-1])
        and key.shape[:-1] == value.shape[:-1]
        and 0 not in query.shape + key.shape + value.shape
        and math.prod(lead) * rows * key.shape[-2] < ONE_TILE
    )


def _compiled_choice(problem: Problem, value: Operand, drop: Any) -> Choice:
    obstacle = _compiled.obstacle(problem, value, drop)
    if obstacle is not None:
        raise UnsupportedError(
            f"attention: need a case that the compiled pass can do; got {obstacle}; use kernel='auto'."
        )
    return Choice("compiled", "asked for")


def reason(asked: str, xp: Backend) -> str:
    return "asked for" if asked == "fused" else xp.fused_name


def _obstacle(problem: Problem, value: Operand, drop: Any) -> str | None:
    """What keeps the framework's fused kernel from computing this, or None."""
    if drop is not None:
        return "dropout"
    if problem.scores.softcap is not None:
        return "softcap"
    if problem.empty or 0 in (problem.query.array.shape[-1], value.array.shape[-1]):
        return "an axis of size 0"
    return problem.xp.fused_obstacle(problem, value)


def run(
    choice: Choice, problem: Problem, value: Operand, drop: Any, seed: Any, asked: Sequence[Asked] = ()
) -> tuple[Array, Array | None, dict[Question, Any]]:
    """Output `(*lead, R, T, 1, E)`, log-sum-exp in parts or in one, None where it is yet to be computed, and answers.

    Only our own kernel gives it in parts, `(*lead, R, T, 1, 2)`, and answers questions on the way.
    """
    if choice.name != "fused":
        questions = [each.question for each in asked]
        extras = [extra for each in asked for extra in each.extras]
        output, parts, *found = problem.attend(value, drop, seed, questions, extras)
        answers = problem.known(questions, extras, found) if questions else []
        return output, parts, dict(zip(questions, answers, strict=True))
    output, logsumexp = problem.xp.fused(problem, value)
    return output, exact(problem, logsumexp), {}


def exact(problem: Problem, logsumexp: Array | None) -> Array | None:
    """A fused kernel's log-sum-exp, or None where it is not good enough to make weights from.

    In half precision it is no better than the output (5e-5 off, by a fast exponential), and weights that are asked
    about are made from one of float32.
    """
    half = problem.xp.dtype_name(problem.query.array) in ("float16", "bfloat16")
    return None if half else logsumexp
