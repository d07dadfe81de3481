"""What can be taken away: heads, layers, tokens, pairs of tokens; each as edits of one batch after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard import masks
from regard.errors import ConfigError, ShapeError
from regard.inspection.effects.plain import Plain
from regard.models.edit import OUTPUTS


@dataclass(frozen=True)
class Kind:
    """One way to take attention apart. `estimates` of a framework: its function -> `(edits, B)`.

    Attributes:
        output: what comes out of heads instead.
        pairs: query and key, counted in each example's real positions.
    """

    output: str
    pairs: np.ndarray

    def count(self, plain: Plain) -> int:
        """How many edits a batch has."""
        raise NotImplementedError

    def edit(self, number: int, plain: Plain) -> dict[str, Any]:
        """One of them, as `regard.edit` takes it."""
        raise NotImplementedError

    def counted(self, number: int, plain: Plain) -> np.ndarray:
        """Which examples it is an edit of, `(B,)`."""
        return np.ones(len(plain.scores), bool)

    def arranged(self, values: np.ndarray, heads: list[int]) -> np.ndarray:
        """Values `(N, edits)` as `(N, *shape)`."""
        return values

    def estimates(self, framework: Any, model: Any, run: Callable[[], Any], plain: Plain) -> np.ndarray | None:
        """What a gradient foretells, `(edits, B)`."""
        raise NotImplementedError


class Heads(Kind):
    """One head of one layer at a time."""

    def count(self, plain: Plain) -> int:
        return sum(plain.heads)

    def edit(self, number: int, plain: Plain) -> dict[str, Any]:
        ends = np.cumsum(plain.heads)
        layer = int(np.searchsorted(ends, number, "right"))
        head = number - int(ends[layer]) + plain.heads[layer]
        return {"layers": plain.numbers[layer], "heads": head, "output": self.output}

    def arranged(self, values: np.ndarray, heads: list[int]) -> np.ndarray:
        found = np.full((len(values), len(heads), max(heads)), np.nan)
        found[:, np.arange(max(heads)) < np.array(heads)[:, None]] = values
        return found

    def estimates(self, framework: Any, model: Any, run: Callable[[], Any], plain: Plain) -> np.ndarray | None:
        found = framework.gates(model, run, plain.numbers, self.output)
        return None if found is None else np.concatenate(found)


class Layers(Kind):
    """All heads of one layer at a time."""

    def count(self, plain: Plain) -> int:
        return len(plain.numbers)

    def edit(self, number: int, plain: Plain) -> dict[str, Any]:
        return {"layers": plain.numbers[number], "output": self.output}

    def estimates(self, framework: Any, model: Any, run: Callable[[], Any], plain: Plain) -> np.ndarray | None:
        found = framework.gates(model, run, plain.numbers, self.output)
        return None if found is None else np.stack([layer.sum(0) for layer in found])


class Tokens(Kind):
    """One key at a time that nobody may look at, counted in each example's real positions."""

    def count(self, plain: Plain) -> int:
        return max(map(len, plain.keys))

    def edit(self, number: int, plain: Plain) -> dict[str, Any]:
        seen = np.ones((len(plain.scores), 1, 1, plain.lengths[1]), bool)
        for row, keys in zip(seen, plain.keys, strict=True):
            row[..., keys[number : number + 1]] = False
        return {"layers": plain.numbers, "mask": masks.boolean(seen)}

    def counted(self, number: int, plain: Plain) -> np.ndarray:
        return np.array([number < len(keys) for keys in plain.keys])

    def estimates(self, framework: Any, model: Any, run: Callable[[], Any], plain: Plain) -> np.ndarray | None:
        received = framework.of_keys(model, run, plain.numbers)
        if received is None:
            return None
        found = np.full((self.count(plain), len(plain.scores)), np.nan)
        for example, keys in enumerate(plain.keys):
            found[: len(keys), example] = received[example, keys]
        return found


class Pairs(Kind):
    """One query at a time may not look at one key, in no head."""

    def count(self, plain: Plain) -> int:
        return len(self.pairs)

    def edit(self, number: int, plain: Plain) -> dict[str, Any]:
        lengths = plain.lengths
        hidden = [
            np.zeros((len(plain.scores), 1, lengths[0], 1), bool),
            np.zeros((len(plain.scores), 1, 1, lengths[1]), bool),
        ]
        for example, (query, key) in enumerate(self._places(plain)[:, number]):
            if min(query, key) >= 0:
                hidden[0][example, 0, query] = hidden[1][example, ..., key] = True
        rule = ~(masks.boolean(hidden[0]) & masks.boolean(hidden[1]))
        return {"layers": plain.numbers, "mask": rule}

    def counted(self, number: int, plain: Plain) -> np.ndarray:
        return np.all(self._places(plain)[:, number] >= 0, axis=-1)

    def _places(self, plain: Plain) -> np.ndarray:
        """Where the pairs are in each example, `(B, pairs, 2)`; -1 where it has no such position."""
        found = np.full((len(plain.scores), len(self.pairs), 2), -1)
        for side, positions in enumerate((plain.queries, plain.keys)):
            for example, each in enumerate(positions):
                asked = self.pairs[:, side]
                there = (asked < len(each)) & (asked >= -len(each))
                found[example, there, side] = each[asked[there]]
        return found

    def estimates(self, framework: Any, model: Any, run: Callable[[], Any], plain: Plain) -> np.ndarray | None:
        places = self._places(plain)
        found = framework.of_pairs(model, run, plain.numbers, np.maximum(places, 0))
        return None if found is None else np.where((places >= 0).all(-1).T, found, np.nan)


KINDS: dict[str, type[Kind]] = {"heads": Heads, "tokens": Tokens, "pairs": Pairs, "layers": Layers}


def kind(of: str, output: Any, pairs: Any) -> Kind:
    """The arguments, checked."""
    if of not in KINDS:
        raise ConfigError(f"effects: need of as one of {', '.join(KINDS)}; got {of!r}.")
    if not isinstance(output, str) or output not in OUTPUTS:
        raise ConfigError(f"effects: need an output of 'zero' or 'mean'; got {output!r}.")
    if (pairs is not None) != (of == "pairs"):
        got = "none" if pairs is None else f"them with of={of!r}"
        raise ConfigError(
            f"effects: need pairs, a list of (query, key), with of='pairs' and with nothing else; got {got}."
        )
    return KINDS[of](output, np.zeros((0, 2), int) if pairs is None else _pairs(pairs))


def _pairs(given: Any) -> np.ndarray:
    try:
        found = np.asarray(given)
    except ValueError:  # of several lengths
        found = np.zeros(0)
    if found.ndim != 2 or found.shape[1] != 2 or not len(found) or not np.issubdtype(found.dtype, np.integer):
        raise ShapeError(
            f"effects: need pairs as a list of (query, key), whole numbers; got {found.dtype} {found.shape}."
        )
    return found
