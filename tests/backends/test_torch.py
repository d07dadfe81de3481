"""The verbs of PyTorch that are not the library's own function."""

import pytest
import torch

import regard
from regard._backends import torch as xp


@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("count", [1, 3, 8, 50])
@pytest.mark.parametrize("length", [7, 128, 136, 1000, 1024, 4096])
def test_the_largest_are_the_library_s(length, count, transposed):
    torch.manual_seed(0)
    array = torch.randn(2, 3, length, 5).mT if transposed else torch.randn(2, 3, 5, length)
    count = min(count, length)
    values, indices = xp.topk(array, count)
    torch.testing.assert_close(values, array.topk(count).values, rtol=0, atol=0)
    torch.testing.assert_close(array.gather(-1, indices.long()), values, rtol=0, atol=0)
    assert all(len(set(row)) == count for row in indices.flatten(0, -2).tolist())


def test_the_largest_of_equals_are_different_keys():
    values, indices = xp.topk(torch.zeros(2, 1024), 8)
    assert (values == 0).all()
    assert all(len(set(row)) == 8 for row in indices.tolist())


def test_a_product_with_the_long_side_first_is_the_product():
    left, right = torch.randn(2, 3, 5, 7, dtype=torch.float64), torch.randn(2, 1, 11, 7, dtype=torch.float64)
    torch.testing.assert_close(xp.outer(left, right), left @ right.mT)


def test_sums_of_segments():
    array, segments = torch.randn(2, 3, 7, dtype=torch.float64), torch.tensor([0, 0, 1, 3, 3, 3, 3], dtype=torch.int32)
    expected = torch.stack([array[..., segments == place].sum(-1) for place in range(4)], -1)
    torch.testing.assert_close(xp.segment_sum(array, segments, 4, -1), expected)


def test_what_a_caller_gets_is_consecutive_in_memory():
    weights = regard.attention(*torch.randn(3, 2, 20, 8)).weights
    assert weights.dense().is_contiguous()
    assert weights[..., 3:9, :].is_contiguous()


def test_looking_at_arguments_breaks_no_graph():
    """What is called on the way must be what `torch.compile` can follow: one graph, or an error."""
    query = torch.randn(1, 2, 20, 4)

    def attend(query):
        plain, causal = regard.attention(query, query, query), regard.attention(query, query, query, causal=True)
        return plain.output, causal.output, regard.attention(query, query, query, scale=2).output

    expected = attend(query)
    torch._dynamo.reset()
    for found, wanted in zip(torch.compile(attend, backend="eager", fullgraph=True)(query), expected, strict=True):
        torch.testing.assert_close(found, wanted)
