"""Documents one after the other in a row, on a GPU: `torch.nn.attention.varlen` computes each by itself.

Written from its documentation and not run on a GPU yet; tests run the logic here on a CPU, with a kernel of their own
in its place.
"""

from __future__ import annotations

from typing import Any

import torch

_CAUSAL = {
    "segments(...)": False,
    "(causal() & segments(...))": True,
    "(segments(...) & causal())": True,
}


def serves(problem: Any, value: Any) -> bool:
    """Half precision, one width, documents that are each in one piece, the same for queries and keys."""
    query = problem.query.array
    if query.dtype not in (torch.float16, torch.bfloat16) or query.shape[-1] != value.array.shape[-1]:
        return False
    if problem.scores.bias is not None or str(problem.scores.mask) not in _CAUSAL:
        return False
    if problem.layout.queries != problem.layout.keys or torch.compiler.is_compiling():
        return False
    queries, keys = (leaf.array for leaf in problem.mask_leaves)
    rows, columns = queries.squeeze(-1), keys.squeeze(-2)
    return torch.equal(rows, columns) and bool((_runs(rows) == _runs(rows.sort(-1).values)).all())


def _runs(ids: Any) -> Any:
    return (ids[..., 1:] != ids[..., :-1]).sum(-1)


def attend(problem: Any, query: Any, key: Any, value: Any, kernel: Any = None) -> Any:
    """Output `(N, H, T, W)` of query `(N, H, T, W)` and key and value `(N, G, T, W)`, with the kernel's gradient."""
    if kernel is None:
        from torch.nn.attention import varlen

        kernel = varlen.varlen_attn
    examples, heads, length, width = query.shape
    packed = [array.transpose(1, 2).reshape(examples * length, -1, width) for array in (query, key, value)]
    starts = _starts(problem, examples)
    longest = int(starts.diff().max())
    output = kernel(
        *packed, starts, starts, longest, longest,
        scale=problem.scores.scale,
        window_size=(-1, 0) if _CAUSAL[str(problem.scores.mask)] else (-1, -1),
        enable_gqa=heads != key.shape[1],
    )  # fmt: skip
    return output.reshape(examples, length, heads, width).transpose(1, 2)


def _starts(problem: Any, examples: int) -> Any:
    """Where each document begins in the examples put end to end, and their end: `(documents + 1,)`, int32."""
    place = problem.layout
    ids = problem.mask_leaves[0].array.squeeze(-1)
    ids = ids.expand(*place.lead, place.repeats, place.queries)[..., 0, 0, :].reshape(examples, place.queries)
    begins = torch.ones_like(ids, dtype=torch.bool)
    begins[:, 1:] = ids[:, 1:] != ids[:, :-1]
    places = begins.flatten().nonzero().squeeze(-1)
    return torch.cat([places, places.new_tensor([ids.numel()])]).int()
