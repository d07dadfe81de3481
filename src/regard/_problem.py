"""One attention, ready to be computed: arrays in block space, the rules, the blocks; and what computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regard import _plan
from regard._backends.protocol import Array, Backend
from regard._blockwise import Attend, Drop, Output, Reattend, Scores, Sweep, differentiable, gradients
from regard._layout import Layout, Operand
from regard._questions import Ask, AttendAndAsk, Question


@dataclass(frozen=True)
class Problem:
    """Query, key and the rules' arrays in block space; with these and the log-sum-exp, every weight is known."""

    xp: Backend
    layout: Layout
    scores: Scores
    query: Operand
    key: Operand
    leaves: tuple[Operand, ...] = ()
    given: str = "float32"  # the type that the caller's arrays have

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

    def output_specs(self, width: Any) -> tuple[Output, Output]:
        rows = self.layout.axes(True, False)
        shape = self.rows_shape
        return Output((*shape, width), rows, self.dtype), Output(shape, rows, self.dtype, optional=True)

    def sweep(self, function: Any, operands: Sequence[Operand], outputs: Sequence[Output], grid: Any) -> Sweep:
        return Sweep(self.xp, function, grid, tuple(operand.axes for operand in operands), tuple(outputs))

    def attend(
        self, value: Operand, drop: Drop | None = None, seed: Operand | None = None, questions: Sequence[Question] = ()
    ) -> tuple[Array, ...]:
        """Output `(*lead, R, T, 1, E)` and log-sum-exp `(*lead, R, T, 1)`, with gradients for all operands.

        Behind them, without gradients, what comes of `questions` that have no operands, for `answered`.
        """
        xp = self.xp
        if self.empty:
            output, logsumexp = self.output_specs(xp.shape(value.array)[-1])
            nothing = xp.zeros(output.shape, self.dtype, self.query.array)
            before = xp.zeros(logsumexp.shape, self.dtype, self.query.array) - math.inf
            return nothing, before, *self._nothing(questions)
        operands = self._with(value, *([] if seed is None else [seed]))
        careful = self.scores.mask is not None and self.spoiled(value)
        attend = Attend(self.scores, drop, careful)
        sweep = both = self._sweep(attend, operands, value)
        if questions:
            outputs = (*sweep.outputs, *self._outputs(questions))
            both = replace(sweep, function=AttendAndAsk(attend, tuple(questions)), outputs=outputs)

        def pull(arrays: Any, results: Any, cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
            return self._pull(sweep, drop, arrays, results[:2], cotangents[:2], wanted)

        arrays = tuple(operand.array for operand in operands)
        output, logsumexp, *found = xp.differentiable(lambda arrays: xp.sweep(both, arrays), pull, arrays)
        return output, logsumexp, *map(xp.stop_gradient, found)

    def gradients(
        self, value: Operand, output: Array, logsumexp: Array, of_output: Any, of_logsumexp: Any, wanted: Sequence[bool]
    ) -> tuple:
        """What a fused kernel's results' cotangents give for query, key, value and the rules' arrays, by blocks."""
        operands = self._with(value)
        sweep = self._sweep(Attend(self.scores), operands, value)
        arrays = tuple(operand.array for operand in operands)
        of_query, of_key, of_value, *of_leaves = wanted
        found = self._pull(
            sweep, None, arrays, (self.xp.cast(output, self.dtype), logsumexp),
            (None if of_output is None else self.xp.cast(of_output, self.dtype), of_logsumexp),
            (of_query, of_key, *of_leaves, of_value),
        )  # fmt: skip
        found = (*found[:2], found[-1], *found[2:-1])
        given = (self.query, self.key, value, *self.leaves)
        return tuple(
            None if gradient is None else self.xp.cast(gradient, self.xp.dtype_name(operand.array))
            for gradient, operand in zip(found, given, strict=True)
        )

    def _with(self, value: Operand, *extras: Operand) -> list[Operand]:
        return [*self.operands, *extras, self._accumulated(value)]

    def _sweep(self, function: Any, operands: Sequence[Operand], value: Operand) -> Sweep:
        return self.sweep(function, operands, self.output_specs(self.xp.shape(value.array)[-1]), self.grid())

    def spoiled(self, value: Operand) -> bool:
        """Whether inf or NaN is among the values, or may be."""
        known = self.xp.concrete(value.array)
        with np.errstate(over="ignore", invalid="ignore"):
            return known is None or not math.isfinite(np.sum(known, dtype=np.float64))

    def _pull(
        self, sweep: Sweep, drop: Any, arrays: Any, results: Any, cotangents: Sequence[Any], wanted: Sequence[bool]
    ) -> tuple:
        """See `Reattend`: D = sum(dO * O), and the cotangents are (dO, dL - D)."""
        xp = self.xp
        output, logsumexp = results
        of_output, of_logsumexp = cotangents
        of_sum = None
        if of_output is not None:
            of_sum = -xp.reshape(xp.sum(of_output * output, -1), xp.shape(logsumexp))
        if of_logsumexp is not None:
            of_sum = of_logsumexp if of_sum is None else of_sum + of_logsumexp
        again = replace(
            sweep,
            function=Reattend(self.scores, drop),
            operand_axes=(*sweep.operand_axes, sweep.outputs[1].axes),
        )
        found = gradients(again, (*arrays, logsumexp), (*wanted, False), (of_output, of_sum))
        return found[: len(arrays)]

    def logsumexp(self) -> Array:
        """The log-sum-exp alone, `(*lead, R, T, 1)`."""
        return self.attend(self.key)[1]

    def connected(self, logsumexp: Array) -> Array:
        """The log-sum-exp with gradients for query, key and the rules' arrays, also if it came without."""
        xp = self.xp
        if xp.has_gradient(logsumexp):
            return logsumexp
        operands = self._with(self.key)

        def pull(arrays: Any, results: Any, cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
            sweep = self._sweep(Attend(self.scores), operands, self.key)
            return self._pull(sweep, None, arrays, (None, *results), (None, *cotangents), wanted)

        arrays = tuple(operand.array for operand in operands)
        return xp.differentiable(lambda arrays: (xp.stop_gradient(logsumexp),), pull, arrays)[0]

    def ask(self, logsumexp: Array, questions: Sequence[Question], extras: Sequence[Operand]) -> list[Any]:
        """The answers, as the caller counts axes, in one pass."""
        if self.empty:
            return self._answers(questions, self._nothing(questions))
        sweep, operands = self._asking(logsumexp, questions, extras)
        return self._answers(questions, differentiable(sweep, tuple(operand.array for operand in operands)))

    def answered(self, logsumexp: Array, questions: Sequence[Question], results: Sequence[Array]) -> list[Any]:
        """What `attend` found for questions, as the caller counts axes, with the gradients that `ask` would give."""
        if self.empty:
            return self._answers(questions, results)
        sweep, operands = self._asking(logsumexp, questions, [])
        count = len(operands)

        def pull(arrays: Any, _: Any, cotangents: Sequence[Any], wanted: Sequence[bool]) -> tuple:
            found = gradients(sweep, arrays[:count], wanted[:count], cotangents)
            return (*found, *(None for _ in results))

        def known(arrays: Any) -> tuple:
            return tuple(self.xp.stop_gradient(array) for array in arrays[count:])

        arrays = (*(operand.array for operand in operands), *results)
        return self._answers(questions, self.xp.differentiable(known, pull, arrays))

    def _asking(
        self, logsumexp: Array, questions: Sequence[Question], extras: Sequence[Operand]
    ) -> tuple[Sweep, list[Operand]]:
        least = max([1, *(getattr(question, "count", 1) for question in questions)])
        along = self.layout.operand(self.xp, logsumexp)
        operands = [*self.operands, along, *(self._accumulated(extra) for extra in extras)]
        function, grid = Ask(self.scores, tuple(questions)), self.grid(least_width=least)
        return self.sweep(function, operands, self._outputs(questions), grid), operands

    def _outputs(self, questions: Sequence[Question]) -> list[Output]:
        return [output for question in questions for output in question.outputs(self.layout, self.dtype)]

    def _nothing(self, questions: Sequence[Question]) -> list[Array]:
        """What comes of questions where there are no weights."""
        return [
            self.xp.zeros(output.shape, output.dtype_name, self.query.array) + output.nothing
            for output in self._outputs(questions)
        ]

    def _answers(self, questions: Sequence[Question], results: Sequence[Array]) -> list[Any]:
        answers, taken = [], 0
        for question in questions:
            several = len(question.outputs(self.layout, self.dtype))
            answers.append(question.answer(self.xp, self.layout, results[taken : taken + several]))
            taken += several
        return answers
