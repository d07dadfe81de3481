"""One attention, ready to be computed: arrays in block space, the rules, the blocks; and what computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regard import _compiled, _plan
from regard._backends.protocol import Array, Backend
from regard._blockwise import Attend, Drop, Output, Scores, Sweep, gradients, in_parts
from regard._layout import Layout, Operand
from regard._questions import Ask, AttendAndAsk, LogSumExp, Question


@dataclass(frozen=True)
class Problem:
    """Query, key and the rules' arrays in block space; with these, every weight is known."""

    xp: Backend
    layout: Layout
    scores: Scores
    query: Operand
    key: Operand
    leaves: tuple[Operand, ...] = ()
    given: str = "float32"  # the type that the caller's arrays have
    share: Operand | None = None  # log of what sinks leave of each row's sum, `(*lead, R, T, 1)`
    kernel: str = "auto"  # what the caller asked for by name

    @property
    def dtype(self) -> str:
        """What is computed in: at least float32."""
        return "float64" if self.xp.dtype_name(self.query.array) == "float64" else "float32"

    @property
    def operands(self) -> list[Operand]:
        """In the type that is computed in; whole numbers and booleans as they are.

        Not kept: what was cast where gradients were off would be without them where they are on.
        """
        return [self._accumulated(operand) for operand in (self.query, self.key, *self.leaves)]

    def _accumulated(self, operand: Operand) -> Operand:
        return replace(operand, array=self.accumulated(operand.array))

    def accumulated(self, array: Array) -> Array:
        """An array of floating point in the type that is computed in; others as they are."""
        found = self.xp.dtype_name(array)
        return array if "float" not in found or found == self.dtype else self.xp.cast(array, self.dtype)

    def of(self, arrays: Sequence[Array]) -> Problem:
        """The same of other arrays: query, key, values (which are no part of it) and the rules' leaves."""
        query, key, _, *leaves = arrays
        return replace(
            self,
            query=replace(self.query, array=query),
            key=replace(self.key, array=key),
            leaves=tuple(replace(old, array=new) for old, new in zip(self.leaves, leaves, strict=True)),
        )

    @property
    def empty(self) -> bool:
        return any(isinstance(size, int) and size == 0 for size in self.layout.space)

    @property
    def mask_leaves(self) -> tuple[Operand, ...]:
        before = 0 if self.scores.bias is None else self.scores.bias.leaves
        return self.leaves[before:]

    def grid(self, **limits: Any) -> Any:
        return _plan.grid(self.xp, self.layout, self.scores.mask, self.mask_leaves, **limits)

    @property
    def rows_shape(self) -> tuple:
        """`(*lead, R, T, 1)`: one number for each query."""
        return (*self.layout.lead, self.layout.repeats, self.layout.queries, 1)

    def sweep(self, function: Any, operands: Sequence[Operand], outputs: Sequence[Output], grid: Any) -> Sweep:
        axes = tuple(operand.axes for operand in operands)
        return Sweep(self.xp, function, grid, axes, tuple(outputs), self.kernel, _compiled.run)

    def attend(
        self,
        value: Operand,
        drop: Drop | None = None,
        seed: Operand | None = None,
        questions: Sequence[Question] = (),
        extras: Sequence[Operand] = (),
    ) -> tuple[Array, ...]:
        """Output `(*lead, R, T, 1, E)` and log-sum-exp in parts `(*lead, R, T, 1, 2)`, with gradients for all operands.

        Behind them what comes of `questions` and their operands, for `known`: without gradients, unless the kernel is
        the compiled pass, whose gradients of all together take one pass.
        """
        sweep, operands = self._attending(value, drop, seed, _widest(questions))
        both, own = sweep, len(operands)
        if questions:
            beside = [self._accumulated(extra) for extra in extras]
            outputs = (*sweep.outputs, *self._outputs(questions))
            axes = (*sweep.operand_axes, *(operand.axes for operand in beside))
            attend: Any = sweep.function
            function = AttendAndAsk(attend, tuple(questions))
            both, operands = replace(sweep, function=function, outputs=outputs, operand_axes=axes), operands + beside

        def pull(arrays: Any, cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
            if self._connects and any(cotangent is not None for cotangent in cotangents[2:]):
                return gradients(_in_verbs(both), arrays, wanted, cotangents)
            found = gradients(_in_verbs(sweep), arrays[:own], wanted[:own], cotangents[:2])
            return (*found, *(None for _ in arrays[own:]))

        return self.xp.differentiable(both, pull, tuple(operand.array for operand in operands))

    @property
    def _connects(self) -> bool:
        """Whether what questions on the way come to has gradients by the way."""
        return self.kernel == "compiled"

    def gradients(self, value: Operand, cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
        """What the cotangents of output and log-sum-exp give for query, key, value and the rules' arrays, by blocks."""
        xp = self.xp
        sweep, operands = self._attending(value)
        of_output, of_logsumexp = cotangents
        of_query, of_key, of_value, *of_leaves = wanted
        found = gradients(
            _in_verbs(sweep),
            tuple(operand.array for operand in operands),
            (of_query, of_key, *of_leaves, of_value),
            (
                None if of_output is None else xp.cast(of_output, self.dtype),
                None if of_logsumexp is None else in_parts(xp, of_logsumexp, of_logsumexp),
            ),
        )
        found = (*found[:2], found[-1], *found[2:-1])
        given = (self.query, self.key, value, *self.leaves)
        return tuple(
            None if gradient is None else xp.cast(gradient, xp.dtype_name(operand.array))
            for gradient, operand in zip(found, given, strict=True)
        )

    def _attending(
        self, value: Operand, drop: Drop | None = None, seed: Operand | None = None, least_width: int = 1
    ) -> tuple[Sweep, list[Operand]]:
        operands = [*self.operands, *([] if seed is None else [seed]), self._accumulated(value)]
        careful = self.scores.mask is not None and self.spoiled(value)
        rows, shape = self.layout.axes(True, False), self.rows_shape
        outputs = [
            Output((*shape, self.xp.shape(value.array)[-1]), rows, self.dtype),
            Output((*shape, 2), rows, self.dtype, nothing=-math.inf, optional=True),
        ]
        grid = self.grid(least_width=least_width)
        return self.sweep(Attend(self.scores, drop, careful), operands, outputs, grid), operands

    def spoiled(self, value: Operand) -> bool:
        """Whether inf or NaN is among the values, or may be."""
        known = self.xp.concrete(value.array)
        if known is None:
            return True
        with np.errstate(over="ignore", invalid="ignore"):
            return not math.isfinite(np.sum(known, dtype=np.float64))

    def ask(self, questions: Sequence[Question], extras: Sequence[Operand] = ()) -> list[Any]:
        """The answers, as the caller counts axes, in one pass."""
        run, pull, operands = self._asking(questions, extras)
        arrays = tuple(operand.array for operand in operands)
        return self._answers(questions, self.xp.differentiable(run, pull, arrays))

    def known(self, questions: Sequence[Question], extras: Sequence[Operand], results: Sequence[Array]) -> list[Any]:
        """What came of questions on the way, as the caller counts axes, with the gradients that `ask` would give."""
        if self._connects:
            return self._answers(questions, results)
        run, pull, operands = self._asking(questions, extras)
        arrays = tuple(operand.array for operand in operands)
        return self._answers(questions, self.xp.tied(results, run, pull, arrays))

    def connected(self, logsumexp: Array) -> Array:
        """A log-sum-exp, in one number or in parts, with gradients for query, key and the rules' arrays."""
        xp = self.xp
        if xp.has_gradient(logsumexp):
            return logsumexp
        run, pull, operands = self._asking([LogSumExp()], ())
        one = xp.shape(logsumexp)[-1] == 1

        def pull_one(arrays: Any, cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
            given = cotangents[0]
            return pull(arrays, (xp.concatenate([given, given], -1),), wanted)

        return xp.tied([logsumexp], run, pull_one if one else pull, tuple(operand.array for operand in operands))[0]

    def _asking(
        self, questions: Sequence[Question], extras: Sequence[Operand]
    ) -> tuple[Callable, Callable, list[Operand]]:
        share = [] if self.share is None else [self.share]
        operands = [*self.operands, *share, *(self._accumulated(extra) for extra in extras)]
        function = Ask(self.scores, tuple(questions), bool(share))
        sweep = self.sweep(function, operands, self._outputs(questions), self.grid(least_width=_widest(questions)))

        def pull(arrays: Any, cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
            return gradients(sweep, arrays, wanted, cotangents)

        return sweep, pull, operands

    def _outputs(self, questions: Sequence[Question]) -> list[Output]:
        return [output for question in questions for output in question.outputs(self.layout, self.dtype)]

    def _answers(self, questions: Sequence[Question], results: Sequence[Array]) -> list[Any]:
        answers, taken = [], 0
        for question in questions:
            several = len(question.outputs(self.layout, self.dtype))
            answers.append(question.answer(self.xp, self.layout, results[taken : taken + several]))
            taken += several
        return answers


def _widest(questions: Sequence[Question]) -> int:
    """How many keys a tile has at least, for questions to find as many as they ask for."""
    return max([1, *(getattr(question, "count", 1) for question in questions)])


def _in_verbs(sweep: Sweep) -> Sweep:
    """An attention to be differentiated."""
    function: Any = sweep.function
    return replace(sweep, function=function.differentiated())
