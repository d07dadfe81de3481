"""The fused kernels' own logic: what PyTorch's kernel for CPUs gets wrong, and the GPU paths as far as a CPU allows."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import regard
from regard import masks
from regard._backends import _torch_fused, _torch_varlen, get_backend
from regard._backends import jax as jax_backend
from regard._backends import torch as torch_backend
from regard._kernels import Choice, _obstacle
from regard.attention import make_problem


def softmax(query, key, value, visible=None):
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return torch.softmax(scores, -1) @ value, torch.logsumexp(scores, -1)


@pytest.mark.parametrize("length", [5, 7, 16, 300])
def test_a_query_of_nan_stays_nan_and_the_others_do_not_see_it(length):
    query, key, value = torch.randn(3, 1, 2, length, 8)
    query[0, 0, 3, 1] = math.nan
    output, weights = regard.attention(query, key, value, kernel="fused")
    rows = output.isnan().any(-1)
    assert rows[0, 0, 3]
    assert rows.sum() == 1
    assert weights.logsumexp.isnan().sum() == 1


def test_rows_that_are_not_consecutive_in_memory():
    array = torch.randn(2, 16, 10).mT
    assert array.stride(-1) != 1
    output, _ = regard.attention(array, array, array, kernel="fused")
    torch.testing.assert_close(output, softmax(array, array, array)[0])


def test_an_axis_of_size_zero_runs_by_blocks():
    query, nothing = torch.randn(3, 4), torch.randn(0, 4)
    output, weights = regard.attention(query, nothing, nothing)
    assert weights.kernel == "blockwise"
    assert (output == 0).all()
    assert (weights.logsumexp == -math.inf).all()


def test_without_the_private_kernel_blocks_give_the_same(monkeypatch):
    query, key, value = torch.randn(3, 2, 50, 8)
    expected, _ = regard.attention(query, key, value, causal=True)
    gone = _torch_fused._KERNELS["cpu"]._replace(needs=("an_operator_that_is_gone",))
    monkeypatch.setitem(_torch_fused._KERNELS, "cpu", gone)
    monkeypatch.setattr(_torch_fused, "_flash", None)
    output, weights = regard.attention(query, key, value, causal=True)
    assert weights.kernel == "blockwise"
    assert "which lacks the kernel" in weights.reason
    torch.testing.assert_close(output, expected)
    with pytest.raises(regard.errors.UnsupportedError, match="which lacks the kernel; use kernel='auto'"):
        regard.attention(query, key, value, kernel="fused")


class StandIn:
    """What the operators for GPUs promise, on a CPU: padded log-sum-exp, whole bias, equal heads."""

    def __init__(self):
        self.calls = []

    def forward(self, query, key, value, bias, with_logsumexp, dropout, causal, *, scale):
        assert query.shape[1] == key.shape[1] == value.shape[1]
        assert with_logsumexp
        assert dropout == 0.0
        if bias is not None:
            assert bias.shape == (*query.shape[:-1], key.shape[-2])
            assert bias.stride(-2) % 16 == 0
        self.calls.append((tuple(query.shape), causal))
        scores = self.scores(query, key, bias, causal, scale)
        logsumexp = torch.logsumexp(scores, -1)
        padded = torch.nn.functional.pad(logsumexp, (0, -logsumexp.shape[-1] % 32), value=math.inf)
        return torch.softmax(scores, -1) @ value, padded, torch.zeros(()), torch.zeros(())

    def scores(self, query, key, bias, causal, scale):
        scores = query @ key.mT * scale
        if causal:
            visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
            scores = scores.masked_fill(~visible, -math.inf)
        return scores if bias is None else scores + bias

    def backward(self, up, query, key, value, bias, output, logsumexp, seed, offset, dropout, mask, causal, *, scale):
        assert logsumexp.shape[-1] % 32 == 0
        assert mask == (True, True, True, False)
        weights = torch.exp(self.scores(query, key, bias, causal, scale) - logsumexp[..., : query.shape[-2], None])
        of_scores = weights * (up @ value.mT - (up * output).sum(-1, keepdim=True)) * scale
        return of_scores @ key, of_scores.mT @ query, weights.mT @ up, None


@pytest.fixture
def cuda(monkeypatch):
    """The CUDA kernel's code, with its operators replaced by stand-ins, for tensors on the CPU."""
    stand_in = StandIn()

    class Operators:
        _scaled_dot_product_efficient_attention = staticmethod(stand_in.forward)
        _scaled_dot_product_efficient_attention_backward = staticmethod(stand_in.backward)

    class Torch:
        aten = Operators

    monkeypatch.setitem(_torch_fused._KERNELS, "cpu", _torch_fused._KERNELS["cuda"])
    monkeypatch.setattr(_torch_fused, "_flash", None)
    monkeypatch.setattr(torch, "ops", Torch)
    return stand_in


