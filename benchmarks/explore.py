"""The explorer's maps: a head's first picture beside its fused output, and tiles of 100,000 positions.

python benchmarks/explore.py explore EXTENT; the last line is the rows as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import torch
from attention import compare

import regard
from regard import masks
from regard._layout import Layout
from regard.exploring import maps
from regard.exploring.heads import Head
from regard.weights import AttentionWeights

LENGTH, LONG, WIDTH = 16_384, 100_000, 64


def head(length: int, mask: masks.Mask | None = None) -> tuple[Head, list[torch.Tensor]]:
    random = np.random.default_rng(0)
    arrays = [torch.tensor(random.normal(size=(1, 1, length, WIDTH)).astype(np.float32)) for _ in range(3)]
    few = [array[:, :, :2] for array in arrays]
    problem = regard.attention(*few, mask=mask).weights[0, 0]._problem
    # What is attended to is not computed: a map asks for its own.
    layout, xp = Layout((1,), 1, length, length, ()), problem.xp
    query, key = layout.query(xp, arrays[0][0, 0]), layout.key(xp, arrays[1][0, 0])
    return Head(AttentionWeights(dataclasses.replace(problem, layout=layout, query=query, key=key))), arrays


def rows(extent: str) -> list[dict]:
    found = []
    length = 4096 if extent == "quick" else LENGTH
    for name, mask in (("", None), (", causal", masks.causal())):
        one, arrays = head(length, mask)
        level = maps.base(length)
        peer = "F.scaled_dot_product_attention"
        found.append(
            compare(
                "torch", f"explore, first picture{name}", length, WIDTH, "float32",
                lambda one=one, level=level: maps.first_pass(one, (level, level)),
                lambda arrays=arrays, causal=mask is not None: torch.nn.functional.scaled_dot_product_attention(
                    *arrays, is_causal=causal
                ),
                peer,
            )
        )  # fmt: skip
    one, _ = head(LONG)
    parts = np.stack([np.full(LONG, 30, np.float32), np.full(LONG, 8, np.float32)], -1)
    for span, level in ((256, 0), (6250, 5)):
        rows_, keys = range(40_960, 40_960 + span), range(8_192, 8_192 + span)
        found.append(
            compare(
                "torch", f"explore, a tile of {span:,} keys", LONG, WIDTH, "float32",
                lambda rows_=rows_, keys=keys, level=level: maps.region(one, rows_, keys, (level, level), parts),
                None, "none",
            )
        )  # fmt: skip
    return found


def main() -> None:
    regard.compile()
    with torch.no_grad():
        print(json.dumps(rows(sys.argv[2])))


if __name__ == "__main__":
    main()
