"""Which kernel, which blocks, and why."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from regard._backends.protocol import Backend
from regard._blockwise import Block
from regard._layout import Layout, Operand
from regard._rules import Span

TILE_BYTES = {"numpy": 4 << 20, "torch": 4 << 20, "jax": 2 << 20, "tensorflow": 8 << 20}
SHORT = 1 << 18  # scores of one example that are computed at once, whatever else there is
FEWEST_ROWS, NARROW_ROWS = 16, 64
WIDTHS = 16  # of blocks, as many at most where sizes are not known
MOST_ROWS = {"numpy": 512, "torch": 256, "jax": 256, "tensorflow": 512}

# Python's own, where all is known: NumPy's become tensors under `torch.compile`.
_NUMBERS: Any = SimpleNamespace(maximum=max, minimum=min)


@dataclass(frozen=True)
class Rows:
    """Some consecutive queries and the span of keys that they may see."""

    start: int
    size: int
    low: int
    width: int
    masked: bool


@dataclass(frozen=True)
class Grid:
    """All blocks: the chunks of each leading axis, and the rows of each chunk (chunks in row-major order)."""

    lead_spans: tuple[tuple[tuple[int, int], ...], ...]
    repeats: int
    rows: tuple[tuple[Rows, ...], ...]
    keys: int
    shift: int
    blocks: tuple[Block, ...] = field(init=False, compare=False)  # no cached property: its lock stops `torch.compile`

    def __post_init__(self) -> None:
        chunks = itertools.product(*self.lead_spans)
        blocks = tuple(
            Block(
                (*(start for start, _ in chunk), 0, rows.start, rows.low),
                (*(size for _, size in chunk), self.repeats, rows.size, rows.width),
                rows.masked,
            )
            for chunk, several in zip(chunks, self.rows, strict=True)
            for rows in several
        )
        object.__setattr__(self, "blocks", blocks)

    @property
    def empty(self) -> bool:
        return self.keys == 0 or len(self.blocks) == 0

    @property
    def whole(self) -> bool:
        """Whether there is one block, which is everything."""
        return len(self.blocks) == 1 and self.blocks[0].sizes[-1] == self.keys


@dataclass(frozen=True)
class DynamicGrid:
    """Blocks of `size` rows, where the lengths are known only as a graph runs."""

    xp: Any
    layout: Layout
    mask: Any
    size: Any
    blocks = None
    empty = False  # for all that is known

    @property
    def lead_spans(self) -> tuple:
        return tuple(((0, size),) for size in self.layout.lead)

    @property
    def shift(self) -> Any:
        return self.layout.shift

    @property
    def whole(self) -> bool:
        """Whether one block is everything, for all that is known."""
        return isinstance(self.size, int) and self.size == self.layout.queries

    @property
    def everything(self) -> Block:
        return Block((0,) * len(self.layout.space), self.layout.space, self.mask is not None)

    @property
    def count(self) -> Any:
        return (self.layout.queries + self.size - 1) // self.size

    def block(self, number: Any) -> Block:
        """One of rows, of few widths: something is kept for each."""
        layout, start = self.layout, number * self.size
        stop, low, high = self._seen(start)
        if self.mask is not None:
            step = self.xp.maximum(self._widest // WIDTHS, 1)
            width = self.xp.minimum((high - low + step - 1) // step * step, layout.keys)
            low = self.xp.minimum(low, layout.keys - width)
            high = low + width
        return Block(
            (*(0 for _ in layout.lead), 0, start, low),
            (*layout.lead, layout.repeats, stop - start, high - low),
            self.mask is not None,
        )

    @property
    def _widest(self) -> Any:
        """How many keys the widest block sees, of the first, the middle and the last."""
        widths = [high - low for _, low, high in map(self._seen, self._starts)]
        return functools.reduce(self.xp.maximum, widths)

    @property
    def _starts(self) -> tuple:
        last = self.count - 1
        return 0, last // 2 * self.size, last * self.size

    def _seen(self, start: Any) -> tuple[Any, Any, Any]:
        """Where rows from `start` on stop, and the keys that they may see: from and to."""
        layout, xp = self.layout, self.xp
        stop = xp.minimum(start + self.size, layout.queries)
        if self.mask is None:
            return stop, 0, layout.keys
        span = Span(start, stop, layout.shift, layout.keys)
        low, high = self.mask.bounds(xp, span, [None] * self.mask.leaves)
        low = xp.minimum(xp.maximum(low, 0), layout.keys - 1)
        return stop, low, xp.maximum(high, low + 1)


def grid(
    xp: Backend, layout: Layout, mask: Any, leaves: Sequence[Operand],
    least_width: int = 1, budget: int | None = None, most_rows: int | None = None, together: bool = False,
) -> Any:  # fmt: skip
    """The blocks of one attention: tiles that stay in the processor's cache, without what no query may see.

    A block is at least `least_width` keys wide, and its tile at most `budget` numbers and `most_rows` high, where
    that can be. With `together`, no block is of a part of the leading axes.
    """
    budget, most_rows = budget or TILE_BYTES[xp.name] // 4, most_rows or MOST_ROWS[xp.name]
    if not all(isinstance(size, int) for size in layout.space):
        if _short(layout):
            return DynamicGrid(xp, layout, mask, layout.queries)
        size = budget // xp.maximum(_product(layout.lead) * layout.repeats * layout.keys, 1)
        size = xp.minimum(xp.maximum(size, FEWEST_ROWS), most_rows)
        return DynamicGrid(xp, layout, mask, xp.minimum(size, xp.maximum(layout.queries, 1)))
    if layout.queries > NARROW_ROWS:
        layout = _fixed(layout)
    known = [xp.concrete(leaf.array) for leaf in leaves]
    # Rows as many as the keys that one of them sees: a tile of a narrow window is then at least half full.
    most_rows = min(most_rows, max(NARROW_ROWS, _widest(layout, mask, leaves, known, 1)))
    width = _widest(layout, mask, leaves, known, most_rows)
    if together:
        chunk, size = tuple(layout.lead), _rows_within(budget, layout, layout.lead, width, most_rows)
    else:
        chunk, size = _sizes(layout, width, budget, most_rows, _ragged(layout, leaves, known))
    lead_spans = tuple(
        tuple((start, min(step, total - start)) for start in range(0, total, step))
        for total, step in zip(layout.lead, chunk, strict=True)
    )
    rows = [
        _rows(layout, size, mask, shares_of(leaves, known, part), least_width)
        for part in itertools.product(*lead_spans)
    ]
    if xp.keeps_shapes():
        rows = _fewer_widths(layout, rows)
    return Grid(lead_spans, layout.repeats, tuple(rows), layout.keys, layout.shift)


def _fixed(layout: Layout) -> Layout:
    """The same of sizes that are numbers: where `torch.compile` leaves them open, it would reason about each block's.

    So it compiles once for each length, of those that may take more than one block.
    """
    *lead, repeats, queries, keys = map(operator.index, layout.space)
    return replace(layout, lead=tuple(lead), repeats=repeats, queries=queries, keys=keys)


def _short(layout: Layout) -> bool:
    """Whether one example, of a batch whose size is not known, is so short that a loop would take longer than it."""
    sizes = (layout.lead[-1], layout.repeats, layout.queries, layout.keys)
    return all(isinstance(size, int) for size in sizes) and _product(sizes) <= SHORT


def _ragged(layout: Layout, leaves: Sequence[Operand], known: Sequence[Any]) -> tuple[bool, ...]:
    """Along which leading axes it pays to look at each entry by itself: what they may see differs, and is known.

    With an axis come all before it, so that a chunk stays one piece of memory.
    """
    if layout.lead[-1] * layout.repeats * layout.queries * layout.keys < SHORT:
        return (False,) * len(layout.lead)
    differ = [
        any(array is not None and leaf.axes[axis] for leaf, array in zip(leaves, known, strict=True))
        for axis in range(len(layout.lead) - 1)
    ]
    return (*(any(differ[axis:]) for axis in range(len(differ))), False)


def _product(sizes: Sequence[Any]) -> Any:
    result: Any = 1
    for size in sizes:
        result = result * size
    return result


def _widest(layout: Layout, mask: Any, leaves: Sequence[Operand], known: Sequence[Any], most_rows: int) -> int:
    """About how many keys the highest tile looks at: those of the first, the middle and the last rows."""
    if mask is None or not layout.keys:
        return layout.keys
    shares = shares_of(leaves, known, tuple((0, size) for size in layout.lead))
    height = min(layout.queries, most_rows)
    starts = {0, (layout.queries - height) // 2, layout.queries - height}
    return max(seen_by(layout, start, height, mask, shares, 1).width for start in starts)


def _sizes(
    layout: Layout, width: int, budget: int, most_rows: int, ragged: Sequence[bool]
) -> tuple[tuple[int, ...], int]:
    """How many of each leading axis, and how many rows, make a tile of at most `budget` numbers.

    Rows come first: few heads in a tile are faster than few rows, in every framework.
    """
    chunk = [1 if alone else size for size, alone in zip(layout.lead, ragged, strict=True)]
    least = min(layout.queries, most_rows) * layout.repeats * width
    for axis in range(len(chunk)):
        others = _product(chunk) // max(chunk[axis], 1)
        if _product(chunk) * least <= budget:
            break
        chunk[axis] = max(1, min(chunk[axis], budget // max(others * least, 1)))
    chunk = [max(size, 1) for size in chunk]
    return tuple(chunk), _rows_within(budget, layout, chunk, width, most_rows)


def _rows_within(budget: int, layout: Layout, chunk: Sequence[int], width: int, most_rows: int) -> int:
    rows = budget // max(_product(chunk) * layout.repeats * width, 1)
    return min(max(FEWEST_ROWS, min(most_rows, rows)), max(layout.queries, 1))


def shares_of(leaves: Sequence[Operand], known: Sequence[Any], chunk: tuple) -> list:
    """The parts of a mask's arrays that one chunk of the leading axes looks at, as NumPy; None if not known."""
    return [
        None
        if array is None
        else np.asarray(array)[
            tuple(
                slice(start, start + size) if varies else slice(None)
                for (start, size), varies in zip(chunk, leaf.axes, strict=False)
            )
        ]
        for leaf, array in zip(leaves, known, strict=True)
    ]


