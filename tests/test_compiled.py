"""`kernel="compiled"`: every case of the table and every question against the oracle, and what it must not change."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cases
import checks
import frameworks
import regard
from regard import masks
from regard._compiled import store, units
from regard.cli import app

TWO = ("numpy", "torch")
EVERY = [pytest.param(name, case, id=f"{name}-{case}") for name in TWO for case in cases.ALL]
ASKED = [pytest.param(name, case, id=f"{name}-{case}") for name in TWO for case in cases.FOR_QUESTIONS]


def attend(backend, case, **options):
    positional, keywords = case.arguments(backend)
    return regard.attention(*positional, **keywords, **{"kernel": "compiled", **options})


@pytest.mark.parametrize(("name", "case"), EVERY)
def test_output_logsumexp_and_weights_are_the_oracles(name, case):
    backend, case = frameworks.ALL[name], cases.ALL[case]
    output, weights = attend(backend, case)
    assert (weights.kernel, weights.reason) == ("compiled", "asked for")
    checks.assert_answer(backend, case, output, "output")
    statistic = checks.accumulator(case.dtype)
    checks.assert_answer(backend, case, weights.logsumexp, "logsumexp", dtype=statistic, unit=1)
    dense = weights.dense()
    checks.assert_answer(backend, case, dense, "weights", dtype=backend.dtype(dense))


@pytest.mark.parametrize(("name", "case"), ASKED)
def test_every_question_is_answered_as_by_the_oracle(name, case):
    backend, case = frameworks.ALL[name], cases.ALL[case]
    weights = attend(backend, case).weights
    statistic = checks.accumulator(case.dtype)
    for question, unit in (("entropy", 1), ("received", 0), ("max", 0), ("distance", 0), ("max_score", 0)):
        answer = getattr(weights, question)()
        checks.assert_answer(backend, case, answer, question, dtype=statistic, unit=unit)
    *_, queries, keys = case.expected.weights.shape
    if keys:
        count, shape = min(3, keys), (min(2, queries), min(3, keys))
        found = weights.topk(count)
        checks.assert_answer(backend, case, found.values, "topk", count, dtype=statistic)
        taken = np.take_along_axis(case.expected.weights, backend.numpy(found.indices), -1)
        np.testing.assert_allclose(taken, backend.numpy(found.values), rtol=1e-4, atol=1e-6)
        best = np.take_along_axis(case.expected.weights, backend.numpy(weights.argmax())[..., None], -1)[..., 0]
        np.testing.assert_allclose(best, case.expected.max(), rtol=1e-5, atol=1e-7)
        for reduce in ("mean", "max"):
            checks.assert_answer(
                backend, case, weights.pool(*shape, reduce), "pool", *shape, dtype=statistic, reduce=reduce
            )
        checks.assert_answer(backend, case, weights.mass([0, keys - 1]), "mass", [0, keys - 1], dtype=statistic)
        checks.assert_answer(backend, case, weights.received([0]), "received", [0], dtype=statistic)


@pytest.mark.parametrize(("name", "case"), ASKED)
def test_products_are_the_oracles(name, case):
    backend, case = frameworks.ALL[name], cases.ALL[case]
    weights = attend(backend, case).weights
    lead = case.expected.weights.shape[:-2]
    *_, queries, keys = case.expected.weights.shape
    for transposed, length in ((False, keys), (True, queries)):
        values = frameworks.rounded(cases.numbers(*lead, length, 3), case.dtype)
        given = backend.array(values, case.dtype)
        answer = weights.T @ given if transposed else weights @ given
        question = "transposed_times" if transposed else "times"
        checks.assert_answer(backend, case, answer, question, values.astype(np.float64), dtype=case.dtype)


@pytest.mark.parametrize(("name", "case"), ASKED)
def test_questions_on_the_way_are_answered_as_afterwards(name, case):
    backend, case = frameworks.ALL[name], cases.ALL[case]
    asked = ("entropy", "received", "max", "argmax", "max_score", "distance")
    output, weights = attend(backend, case, ask=asked)
    checks.assert_answer(backend, case, output, "output")
    statistic = checks.accumulator(case.dtype)
    answers = weights.ask(*asked)
    for question, unit in (("entropy", 1), ("received", 0), ("max", 0), ("distance", 0), ("max_score", 0)):
        checks.assert_answer(backend, case, answers[question], question, dtype=statistic, unit=unit)


# --- what must not change a result -----------------------------------------------------------------------------------


def inputs(length=700, heads=3, width=16):
    return [cases.numbers(2, heads, length, width, seed=seed).astype(np.float32) for seed in range(3)]


def answered(arrays, mask=None):
    ask = ("entropy", "received", ("topk", 4))
    output, weights = regard.attention(*arrays, mask=mask, causal=True, kernel="compiled", ask=ask)
    answers = weights.ask("entropy", "received", "distance", topk=4, pool=(5, 7))
    return [output, *answers["topk"], *(answers[name] for name in ("entropy", "received", "distance", "pool"))]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1 << 12, 1 << 16, 1 << 24])
@pytest.mark.parametrize("name", TWO)
def test_the_size_of_tiles_changes_nothing(name, size, monkeypatch):
    arrays = [frameworks.ALL[name].array(x) for x in inputs()]
    expected = answered(arrays)
    monkeypatch.setattr(units, "TILE", size)
    assert_same(answered(arrays), expected)


def test_the_number_of_threads_changes_no_bit_and_comes_back():
    arrays = [torch.tensor(x) for x in inputs()]
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(answered(arrays))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


def test_threads_have_one_thread_each_and_work_begun_in_one_stays_there():
    """In a new process, where no operator has run in them; work that waited for its own thread would never end."""
    program = """
