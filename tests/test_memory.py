"""Memory in numbers: what a process takes at its peak beyond its inputs and results, at n, and at n and 2 n."""

import json
import subprocess
import sys

import pytest

# One head of width 64. The process first does everything at a small length, so that the program itself is loaded;
# then each step on its own: Linux forgets the largest size the process ever had when 5 is written to `clear_refs`.
PROGRAM = """
import functools, json, sys
framework, steps = sys.argv[1], json.loads(sys.argv[2])
import numpy as np
import regard

def memory(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

if framework == "torch":
    import torch
    torch.set_num_threads(1)
    array, ready = torch.from_numpy, lambda x: x
elif framework == "jax":
    import jax, jax.numpy as jnp
    array, ready = jnp.asarray, jax.block_until_ready
elif framework == "tensorflow":
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(1)
    array, ready = tf.constant, lambda x: x
else:
    array, ready = lambda x: x, lambda x: x

# NumPy by blocks, as where there is no Numba; test_compiled.py holds the compiled pass to its memory.
attention = functools.partial(regard.attention, kernel="blockwise" if framework == "numpy" else "auto")

def question(weights, task):
    return {
        "entropy": weights.entropy,
        "received": weights.received,
        "max": weights.max,
        "argmax": weights.argmax,
        "topk": lambda: tuple(weights.topk(8)),
        "max_score": weights.max_score,
        "pool": lambda: weights.pool(64, 64),
        "mass": lambda: weights.mass([0]),
        "distance": weights.distance,
        "tile": lambda: weights[..., :64, :64],
        "product": lambda: weights @ weights_of["x"],
        "transposed": lambda: weights.T @ weights_of["x"],
        "ask": lambda: tuple(weights.ask("entropy", "received", pool=(64, 64)).values()),
    }[task]()

weights_of = {}

def inputs(length):
    random = np.random.default_rng(0)
    arrays = [array(random.standard_normal((1, length, 64), np.float32)) for _ in range(3)]
    weights_of["x"] = arrays[2][0, :, :2]
    return arrays

def run(arrays, task):
    if task == "forward":
        return ready(attention(*arrays).output)
    if task == "backward":
        def loss(*given):
            return (attention(*given).output ** 2)
        if framework == "torch":
            given = [x.clone().requires_grad_() for x in arrays]
            return torch.autograd.grad(loss(*given).sum(), given)
        if framework == "jax":
            return ready(jax.jit(jax.grad(lambda *g: loss(*g).sum(), argnums=(0, 1, 2)))(*arrays))
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            total = tf.reduce_sum(loss(*arrays))
        return tape.gradient(total, arrays)
    if task == "twice":  # the gradients of the squared length of a gradient, which a penalty needs
        def loss(*given):
            output, weights = attention(*given)
            return (output ** 2).sum() + weights.entropy().sum() if framework != "tensorflow" else (
                tf.reduce_sum(output ** 2) + tf.reduce_sum(weights.entropy())
            )
        if framework == "torch":
            given = [x.clone().requires_grad_() for x in arrays]
            [first] = torch.autograd.grad(loss(*given), given[:1], create_graph=True)
            return torch.autograd.grad((first ** 2).sum(), given)
        if framework == "jax":
            return ready(jax.jit(jax.grad(lambda *g: (jax.grad(loss)(*g) ** 2).sum(), argnums=(0, 1, 2)))(*arrays))
        with tf.GradientTape() as outer:
            outer.watch(arrays)
            with tf.GradientTape() as inner:
                inner.watch(arrays[0])
                total = loss(*arrays)
            total = tf.reduce_sum(inner.gradient(total, arrays[0]) ** 2)
        return outer.gradient(total, arrays)
    return ready(question(attention(*arrays).weights, task))

found = []
for task, n in steps:
    run(inputs(512), task)
    arrays = inputs(n)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = memory("VmRSS")
    results = run(arrays, task)
    found.append(memory("VmHWM") - before)
    del results
print(json.dumps(found))
"""

