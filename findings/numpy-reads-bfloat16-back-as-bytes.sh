#!/usr/bin/env bash
# NumPy 2.4.6, ml_dtypes 0.6.0: an array of bfloat16 is saved by np.savez without a word and read back as two raw bytes
# a number, |V2, with which no arithmetic is possible; the type's name is not in the file. Seen: dtype |V2, which a
# view as bfloat16 puts right for who knows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import ml_dtypes
import numpy as np

array = np.array([1.0, 2.5, -3.0], ml_dtypes.bfloat16)
np.savez("arrays.npz", array=array)
with np.load("arrays.npz") as file:
    read = file["array"]
print("numpy", np.__version__, "ml_dtypes", ml_dtypes.__version__, "-", array.dtype, "is read as", read.dtype)
assert np.array_equal(read.view(ml_dtypes.bfloat16), array)
assert read.dtype == np.dtype("V2"), "the type is read back now"
PROGRAM