import torch
torch.set_num_threads(2)
from regard._backends import torch as backend
from regard._compiled.threads import each
found = []
def inner(_):
    torch.ones(1 << 16).abs()
    found.append(torch.get_num_threads())
each(backend, lambda _: each(backend, inner, range(4)), range(4))
torch.set_num_threads(3)  # a pool of its own
each(backend, lambda _: (torch.set_num_threads(2), each(backend, inner, range(4)), torch.set_num_threads(1)), range(6))
print(sorted(set(found[:16])), len(found), torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["[1]", "40", "3"], done.stderr


@pytest.mark.parametrize("name", TWO)
def test_several_threads_of_the_caller_get_what_one_gets(name):
    arrays = [frameworks.ALL[name].array(x) for x in inputs()]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected, found = answered(arrays), {}
        callers = [threading.Thread(target=lambda at=at: found.update({at: answered(arrays)})) for at in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        torch.set_num_threads(before)
    assert len(found) == 4
    for answers in found.values():
        assert_same(answers, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("name", TWO)
def test_a_forked_process_gets_what_its_parent_got(name):
    program = f"""
import os, numpy as np, torch, regard
torch.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((2, 4, 600, 16)).astype("f")
x = torch.tensor(x) if "{name}" == "torch" else x
ask = lambda: np.asarray(regard.attention(x, x, x, kernel="compiled").weights.received())
expected = ask()
child = os.fork()
if child == 0:
    os._exit(0 if np.allclose(ask(), expected) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0"], done.stderr


def test_without_compiler_the_loops_are_python():
    program = """
import numpy as np, regard
x = np.random.default_rng(0).standard_normal((2, 9, 4)).astype("f")
found = [regard.attention(x, x, x, causal=True, kernel=kernel) for kernel in ("compiled", "blockwise")]
assert found[0].weights.kernel == "compiled"
questions = [[each.output, *each.weights.ask("entropy", "received", pool=(2, 3)).values()] for each in found]
for one, other in zip(*questions, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
"""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr


# --- which kernel, and why -------------------------------------------------------------------------------------------


def test_it_is_chosen_and_says_why():
    arrays = inputs()
    weights = regard.attention(*arrays).weights
    assert (weights.kernel, weights.reason) == ("compiled", "not fused: NumPy, which has no fused kernel")
    assert "kernel=compiled (not fused: NumPy" in repr(weights)
    tensors = [torch.tensor(x) for x in arrays]
    assert regard.attention(*tensors).weights.kernel == "fused"
    weights = regard.attention(*tensors, ask=("entropy",)).weights
    assert (weights.kernel, weights.reason) == ("compiled", "questions on the way")
    assert regard.attention(*tensors, kernel="blockwise").weights.kernel == "blockwise"


def test_what_is_not_compiled_yet_is_not_compiled_in_a_call(monkeypatch):
    monkeypatch.setattr(store, "ready", lambda dtype: False)
    weights = regard.attention(*inputs()).weights
    assert weights.kernel == "blockwise"
    assert weights.reason.endswith("; not compiled yet, see regard.compile")


@pytest.mark.parametrize("name", ["jax", "tensorflow"])
def test_other_frameworks_say_why_not(name):
    arrays = [frameworks.ALL[name].array(x, "float32") for x in inputs(9)]
    with pytest.raises(regard.errors.UnsupportedError, match=f"got arrays of {name}, which has a compiler of its own"):
        regard.attention(*arrays, kernel="compiled")


def test_dropout_and_spoiled_values_say_why_not():
    query, key, value = inputs(9)
    with pytest.raises(regard.errors.UnsupportedError, match="got dropout"):
        regard.attention(query, key, value, dropout=0.5, seed=1, kernel="compiled")
    value[0, 0, 3] = np.inf
    with pytest.raises(regard.errors.UnsupportedError, match="got values that are not finite, under a mask"):
        regard.attention(query, key, value, causal=True, kernel="compiled")


def test_without_numba_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(store, "installed", lambda: False)
    with pytest.raises(regard.errors.UnsupportedError, match=r"got no Numba; pip install 'regard\[fast\]'"):
        regard.attention(*inputs(9), kernel="compiled")
    with pytest.raises(regard.errors.UnsupportedError, match="need Numba; got none"):
        regard.compile()
    assert regard.attention(*inputs()).weights.kernel == "blockwise"


@pytest.mark.parametrize("command", [["finetune", "x.yaml"], ["search", "x.yaml"], ["look", "./nowhere", "a text"]])
def test_commands_that_ask_compile_and_say_so_once(command, monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(store, "compile", lambda: done.append(True))
    monkeypatch.setattr(store, "waiting", lambda: not done)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(
        "task: text-classification\nmodel: ./nowhere\ndata: {train: no.csv}\noutput: run\n"
    )
    told = [CliRunner().invoke(app, command).stderr for _ in range(2)]
    assert told[0].startswith("compiling what answers questions about attention")
    assert "compiling what" not in told[1]
    assert done == [True]


def test_commands_compile_nothing_for_a_mistake_and_say_nothing_when_quiet(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(store, "compile", lambda: done.append(True))
    monkeypatch.setattr(store, "waiting", lambda: not done)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(
        "task: text-classification\nmodel: ./nowhere\ndata: {train: no.csv}\noutput: run\n"
    )
    CliRunner().invoke(app, ["finetune", "none.yaml"])
    assert not done
    assert "compiling what" not in CliRunner().invoke(app, ["finetune", "x.yaml", "--quiet"]).stderr
    assert done == [True]


# --- NaN, inf, large scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", TWO)
def test_what_is_not_finite_reaches_the_rows_that_it_reaches_by_blocks(name, number):
    query, key, value = inputs(40)
    key[0, 1, 5, 2] = number
    arrays = [frameworks.ALL[name].array(x) for x in (query, key, value)]
    asked = ("entropy", "received", "max", "max_score")
    with np.errstate(all="ignore"):
        results = [
            regard.attention(*arrays, mask=masks.window(9, 9), kernel=kernel, ask=asked)
            for kernel in ("compiled", "blockwise")
        ]
    for one, other in zip(
        *[[np.asarray(r.output), *map(np.asarray, r.weights.ask(*asked).values())] for r in results], strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("name", TWO)
def test_scores_of_any_size_have_exact_weights(name, size):
    scores = np.array([[0.0, -1.0, -2.0, -3.0]] * 2) + size
    query, key = np.ones((2, 1)), np.zeros((4, 1))
    arrays = [frameworks.ALL[name].array(x, "float64") for x in (query, key, np.eye(4))]
    bias = frameworks.ALL[name].array(scores, "float64")
    output, weights = regard.attention(*arrays, bias=bias, kernel="compiled")
    expected = np.exp([0.0, -1, -2, -3]) / np.exp([0.0, -1, -2, -3]).sum()
    np.testing.assert_allclose(np.asarray(output)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(weights.entropy())[0], -(expected * np.log(expected)).sum(), rtol=1e-6)


# --- memory, long inputs, interrupts ---------------------------------------------------------------------------------

MEASURED = """
import ctypes, pathlib
import numpy as np, regard
from regard import masks

def status(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

def taken(length, mask):
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((1, 1, length, 64), dtype=np.float32) for _ in range(3)]
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    output, weights = regard.attention(*arrays, mask=mask, kernel="compiled", ask=("entropy", "received"))
    answers = weights.ask("entropy", "received")
    assert np.isfinite(output).all() and abs(answers["received"].sum() / length - 1) < 1e-3
    return status("VmHWM") - before - (output.nbytes + 4 * 4 * length) / 2**20

taken(600, None)
"""


def beyond(call):
    """Megabytes beyond inputs and results that a call takes in a process of its own."""
    program = f"{MEASURED}\nprint({call})"
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_at_most_32_mb_at_16384():
    assert 1 < beyond("taken(16384, None)") < 32


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_positions_in_a_window():
    assert beyond("taken(1_000_000, masks.window(512, 511))") < 128


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_stops_it_within_a_second():
    program = """
import os, signal, threading, time
import torch, regard
torch.set_num_threads(2)
x = torch.randn(1, 8, 6000, 64)
regard.attention(x[:, :, :600], x[:, :, :600], x[:, :, :600], kernel="compiled")
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
start = time.perf_counter()
try:
    while True:
        regard.attention(x, x, x, kernel="compiled")
except KeyboardInterrupt:
    print(time.perf_counter() - start)
    print(regard.attention(x[:, :, :600], x[:, :, :600], x[:, :, :600], kernel="compiled").output.isfinite().all())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    seconds, right = done.stdout.split()
    assert right.startswith("tensor(True")
    assert float(seconds) < 1.3
