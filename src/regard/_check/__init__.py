"""The only place that looks at arguments and words messages: `who: need X; got Y; do Z.`

Shapes and types are shown, data never.
"""

from regard._check.asked import (
    before,
    count,
    heads_of_values,
    most_bytes,
    multiplied,
    no_name,
    no_truth_of_several,
    no_values,
    not_written,
    pairs,
    pool,
    pulled_back,
    questions,
    rectangles,
    sets_of_keys,
)
from regard._check.indices import extent, index, known_size, lists, positions
from regard._check.operands import (
    bias,
    boolean_mask,
    corner,
    dropout,
    flag,
    kernel,
    layout,
    leaf,
    lengths,
    number,
    per_head,
    segments,
    similarity,
    types,
)
from regard._check.rules import (
    buckets,
    max_distance,
    no_truth,
    not_a_bias,
    not_a_mask,
    prefix_length,
    runs,
    window_side,
)
from regard._check.words import FLOATS, WHO, nearest, spelled

__all__ = [
    "FLOATS", "WHO", "before", "bias", "boolean_mask", "buckets", "corner", "count", "dropout", "extent", "flag",
    "heads_of_values", "index", "kernel", "known_size", "layout", "leaf", "lengths", "lists", "max_distance",
    "most_bytes", "multiplied", "nearest", "no_name", "no_truth", "no_truth_of_several", "no_values", "not_a_bias",
    "not_a_mask", "not_written", "number", "pairs", "per_head", "pool", "positions", "prefix_length", "pulled_back",
    "questions", "rectangles", "runs", "segments", "sets_of_keys", "similarity", "spelled", "types", "window_side",
]  # fmt: skip