def _rows(layout: Layout, size: int, mask: Any, leaves: Sequence[Any], least_width: int) -> tuple[Rows, ...]:
    starts = sorted({0, layout.queries, *(() if mask is None else mask.cuts(leaves))})
    return tuple(
        seen_by(layout, start, min(size, after - start), mask, leaves, least_width)
        for before, after in itertools.pairwise(starts)
        for start in range(before, after, size)
    )


def seen_by(layout: Layout, start: int, size: int, mask: Any, leaves: Sequence[Any], least_width: int) -> Rows:
    if mask is None:
        return Rows(start, size, 0, layout.keys, False)
    span = Span(start, start + size, layout.shift, layout.keys)
    low, high = (int(bound) for bound in mask.bounds(_NUMBERS, span, leaves))
    low = min(max(low, 0), layout.keys - least_width)
    high = min(max(high, low + least_width), layout.keys)  # what sees nothing looks at one key, and masks it
    masked = not mask.full(span, (low, high), leaves)
    return Rows(start, size, low, high - low, masked)


def _fewer_widths(layout: Layout, rows: list[tuple[Rows, ...]]) -> list[tuple[Rows, ...]]:
    """Rounds widths up to four a power of two, where there are so many that too many loops would be compiled."""
    if len({several.width for chunk in rows for several in chunk}) <= 8:
        return rows
    return [tuple(_rounded(several, layout.keys) for several in chunk) for chunk in rows]


def _rounded(rows: Rows, keys: int) -> Rows:
    step = max(1 << max(rows.width.bit_length() - 3, 0), 1)
    width = min(-(-rows.width // step) * step, keys)
    low = min(rows.low, keys - width)
    return Rows(rows.start, rows.size, low, width, rows.masked or width != rows.width)
