"""Which kernel computes an attention, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regard import _compiled
from regard._asking import Asked
from regard._backends.protocol import Array, Backend
from regard._layout import Operand
from regard._problem import Problem
from regard._questions import Question
from regard.errors import UnsupportedError

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
    against = _compiled.obstacle(problem, value, drop) or _compiled.reluctance(problem)
    if against is None:
        return Choice("compiled", "questions on the way" if obstacle is None else f"not fused: {obstacle}")
    if obstacle is None:
        return Choice("fused", reason(asked, problem.xp))
    hint = f"; {against}" if against == _compiled.NOT_YET else ""
    return Choice("blockwise", f"not fused: {obstacle}{hint}")


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
