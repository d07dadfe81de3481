"""The compiled pass: sweeps in loops that Numba compiles, for arrays that lie in a processor's own memory.

The contract:

- `run(sweep, operands)` gives the results of a sweep as arrays of its framework, or None where the framework's own way
  is to be gone. They are those that that way gives, to rounding.
- `at_once(query, key, value, scale)` gives output and log-sum-exp of plain scores in one tile.
- `obstacle(problem, value, drop)` says why an attention cannot be computed so, or None; `reluctance(scores, dtype)` why
  it had better not be now.
- `compile()` compiles the loops, once on a machine. A library call compiles only what `kernel="compiled"` asks for.

`units` cuts a sweep into pieces of work, `threads` shares them out, `tiles` evaluates a block by the `loops`, `answers`
has the questions, `gradients` a block's gradients, and `store` knows what is compiled. Only `loops`, and what imports
them, import Numba.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from regard._backends.protocol import Array
from regard._blockwise import Pullback
from regard._compiled import store
from regard._compiled.store import compile

__all__ = ["at_once", "compile", "obstacle", "reluctance", "run"]

FRAMEWORKS = ("numpy", "torch")
NOT_YET = "not compiled yet, see regard.compile"
NOT_HERE = "no Numba; pip install 'regard[fast]'"
FEWEST = 1 << 16  # scores, below which the way through Python takes the time


def run(sweep: Any, operands: Sequence[Array]) -> tuple[Array, ...] | None:
    """The results of a sweep, or None where it is not for this pass."""
    xp, forced = sweep.xp, sweep.kernel == "compiled"
    if sweep.kernel == "blockwise" or xp.name not in FRAMEWORKS or sweep.grid.blocks is None:
        return None
    if xp.concrete(operands[0]) is None or not store.installed():  # in this order: compilers trace no look at a disk
        return None
    dtype = xp.dtype_name(operands[0])
    if not forced and (sum(math.prod(block.sizes) for block in sweep.grid.blocks) < FEWEST or not store.ready(dtype)):
        return None
    arrays = [xp.concrete(operand) for operand in operands]
    if any(array is None for array in arrays):
        return None
    from regard._compiled import gradients, tiles

    differentiates = isinstance(sweep.function, Pullback)
    evaluate = (gradients if differentiates else tiles).evaluator(sweep.function)
    if evaluate is None:
        return None
    return tuple(xp.from_memory(result) for result in tiles.swept(sweep, evaluate, arrays))


def at_once(query: Array, key: Array, value: Array, scale: float) -> tuple[Array, Array]:
    """Output and log-sum-exp of plain scores in one tile, all in block space."""
    from regard._compiled import tiles

    return tiles.at_once(query, key, value, scale)


def obstacle(problem: Any, value: Any, drop: Any) -> str | None:
    """What keeps the pass from computing an attention, or None."""
    xp = problem.xp
    if xp.name not in FRAMEWORKS:
        return f"arrays of {xp.name}, which has a compiler of its own"
    if drop is not None:
        return "dropout"
    if not all(isinstance(size, int) for size in problem.layout.space):
        return "sizes that a graph does not know yet"
    arrays = [operand.array for operand in (problem.query, problem.key, value, *problem.leaves)]
    if any(xp.concrete(array) is None for array in arrays):
        return "arrays that are not in the processor's memory, or not known yet"
    if not store.installed():
        return NOT_HERE
    if problem.scores.mask is not None and problem.spoiled(value):
        return "values that are not finite, under a mask"
    return None


def reluctance(scores: int, dtype: str) -> str | None:
    """What speaks against the pass where nobody asked for it by name, or None."""
    if scores < FEWEST:
        return "few scores"
    if not store.installed():
        return NOT_HERE
    return None if store.ready(dtype) else NOT_YET
