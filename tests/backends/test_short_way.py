"""The short way through PyTorch's fused kernel: the same numbers, gradients and errors as the long one."""

import math

import pytest
import torch

import regard
from regard._backends import _torch_fused
from regard.errors import UnsupportedError


def arrays(heads=6, groups=6, queries=37, keys=41, width=16, dtype=torch.float64):
    torch.manual_seed(0)
    query = torch.randn(2, heads, queries, width, dtype=dtype)
    return query, *torch.randn(2, 2, groups, keys, width, dtype=dtype)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("groups", [6, 2, 1])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_it_gives_what_blocks_give(groups, causal, scale):
    query, key, value = arrays(groups=groups, queries=41)
    assert _torch_fused.plain(query, key, value, causal, scale, None) is not None
    ours, weights = regard.attention(query, key, value, causal=causal, scale=scale)
    theirs, others = regard.attention(query, key, value, causal=causal, scale=scale, kernel="blockwise")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(weights.logsumexp, others.logsumexp)
    torch.testing.assert_close(weights.dense(), others.dense())
    assert weights.kernel == "fused"
    assert weights.shape == (2, 6, 41, 41)


@pytest.mark.parametrize("question", ["logsumexp", "entropy", "received"])
def test_gradients_of_output_and_statistics_together(question):
    found = []
    for kernel in ("auto", "blockwise"):
        inputs = [array.requires_grad_() for array in arrays()]
        output, weights = regard.attention(*inputs, kernel=kernel)
        answer = weights.logsumexp if question == "logsumexp" else getattr(weights, question)()
        ((output**2).sum() + (answer**2).sum()).backward()
        found.append([array.grad for array in inputs])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("asked_before", [False, True])
@pytest.mark.parametrize("kernel", ["auto", "blockwise"])
def test_an_attention_without_gradients_has_none_when_asked_later(kernel, asked_before):
    inputs = [array.requires_grad_() for array in arrays()]
    with torch.no_grad():
        _, weights = regard.attention(*inputs, kernel=kernel)
        if asked_before:
            weights.entropy()
    assert not weights.entropy().requires_grad
    assert not weights.logsumexp.requires_grad


def test_a_question_asked_first_without_gradients_and_then_with_them_has_them():
    query, key, value = (array.requires_grad_() for array in arrays())
    found = []
    for first in (False, True):
        _, weights = regard.attention(query.bfloat16(), key.bfloat16(), value.bfloat16())
        if first:
            with torch.no_grad():
                weights.entropy()
        [gradient] = torch.autograd.grad(weights.entropy().sum(), [query])
        found.append(gradient)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("length", [16, 17, 31, 48, 100, 513, 527, 528])
def test_from_16_keys_on_the_kernel_loses_no_nan(length, dtype):
    """Why the short way need not look at what came out."""
    for of in (0, 1):
        for at in (0, length // 2, length - 1):
            inputs = [torch.randn(1, 1, length, 8).to(dtype) for _ in range(3)]
            inputs[of][0, 0, at, 3] = math.nan
            output, _ = _torch_fused.plain(*inputs, False, None, None)
            seen = output.isnan().all(-1)[0, 0]
            assert seen[at]
            assert seen.all() if of == 1 else seen.sum() == 1


ODD = {
    "few keys": lambda q, k, v: (q, k[:, :, :15], v[:, :, :15]),
    "three axes": lambda q, k, v: (q[0], k[0], v[0]),
    "other widths of values": lambda q, k, v: (q, k, v[..., :7]),
    "a batch of one beside two": lambda q, k, v: (q[:1], k, v),
    "rows not consecutive": lambda q, k, v: (q.mT.contiguous().mT, k, v),
    "no query": lambda q, k, v: (q[:, :, :0], k, v),
    "types that differ": lambda q, k, v: (q.float(), k, v),
    "whole numbers": lambda q, k, v: (q.int(), k.int(), v.int()),
    "heads that do not divide": lambda q, k, v: (q, k[:, :4], v[:, :4]),
    "a parameter": lambda q, k, v: (torch.nn.Parameter(q), k, v),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_out_of_the_ordinary_goes_the_long_way(odd):
    assert _torch_fused.plain(*ODD[odd](*arrays()), False, None, None) is None


def test_causal_with_other_lengths_goes_the_long_way_since_the_kernel_counts_from_the_other_corner():
    assert _torch_fused.plain(*arrays(), True, None, None) is None


def test_a_kernel_that_does_not_exist_is_told_here_too():
    with pytest.raises(UnsupportedError, match="did you mean 'fused'"):
        regard.attention(*arrays(), kernel="fuse")
