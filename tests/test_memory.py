"""Memory in numbers: what a process takes at its peak beyond its inputs and results, at n, and at n and 2 n."""

import json
import subprocess
import sys

import pytest

# One head of width 64. The process first does everything at a small length, so that the peak it has then is that of
# the program itself; then at n. `ru_maxrss` is the largest size the process ever had.
PROGRAM = """
import json, os, resource, sys
framework, task, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
import numpy as np
import regard

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

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

def questions(weights):
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

def run(arrays):
    if task == "forward":
        return ready(regard.attention(*arrays).output)
    if task == "backward":
        def loss(*given):
            return (regard.attention(*given).output ** 2)
        if framework == "torch":
            given = [x.clone().requires_grad_() for x in arrays]
            return torch.autograd.grad(loss(*given).sum(), given)
        if framework == "jax":
            return ready(jax.jit(jax.grad(lambda *g: loss(*g).sum(), argnums=(0, 1, 2)))(*arrays))
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            total = tf.reduce_sum(loss(*arrays))
        return tape.gradient(total, arrays)
    return ready(questions(regard.attention(*arrays).weights))

run(inputs(512))
arrays = inputs(n)
before = peak()
results = run(arrays)
print(json.dumps(peak() - before))
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


def extra(framework, task, n, program=PROGRAM):
    """Bytes at the peak beyond those before the call."""
    done = subprocess.run(
        [sys.executable, "-c", program, framework, task, str(n)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def results(task, n):
    """Bytes of what the task returns and keeps, at most: outputs, gradients, log-sum-exps."""
    return {"forward": 1, "backward": 8}.get(task, 3) * n * 64 * 4


@pytest.mark.slow
@pytest.mark.parametrize("task", [*TASKS, "backward"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_at_most_64_mb_at_16384(framework, task):
    """The whole matrix would take 1 GiB."""
    if (framework, task) == ("numpy", "backward"):
        return  # NumPy has no gradients
    assert extra(framework, task, 16384) <= 64 * MB + results(task, 16384)


@pytest.mark.parametrize("task", ["forward", "ask"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_memory_grows_as_the_length_does(framework, task):
    """Four thousand to eight: linear growth adds a few MB, a matrix of floats would add 192."""
    small, large = (extra(framework, task, n) for n in (4096, 8192))
    assert large - small <= 32 * MB
    assert large <= 64 * MB


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_memory_of_the_backward_pass_too(framework):
    assert extra(framework, "backward", 4096) <= 48 * MB  # the matrix alone would take 64


def test_a_matrix_would_be_noticed():
    """The measurement sees what it is to see: the plain computation fails the bound."""
    dense = PROGRAM.replace(
        "return ready(regard.attention(*arrays).output)",
        "return np.exp(arrays[0][0] @ arrays[1][0].T)",
    )
    assert dense != PROGRAM
    assert extra("numpy", "forward", 4096, dense) >= 64 * MB
