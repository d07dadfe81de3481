#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy.save_file` writes the memory of an array as it lies, whatever its strides say,
# so a transposed array, or one in Fortran's order, is read back with its numbers at other places. Nothing is said.
# Seen: the transpose of [[0, 1, 2], [3, 4, 5]] comes back as [[0, 1], [2, 3], [4, 5]].
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

array = np.arange(6, dtype=np.float32).reshape(2, 3)
save_file({"plain": array, "transposed": array.T, "fortran": np.asfortranarray(array)}, "arrays.safetensors")
read = load_file("arrays.safetensors")
print("safetensors", safetensors.__version__, "-", array.T.tolist(), "is read as", read["transposed"].tolist())
assert np.array_equal(read["plain"], array)
assert read["transposed"].shape == (3, 2) and not np.array_equal(read["transposed"], array.T), "it is right now"
assert not np.array_equal(read["fortran"], array)
PROGRAM
