"""How every head of a model attends, in numbers: one row for each layer and head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from regard._asking import Asked
from regard._backends import to_numpy
from regard._indexing import for_heads
from regard._questions import Distance, Entropy, Max, MaxScore, Neighbour, Product
from regard.errors import ShapeError
from regard.weights import AttentionWeights

COLUMNS = (
    "entropy", "largest_weight", "largest_score", "distance", "first", "special", "separators", "previous",
    "redundancy",
)  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """Each measure as one array for each layer, `(H,)`.

    Attributes:
        names: the layers' modules.
        entropy: mean over the queries, in nats.
        largest_weight: mean over the queries of each one's largest weight.
        largest_score: the largest score before the softmax of all queries.
        distance: mean distance attended over, in positions.
        first, special, separators: mean weight on the first key, on special tokens and on separators; NaN where not
            told which they are. In self-attention the first is each example's first that counts, behind its padding.
        previous: mean weight on the key before the query; in self-attention, if that counts.
        redundancy: cosine similarity of the head's weights, as one long vector, to those of the head of its layer
            that is most like it; NaN for a single head. (Compare Bian et al. 2021, "On Attention Redundancy".)
        unseen: modules that look like attention, ran, and could not be seen: no row is theirs.
        batches: over how many examples each layer's means are; more in some layers where they attend within windows.
    """

    names: list[str]
    entropy: list[np.ndarray]
    largest_weight: list[np.ndarray]
    largest_score: list[np.ndarray]
    distance: list[np.ndarray]
    first: list[np.ndarray]
    special: list[np.ndarray]
    separators: list[np.ndarray]
    previous: list[np.ndarray]
    redundancy: list[np.ndarray]
    unseen: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each layer and head, for `pandas.DataFrame` or a CSV file."""
        return [
            {"layer": layer, "name": name, "head": head}
            | {column: float(getattr(self, column)[layer][head]) for column in COLUMNS}
            for layer, name in enumerate(self.names)
            for head in range(len(self.entropy[layer]))
        ]

    def __str__(self) -> str:
        rows = self.rows()
        shown = [column for column in COLUMNS if not all(np.isnan(row[column]) for row in rows)]
        lines = [["layer", "head", *(column.replace("_", " ") for column in shown)]]
        lines += [[str(row["layer"]), str(row["head"]), *(f"{row[column]:.3f}" for column in shown)] for row in rows]
        return "\n".join([*aligned(lines), *self._notes()])

    def _notes(self) -> Iterator[str]:
        if self.unseen:
            yield f"not seen: {', '.join(self.unseen)}"
        if len(set(self.batches)) > 1:
            sizes = ", ".join(map(str, dict.fromkeys(self.batches)))
            yield f"first axes differ ({sizes}), as of windows: positions are counted within each"


