"""Gradients through `kernel="compiled"`, and what must not change them."""

import functools
import os
import subprocess
import sys
import threading

import hypothesis
import numpy as np
import pytest
import torch

import cases
import frameworks
import regard._compiled.gradients
import test_gradients as gradients
from regard import biases, masks
from regard._backends import torch as verbs
from regard._compiled import units
from test_properties import calls

TORCH = frameworks.ALL["torch"]
LOOPS = [answer for answer in gradients.ANSWERS if answer not in ("tile", "dense")]
ASKED = ("entropy", "received")


@pytest.fixture(autouse=True)
def alone(monkeypatch, request):
    """No block is differentiated by PyTorch, but in tests that are marked so."""

    def refused(*_):
        raise AssertionError("a block was differentiated by PyTorch")

    if "by_pytorch" not in request.fixturenames:
        monkeypatch.setattr(verbs, "vjp", refused)


@pytest.fixture
def by_pytorch():
    """For what the loops cannot do."""


# --- against the oracle ----------------------------------------------------------------------------------------------


FEW = ("output", "entropy", "received")
EACH = [answer if answer in FEW else pytest.param(answer, marks=pytest.mark.slow) for answer in LOOPS]


@pytest.mark.parametrize("answer", EACH)
@pytest.mark.parametrize("case", gradients.CASES)
def test_gradients_are_the_oracles_finite_differences(case, answer):
    case = gradients.CASES[case]
    found = gradients.library_gradients(TORCH, case, [answer], "float64", kernel="compiled")
    gradients.assert_true(TORCH, case, answer, found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("answer", ["output", "entropy", "received"])
@pytest.mark.parametrize("case", ["batch", "causal-empty-rows", "softcap", "bias", "sinks-bias"])
def test_gradients_are_as_good_as_plain_ones(case, answer, dtype):
    case = gradients.CASES[case]
    found = gradients.library_gradients(TORCH, case, [answer], dtype, kernel="compiled")
    gradients.assert_as_good(TORCH, case, answer, found, dtype)


@pytest.mark.parametrize("ask", [(), ASKED], ids=["afterwards", "on-the-way"])
@pytest.mark.parametrize("case", ["batch", "causal-empty-rows", "sinks-bias", "softcap"])
def test_several_answers_at_once_add_their_gradients(case, ask):
    case, names = gradients.CASES[case], ("output", *ASKED)
    found = gradients.library_gradients(TORCH, case, names, "float64", kernel="compiled", ask=ask)
    for argument in found:
        expected = sum(gradients.truth(case, name)[argument][0] for name in names)
        doubt = sum(gradients.truth(case, name)[argument][1] for name in names)
        assert np.abs(TORCH.numpy(found[argument]) - expected).max() <= doubt + 1e-12, argument


def plainly(query, key, value, mask, bias=0.0):
    """A loss of everything by the plain formula, which PyTorch differentiates."""
    times = query.shape[-3] // key.shape[-3]
    key, value = (array.repeat_interleave(times, -3) for array in (key, value))
    scores = query @ key.mT / query.shape[-1] ** 0.5 + bias
    seen = mask.any(-1, keepdim=True)
    scores = torch.where(mask | ~seen, scores, -torch.inf)
    weights = torch.where(seen, torch.softmax(scores, -1), 0.0)
    log_weights = torch.where(mask & seen, scores - torch.logsumexp(scores, -1, keepdim=True), 0.0)
    entropy = -(weights * log_weights).sum(-1)
    return loss(weights @ value, entropy, weights.sum(-2), weights.amax(-1))


def loss(output, entropy, received, largest):
    return (output**2).sum() + (entropy * entropy.detach().cos()).sum() + (received**2).sum() + largest.sin().sum()


def mine(query, key, value, **options):
    output, weights = regard.attention(query, key, value, kernel="compiled", **options)
    return loss(output, weights.entropy(), weights.received(), weights.max())


def pulled(function, *arrays):
    """The gradients of a function by all its arrays."""
    leaves = [array.detach().clone().requires_grad_() for array in arrays]
    return torch.autograd.grad(function(*leaves), leaves)


@hypothesis.given(calls())
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_of_any_shape_they_are_those_of_the_plain_formula(call):
    arrays, mask, causal = call
    arrays = [torch.tensor(x, dtype=torch.float64) for x in arrays]
    mask = torch.tensor(mask)
    seen = mask & masks_of(mask.shape[-2:]) if causal else mask
    found = pulled(functools.partial(mine, mask=mask, causal=causal), *arrays)
    wanted = pulled(functools.partial(plainly, mask=seen), *arrays)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def masks_of(shape):
    queries, keys = shape
    return torch.ones(shape, dtype=torch.bool).tril(keys - queries)


# --- PyTorch's own checks --------------------------------------------------------------------------------------------

OPTIONS = {
    "plain": {},
    "causal": {"causal": True},
    "window-lengths": {"mask": masks.window(3, 2) & masks.lengths([7, 4])},
    "segments": {"mask": masks.segments([[0, 0, 1, 1, 2]] * 2, [[0, 0, 0, 1, 1, 2, 2]] * 2)},
    "boolean": {"mask": torch.tensor(cases.flags(2, 6, 5, 7))},
    "bias": {"bias": torch.tensor(cases.numbers(6, 5, 7))},
    "alibi": {"bias": biases.alibi(2.0 ** -np.arange(1, 7))},
    "softcap": {"softcap": 1.5, "scale": 0.8},
    "sinks": {"sinks": torch.tensor(cases.numbers(6))},
    "cosine": {"similarity": "cosine", "scale": 3.0},
    "everything": {
        "causal": True, "softcap": 2.0, "sinks": torch.tensor(cases.numbers(6)), "mask": masks.lengths([7, 6]),
        "bias": torch.tensor(cases.numbers(5, 7)),
    },
}  # fmt: skip
ANSWERS = {
    "output": lambda output, weights: output,
    "logsumexp": lambda output, weights: weights.logsumexp.nan_to_num(neginf=0.0),
    "entropy": lambda output, weights: weights.entropy(),
    "received": lambda output, weights: weights.received(),
    "max": lambda output, weights: weights.max(),
}


def answer_of(answer, options, *arrays):
    return ANSWERS[answer](*regard.attention(*arrays, kernel="compiled", **options))


def small():
    shapes = ((2, 6, 5, 3), (2, 2, 7, 3), (2, 2, 7, 4))
    return [torch.tensor(cases.numbers(*shape), requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("options", OPTIONS)
def test_pytorchs_own_check(options, answer):
    function = functools.partial(answer_of, answer, OPTIONS[options])
    assert torch.autograd.gradcheck(function, small(), fast_mode=True)


def test_biases_that_are_learned_together(monkeypatch):
    """An array that heads and examples share, slopes and buckets, over several blocks of a window."""
    monkeypatch.setattr(units, "TILE", 1 << 12)
    query, key = (torch.tensor(cases.numbers(2, 2, n, 3)) for n in (40, 37))
    leaves = [torch.tensor(cases.numbers(*shape), requires_grad=True) for shape in ((40, 37), (2,), (8, 2))]

    def answers(values, slopes, table):
        bias = biases.array(values) + biases.alibi(slopes) + biases.relative(table, max_distance=9)
        output, weights = regard.attention(query, key, key, bias=bias, mask=masks.window(11, 5), kernel="compiled")
        return output, weights.entropy(), weights.received()

    assert torch.autograd.gradcheck(answers, leaves, fast_mode=True)


def total_of(query):
    """Of enough scores for the pass, with a question on the way."""
    output, weights = regard.attention(query, query, query, causal=True, ask=("entropy",))
    return (output**2).sum() + (weights.entropy() ** 2).sum()


TRANSFORMS = {
    "grad": torch.func.grad(total_of),
    "vmap-of-grad": lambda query: torch.func.vmap(torch.func.grad(total_of))(query[None])[0],
    "jvp": lambda query: torch.func.jvp(total_of, (query,), (query.cos(),))[1],
    "hessian-vector": lambda query: torch.func.jvp(torch.func.grad(total_of), (query,), (query.cos(),))[1],
}


@pytest.mark.usefixtures("by_pytorch")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of PyTorch's own forward mode
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_go_by_blocks(transform):
    query = torch.tensor(cases.numbers(1, 300, 3))
    [gradient] = pulled(total_of, query)
    found, along = TRANSFORMS[transform](query), query.cos()
    if transform == "jvp":
        torch.testing.assert_close(found, (gradient * along).sum())
    elif transform == "hessian-vector":
        step = 1e-5
        ahead, behind = (pulled(total_of, query + sign * step * along)[0] for sign in (1, -1))
        torch.testing.assert_close(found, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)
    else:
        torch.testing.assert_close(found, gradient)


@pytest.mark.usefixtures("by_pytorch")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning")  # of PyTorch's compiler itself
def test_a_graph_of_pytorch_goes_without():
    query = torch.tensor(cases.numbers(1, 300, 3))
    torch.compiler.reset()
    compiled = torch.compile(total_of, fullgraph=True, backend="aot_eager")
    for one, other in zip(pulled(compiled, query), pulled(total_of, query), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("by_pytorch")
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("options", ["plain", "everything"])
def test_pytorchs_own_check_of_second_derivatives(options, answer):
    function = functools.partial(answer_of, answer, OPTIONS[options])
    assert torch.autograd.gradgradcheck(function, small(), fast_mode=True)


# --- what must not change a result -----------------------------------------------------------------------------------


def inputs(dtype=torch.float64):
    """Heads in groups, a key that all examples share, values that they do not, and a bias that all heads share."""
    shapes = ((2, 4, 300, 8), (1, 2, 271, 8), (2, 2, 271, 5), (300, 271))
    return [torch.tensor(cases.numbers(*shape), dtype=dtype) for shape in shapes]


def across_blocks(*arrays):
    query, key, value, bias = arrays
    return pulled(lambda q, k, v, b: mine(q, k, v, bias=b, mask=masks.window(140, 60)), query, key, value, bias)


@pytest.mark.parametrize("size", [1 << 12, 1 << 16, 1 << 24])
def test_the_size_of_tiles_changes_nothing(size, monkeypatch):
    own = torch.arange(300)[:, None] + 271 - 300 - torch.arange(271)
    seen = (own <= 140) & (own >= -60)
    wanted = pulled(lambda q, k, v, b: plainly(q, k, v, seen, b), *inputs())
    monkeypatch.setattr(units, "TILE", size)
    for one, other in zip(across_blocks(*inputs()), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_the_number_of_threads_changes_no_bit():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(across_blocks(*inputs(torch.float32)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


def test_several_threads_of_the_caller_get_what_one_gets():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected, found = across_blocks(*inputs()), {}
        callers = [
            threading.Thread(target=lambda at=at: found.update({at: across_blocks(*inputs())})) for at in range(4)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        torch.set_num_threads(before)
    assert len(found) == 4
    for answers in found.values():
        for one, other in zip(answers, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_without_compiler_the_loops_are_python():
    program = """
import torch, regard
from regard._backends import torch as verbs
torch.manual_seed(0)
found = []
for kernel in ("blockwise", "compiled"):
    x = torch.ones(2, 9, 4).cumsum(1).sin().requires_grad_()
    output, weights = regard.attention(x, x, x, causal=True, kernel=kernel, ask=("entropy", "max"))
    answers = weights.ask("entropy", "max", "received", "distance").values()
    total = (output ** 2).sum() + sum(answer.sum() for answer in answers)
    found.append(torch.autograd.grad(total, x)[0])
    verbs.vjp = None
torch.testing.assert_close(*found)
"""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("by_pytorch")
def test_what_the_loops_cannot_do_is_done_by_blocks():
    """Largest weights and maps have their gradients by PyTorch, whatever the kernel."""
    found = []
    for kernel in ("compiled", "blockwise"):

        def total(query, key, value, kernel=kernel):
            output, weights = regard.attention(query, key, value, kernel=kernel)
            answers = weights.ask("entropy", topk=2, pool=(3, 4))
            return output.sum() + answers["entropy"].sum() + (answers["topk"].values ** 2).sum() + answers["pool"].max()

        found.append(pulled(total, *inputs()[:3]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("by_pytorch")
def test_what_is_not_finite_reaches_what_it_reaches_by_blocks(number):
    found = []
    for kernel in ("compiled", "blockwise"):
        query, key, value, _ = inputs()
        key[0, 1, 5, 2] = number

        def total(query, key, value, kernel=kernel):
            output, weights = regard.attention(query, key, value, mask=masks.window(9, 9), kernel=kernel)
            return (output**2).sum() + weights.entropy().sum() + (weights.received() ** 2).sum()

        found.append(pulled(total, query, key, value))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
def test_scores_of_any_size_have_exact_gradients(size):
    scores = torch.tensor([[0.0, -1.0, -2.0, -3.0]] * 2, dtype=torch.float64)
    arrays = [torch.ones(2, 1), torch.zeros(4, 1), torch.eye(4)]
    arrays = [array.double() for array in arrays]
    total = functools.partial(plainly, mask=torch.ones(2, 4, dtype=torch.bool))
    one, two = (
        torch.autograd.grad(function(bias), bias)[0]
        for bias in [scores.clone().requires_grad_()]
        for function in (
            lambda bias: mine(*arrays, bias=bias + size),
            lambda bias: total(*(array[None] for array in arrays), bias=bias),
        )
    )
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


# --- memory, and which kernel ----------------------------------------------------------------------------------------

MEASURED = """
import ctypes, pathlib
import torch, regard

def status(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

def taken(length):
    arrays = [torch.randn(1, 1, length, 64, requires_grad=True) for _ in range(3)]
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    output, weights = regard.attention(*arrays, ask=("entropy", "received"))
    assert weights.kernel == "compiled"
    ((output ** 2).sum() + weights.entropy().mean() + (weights.received() ** 2).mean()).backward()
    assert all(array.grad.isfinite().all() for array in arrays)
    kept = 4 * length * 64 * (1 + 1 + 3)  # the output, its square's gradient, and three gradients
    return status("VmHWM") - before - kept / 2**20

taken(600)
print(taken(16384))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_at_most_64_mb_at_16384():
    """One matrix would take 1 GiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert 1 < float(done.stdout) < 64


def test_it_is_chosen_where_questions_are_differentiated():
    leaves = [torch.randn(2, 3, 300, 8, requires_grad=True) for _ in range(3)]
    weights = regard.attention(*leaves, ask=ASKED).weights
    assert (weights.kernel, weights.reason) == ("compiled", "questions on the way")
    assert regard.attention(*leaves).weights.kernel == "fused"


def test_one_pass_gives_the_gradients_of_all_on_the_way(monkeypatch):
    swept = []
    evaluator = regard._compiled.gradients.evaluator
    monkeypatch.setattr(
        regard._compiled.gradients, "evaluator", lambda function: swept.append(function) or evaluator(function)
    )
    leaves = [torch.randn(2, 3, 300, 8, requires_grad=True) for _ in range(3)]
    output, weights = regard.attention(*leaves, ask=ASKED)
    (output.sum() + weights.entropy().sum() + (weights.received() ** 2).sum()).backward()
    assert len(swept) == 1
    output, weights = regard.attention(*leaves, ask=ASKED)
    output.sum().backward()
    assert [len(function.given) for function in swept] == [3, 1]


def test_under_a_transform_it_says_why_not():
    query = torch.tensor(cases.numbers(1, 9, 3))
    with pytest.raises(regard.errors.UnsupportedError, match="not in the processor's memory, or not known yet"):
        torch.func.grad(lambda query: regard.attention(query, query, query, kernel="compiled").output.sum())(query)