@pytest.mark.parametrize(
    "mask",
    [None, masks.causal(), masks.window(3, 5), masks.lengths([33, 20]), masks.boolean(np.tri(37, 33, dtype=bool))],
    ids=["none", "causal", "window", "lengths", "boolean"],
)
def test_the_code_for_gpus_against_blocks(cuda, mask):
    torch.manual_seed(0)
    query = torch.randn(2, 4, 37, 8)
    key, value = torch.randn(2, 2, 2, 33, 8)
    found = []
    for kernel in ("fused", "blockwise"):
        inputs = [array.clone().requires_grad_() for array in (query, key, value)]
        output, weights = regard.attention(*inputs, mask=mask, kernel=kernel)
        (output * output.detach().cos()).sum().backward()
        found.append([output, weights.logsumexp, *(array.grad for array in inputs)])
    assert cuda.calls
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_the_schemas_that_the_code_for_gpus_is_written_from():
    forward = torch.ops.aten._scaled_dot_product_efficient_attention.default._schema
    assert [a.name for a in forward.arguments] == [
        "query", "key", "value", "attn_bias", "compute_log_sumexp", "dropout_p", "is_causal", "scale",
    ]  # fmt: skip
    backward = torch.ops.aten._scaled_dot_product_efficient_attention_backward.default._schema
    assert [a.name for a in backward.arguments] == [
        "grad_out_", "query", "key", "value", "attn_bias", "out", "logsumexp", "philox_seed", "philox_offset",
        "dropout_p", "grad_input_mask", "is_causal", "scale",
    ]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
def test_the_code_for_jax_on_gpus_against_blocks(causal):
    keys = jax.random.split(jax.random.key(0), 3)
    query = jax.random.normal(keys[0], (2, 4, 9, 8))
    key, value = (jax.random.normal(k, (2, 2, 9, 8)) for k in keys[1:])

    def fused(query, key, value):
        backend = get_backend("test", query=query)
        problem, values = make_problem(backend, query, key, value, causal=causal)
        output, logsumexp = jax_backend.fused(problem, values, implementation="xla")
        return output.reshape(2, 4, 9, 8), logsumexp.reshape(2, 4, 9)

    def blocks(query, key, value):
        output, weights = regard.attention(query, key, value, causal=causal, kernel="blockwise")
        return output, weights.logsumexp

    def loss(function):
        return lambda *inputs: sum(jnp.sum(jnp.sin(array)) for array in function(*inputs))

    for mine, expected in zip(fused(query, key, value), blocks(query, key, value), strict=True):
        np.testing.assert_allclose(mine, expected, atol=2e-6)
    gradients = (jax.grad(loss(function), (0, 1, 2))(query, key, value) for function in (fused, blocks))
    for mine, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_the_reason_is_told():
    array = np.zeros((3, 4), np.float32)
    _, weights = regard.attention(array, array, array)
    assert weights.reason == "not fused: NumPy, which has no fused kernel"
    _, weights = regard.attention(*(torch.tensor(array),) * 3)
    assert (weights.kernel, weights.reason) == ("fused", "PyTorch's fused kernel")
    _, weights = regard.attention(*(torch.tensor(array),) * 3, softcap=3.0)
    assert weights.reason == "not fused: softcap"
    backend = get_backend("test", query=jnp.zeros(1))
    problem, values = make_problem(backend, *(jnp.asarray(array),) * 3)
    assert _obstacle(problem, values, None) == "JAX on a cpu, which has no fused kernel"
    assert Choice("fused", "x").name == "fused"


def by_document(query, key, value, starts, also, longest, longest_too, *, scale, window_size, enable_gqa):
    """What `torch.nn.attention.varlen.varlen_attn` is documented to compute, on a CPU."""
    assert torch.equal(starts, also)
    assert starts.dtype == torch.int32
    assert longest == longest_too == max(starts.diff())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    pieces = []
    for start, stop in itertools.pairwise(starts):
        document = [array[start:stop].transpose(0, 1)[None] for array in (query, key, value)]
        causal = {"is_causal": window_size == (-1, 0), "scale": scale, "enable_gqa": enable_gqa}
        pieces.append(torch.nn.functional.scaled_dot_product_attention(*document, **causal)[0].transpose(0, 1))
    return torch.cat(pieces)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "groups"), [(3, 3), (6, 2)])
def test_documents_go_to_the_kernel_for_them(causal, heads, groups):
    ids = torch.tensor([[0, 0, 0, 5, 5, 2, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1, 1, 4, 7, 7, 7]])
    query = torch.randn(2, heads, 11, 8).bfloat16().requires_grad_()
    key, value = (torch.randn(2, groups, 11, 8).bfloat16().requires_grad_() for _ in range(2))
    mask = masks.causal() & masks.segments(ids) if causal else masks.segments(ids)
    problem, placed = make_problem(get_backend("test", query=query), query, key, value, mask=mask)
    assert _torch_varlen.serves(problem, placed)
    output, logsumexp = _torch_fused._by_document(problem, placed, by_document)
    assert logsumexp is None
    output = problem.layout.to_caller(torch_backend, output, (11, 8))
    expected = regard.attention(query, key, value, mask=mask, kernel="blockwise").output
    torch.testing.assert_close(output, expected, atol=2e-2, rtol=2e-2)
    found, wanted = (torch.autograd.grad(each.float().pow(2).sum(), (query, key, value)) for each in (output, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize(
    ("ids", "change"),
    [
        ([0, 0, 1, 1, 0, 0], {}),  # a document in two pieces
        ([0, 0, 0, 1, 1, 1], {"dtype": torch.float32}),
        ([0, 0, 0, 1, 1, 1], {"bias": torch.zeros(6, 6)}),
        ([0, 0, 0, 1, 1, 1], {"mask": masks.window(1, 1)}),
    ],
)
def test_what_the_kernel_for_documents_cannot_do(ids, change):
    dtype = change.pop("dtype", torch.bfloat16)
    query = torch.randn(1, 6, 8).to(dtype)
    mask = masks.segments(torch.tensor(ids)[None])
    mask = mask & change.pop("mask") if "mask" in change else mask
    problem, placed = make_problem(get_backend("test", query=query), query, query, query, mask=mask, **change)
    assert not _torch_varlen.serves(problem, placed)