def aligned(lines: list[list[str]]) -> list[str]:
    """Lines of a table whose cells end below each other."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def summarise(
    names: list[str],
    layers: Sequence[AttentionWeights],
    special: Any,
    separators: Any,
    real: Any,
    unseen: Sequence[str] = (),
) -> Summary:
    """See `Seen.summary`. Two passes over the scores of each layer."""
    found: dict[str, list[np.ndarray]] = {column: [] for column in COLUMNS}
    each = real if isinstance(real, list) else [real] * len(layers)
    for weights, counted in zip(layers, each, strict=True):
        for column, values in _of_layer(weights, special, separators, counted).items():
            found[column].append(values)
    return Summary(names, **found, unseen=list(unseen), batches=[int(weights.shape[0]) for weights in layers])


def in_single(weights: AttentionWeights) -> AttentionWeights:
    """The same with tiles in float32 where those of a model are in half precision: what is counted is rounded once.

    Under autocast some families hand over query and key in bfloat16, others in float32.
    """
    problem, half = weights._problem, weights._given in ("bfloat16", "float16")
    single = AttentionWeights(replace(problem, given="float32"), weights._logsumexp, weights.kernel, weights.reason)
    return single if half else weights


def _of_layer(weights: AttentionWeights, special: Any, separators: Any, real: Any) -> dict[str, np.ndarray]:
    *batch, _, queries, keys = weights.shape
    counted = flags("summary", "real", real, batch, queries)
    real_keys = counted if queries == keys else np.full((*batch, keys), True)
    sets = [real_keys & (np.cumsum(real_keys, -1) == 1)]
    sets += [
        flags("summary", "special", special, batch, keys),
        flags("summary", "separators", separators, batch, keys),
    ]
    xp = weights._xp
    indicators = np.stack(sets, -1).astype(weights._problem.dtype)[..., None, :, :]
    operand = for_heads(xp, weights._layout, xp.asarray(indicators, weights._problem.query.array), keys=True)
    asked = [Asked(question) for question in (Entropy(), Max(), MaxScore(), Distance(), Neighbour(-1))]
    asked.append(Asked(Product(len(sets)), (operand,)))
    entropy, largest, score, distance, previous, masses = (
        np.asarray(to_numpy(answer), np.float64) for answer in weights._ask(*asked)
    )
    mean = _mean_over(counted)
    return {
        "entropy": mean(entropy),
        "largest_weight": mean(largest),
        "largest_score": np.where(counted[..., None, :], score, -np.inf).max(-1).reshape(-1, score.shape[-2]).max(0),
        "distance": mean(distance),
        "first": mean(masses[..., 0]),
        "special": mean(masses[..., 1]) if special is not None else np.full(score.shape[-2], np.nan),
        "separators": mean(masses[..., 2]) if separators is not None else np.full(score.shape[-2], np.nan),
        "previous": mean(previous * _follows(real_keys, queries)[..., None, :]),
        "redundancy": _redundancy(weights, counted),
    }


def _follows(real_keys: np.ndarray, queries: int) -> np.ndarray:
    """Whether the key before each query counts, `(*batch, T)`, the last query being at the last key."""
    padded = np.pad(real_keys, [(0, 0)] * (real_keys.ndim - 1) + [(queries + 1, 0)])
    return padded[..., -queries - 1 : -1]


def flags(who: str, name: str, given: Any, batch: Sequence[int], length: int) -> np.ndarray:
    """As booleans `(*batch, length)`; all True for `real` and all False for the others where nothing is given."""
    if given is None:
        return np.full((*batch, length), name == "real")
    given = np.asarray(to_numpy(given), bool)
    if given.shape not in ((length,), (*batch, length)):
        raise ShapeError(
            f"{who}: need {name} of shape ({length},) or {(*batch, length)}; got {given.shape}; say which tokens "
            "of each example are meant."
        )
    return np.broadcast_to(given, (*batch, length))


def _mean_over(counted: np.ndarray) -> Any:
    count = max(int(counted.sum()), 1)

    def mean(values: np.ndarray) -> np.ndarray:
        """Of `(*batch, H, T)` over the queries that count, whatever the others make, NaN too: `(H,)`."""
        values = np.where(counted[..., None, :], values / count, 0)
        return values.sum(-1).reshape(-1, values.shape[-2]).sum(0)

    return mean


def _redundancy(weights: AttentionWeights, counted: np.ndarray) -> np.ndarray:
    """From the products of the heads' weights with each other, added up over tiles."""
    xp, heads = weights._xp, weights.shape[-3]

    def products(tile: Any, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
        rows = xp.asarray(counted[..., None, queries, None], tile)
        flat = xp.reshape(
            xp.cast(xp.where(rows, tile, 0.0), weights._problem.dtype), (-1, heads, len(queries) * len(keys))
        )
        return np.asarray(to_numpy(xp.outer(flat, flat)), np.float64).sum(0)

    total = weights.reduce(products, lambda one, two: one + two, np.zeros((heads, heads)))
    length = np.sqrt(np.maximum(np.diag(total), np.finfo(np.float64).tiny))
    cosine = total / length / length[:, None]
    np.fill_diagonal(cosine, -np.inf)
    return cosine.max(-1) if heads > 1 else np.full(1, np.nan)