MB = 2**20
TASKS = [
    "forward",
    "entropy",
    "received",
    "max",
    "argmax",
    "topk",
    "max_score",
    "pool",
    "mass",
    "distance",
    "tile",
    "product",
    "transposed",
    "ask",
]
FRAMEWORKS = ["numpy", "torch", "jax", "tensorflow"]


def extra(framework, *steps, program=PROGRAM):
    """Bytes at the peak of each step beyond those before it; compilers take some at each new length, however small."""
    done = subprocess.run(
        [sys.executable, "-c", program, framework, json.dumps(steps)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def results(task, n):
    """Bytes of what the task returns and keeps, at most: outputs, gradients, log-sum-exps."""
    return {"forward": 1, "backward": 8, "twice": 16}.get(task, 3) * n * 64 * 4


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS[1:])
def test_second_derivatives_take_memory_linear_in_the_length(framework):
    """One matrix would take 1 GiB; a tile's second derivatives are some tens of tiles of up to 8 MB."""
    tiny, whole = extra(framework, ("twice", 500), ("twice", 16384))
    assert whole - tiny <= 256 * MB + results("twice", 16384)


@pytest.mark.slow
@pytest.mark.parametrize("task", [*TASKS, "backward"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_at_most_64_mb_at_16384(framework, task):
    """The whole matrix would take 1 GiB."""
    if (framework, task) == ("numpy", "backward"):
        return  # NumPy has no gradients
    tiny, whole = extra(framework, (task, 500), (task, 16384))
    assert whole - tiny <= 64 * MB + results(task, 16384)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_memory_grows_as_the_length_does(framework):
    """Two thousand to six: linear growth adds a few MB, a matrix of floats would add 128."""
    steps = [(task, n) for task in ("forward", "ask") for n in (500, 2048, 6144)]
    found = dict(zip(steps, extra(framework, *steps), strict=True))
    for task in ("forward", "ask"):
        assert found[task, 6144] - found[task, 2048] <= 48 * MB, found
        assert found[task, 6144] - found[task, 500] <= 64 * MB, found


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_memory_of_the_backward_pass_too(framework):
    small, large = extra(framework, ("backward", 2048), ("backward", 5120))
    assert large - small <= 48 * MB, (small, large)  # a matrix of floats would add 84, and a backward pass has two


def test_a_matrix_would_be_noticed():
    """The measurement sees what it is to see: the plain computation fails the bounds."""
    dense = PROGRAM.replace(
        "return ready(attention(*arrays).output)",
        "return np.exp(arrays[0][0] @ arrays[1][0].T)",
    )
    assert dense != PROGRAM
    small, large = extra("numpy", ("forward", 4096), ("forward", 8192), program=dense)
    assert large - small >= 128 * MB


LONG = """
import json
import numpy as np, torch
import regard

def memory(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

with torch.no_grad():
    arrays = [torch.randn(1, 1, 131072, 64) for _ in range(3)]
    before = memory("VmRSS")
    output, weights = regard.attention(*arrays)
    answers = weights.ask("received", "entropy")
    rows = weights[0, 0, 100000:100002]
    print(json.dumps({
        "grew": memory("VmHWM") - before,
        "finite": bool(output.isfinite().all()),
        "received": float(answers["received"].double().sum()),
        "row": float((rows @ arrays[2][0, 0] - output[0, 0, 100000:100002]).abs().max()),
        "entropy": float((answers["entropy"][0, 0, 100000:100002] + (rows * rows.log()).sum(-1)).abs().max()),
    }))
"""


@pytest.mark.slow
def test_a_hundred_and_thirty_thousand_positions():
    """The matrix would take 69 GB. Each row sums to one, so what all keys receive is the number of queries."""
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["finite"]
    assert found["received"] == pytest.approx(131072, rel=1e-5)
    assert found["row"] < 1e-5
    assert found["entropy"] < 1e-4
    assert found["grew"] <= 512 * MB
