#!/usr/bin/env bash
# JAX 0.10.2, CPU: under jit the maximum of numbers of which one is NaN is a number, by the array's shape; in smaller
# arrays, and in NumPy, it is NaN, and so is the sum in all. Seen: along either axis, arrays from 4,096 numbers on lose
# the NaN and those of at most 1,056 keep it. Where the line lies may depend on the processor; that there is one is
# what is looked for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
export JAX_PLATFORMS=cpu
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import jax
import jax.numpy as jnp
import numpy as np

lost, summed, shapes = [], [], [(rows, columns) for rows in (8, 33, 128) for columns in (8, 32, 128, 1024)]
for rows, columns in shapes:
    array = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    array[rows // 2, columns // 2] = np.nan
    for axis, place in ((0, columns // 2), (1, rows // 2)):
        assert np.isnan(array.max(axis)[place])
        if not np.isnan(jax.jit(lambda numbers: jnp.max(numbers, axis))(array)[place]):
            lost.append((rows, columns, axis))
        if not np.isnan(jax.jit(lambda numbers: jnp.sum(numbers, axis))(array)[place]):
            summed.append((rows, columns, axis))
print("jax", jax.__version__, "- NaN is lost by the maximum of", len(lost), "of", 2 * len(shapes),
      "(rows, columns, axis):", lost, "- by the sum of", len(summed))
assert not summed
assert lost, "the maximum keeps NaN now"
PROGRAM
