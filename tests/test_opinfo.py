"""PyTorch's own samples for `scaled_dot_product_attention`, with the answers of PyTorch and of the oracle."""

import functools

import numpy as np
import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

import checks
import frameworks
import oracle
import regard

(OPERATOR,) = (found for found in op_db if found.name == "nn.functional.scaled_dot_product_attention")
TORCH = frameworks.ALL["torch"]
COUNT = 25


@functools.cache
def samples(dtype, requires_grad=False):
    torch.manual_seed(0)
    return list(OPERATOR.sample_inputs("cpu", dtype, requires_grad=requires_grad))


def in_our_words(query, key, keywords):
    """PyTorch's `is_causal` has its corner at the top left: as a mask, unless there are as many keys as queries."""
    mask, bias = None, keywords.get("attn_mask")
    if keywords["is_causal"]:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    return {"mask": mask, "bias": bias, "dropout": keywords["dropout_p"], "seed": 0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("number", range(COUNT))
def test_samples(number, dtype):
    sample = samples(dtype)[number]
    query, (key, value), keywords = sample.input, sample.args, sample.kwargs
    ours = in_our_words(query, key, keywords)
    output, weights = regard.attention(query, key, value, **ours)
    name = str(dtype).removeprefix("torch.")
    theirs = OPERATOR.op(query, key, value, **{**keywords, "dropout_p": 0.0})
    assert output.shape == theirs.shape
    if keywords["dropout_p"]:  # which weights are dropped is a framework's own choice: look at the weights instead
        output = weights @ value.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    arrays = [TORCH.numpy(x) for x in (query, key, value)]
    rules = {name: TORCH.numpy(ours[name]) for name in ("mask", "bias") if ours[name] is not None}
    truth = oracle.attention(*arrays, **rules)
    score = np.abs(truth.scores[truth.visible]).max()
    checks.assert_values(
        TORCH.numpy(output), truth.output, TORCH.numpy(theirs), dtype=name, largest_score=score, what=repr(keywords)
    )


@pytest.mark.parametrize("number", range(COUNT))
def test_gradients_of_samples(number):
    sample = samples(torch.float64, requires_grad=True)[number]
    query, (key, value), keywords = sample.input, sample.args, {**sample.kwargs, "dropout_p": 0.0}
    output, _ = regard.attention(query, key, value, **in_our_words(query, key, keywords))
    theirs = OPERATOR.op(query, key, value, **keywords)
    cotangent = torch.randn(theirs.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    learnt = [query, key, value]
    if keywords.get("attn_mask") is not None and keywords["attn_mask"].requires_grad:
        learnt.append(keywords["attn_mask"])
    found = torch.autograd.grad((output * cotangent).sum(), learnt)
    expected = torch.autograd.grad((theirs * cotangent).sum(), learnt)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-11, atol=1e-13)


def test_all_samples_are_there():
    assert len(samples(torch.float32)) == COUNT
    assert any(sample.kwargs["is_causal"] for sample in samples(torch.float32))
    assert any("attn_mask" in sample.kwargs for sample in samples(torch.float32))
    assert any(sample.kwargs["dropout_p"] for sample in samples(torch.float32))
