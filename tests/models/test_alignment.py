"""Time warping against every path there is, and against transformers' own for Whisper."""

import numpy as np
import pytest
import torch

import regard
from regard.errors import ShapeError
from regard.models.alignment import align, time_warping


def every_path(rows, columns):
    if (rows, columns) == (1, 1):
        yield [(0, 0)]
        return
    for down, right in ((1, 1), (1, 0), (0, 1)):
        if (rows > down and columns > right) or (rows - down >= 1 and columns - right >= 1):
            for path in every_path(rows - down, columns - right):
                yield [*path, (rows - 1, columns - 1)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 5), (5, 4)])
def test_no_path_is_cheaper(shape):
    cost = np.random.default_rng(0).normal(size=shape)
    queries, keys = time_warping(cost)
    least = min(sum(cost[step] for step in path) for path in every_path(*shape))
    assert cost[queries, keys].sum() == pytest.approx(least)
    assert (queries[0], keys[0], queries[-1], keys[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
    assert set(zip(np.diff(queries), np.diff(keys), strict=True)) <= {(1, 1), (1, 0), (0, 1)}


def test_it_is_transformers_own():
    from transformers.models.whisper.generation_whisper import _dynamic_time_warping

    cost = np.random.default_rng(1).normal(size=(17, 41))
    ours, theirs = time_warping(cost), _dynamic_time_warping(cost)
    assert cost[ours].sum() == pytest.approx(cost[tuple(theirs)].sum())


def test_a_planted_alignment_is_found():
    places = np.array([0, 0, 3, 8, 9, 15, 19])
    key = np.eye(20, dtype=np.float32) * 8
    query = key[places] * 8
    weights = regard.attention(np.stack([query] * 3), np.stack([key] * 3), np.stack([key] * 3)).weights
    found = align(weights, smooth=1)
    assert set(zip(range(7), places, strict=True)) <= set(zip(found.queries, found.keys, strict=True))
    spans = found.spans()
    assert spans.shape == (7, 2)
    assert ((spans[:, 0] <= places) & (places < spans[:, 1])).all()
    assert (spans[0, 0], spans[-1, 1]) == (0, 20)
    chosen = align([weights, torch.rand(3, 7, 20)], heads=[(0, 0), (0, 2)], smooth=1)
    np.testing.assert_array_equal(chosen.keys, found.keys)


def test_errors():
    with pytest.raises(ShapeError) as error:
        align(np.zeros((2, 3, 4, 5)))
    assert str(error.value) == ("align: need weights (H, T, S) of one example; got (2, 3, 4, 5); take one, weights[0].")
    with pytest.raises(ShapeError, match="need a cost"):
        time_warping(np.zeros((0, 3)))
