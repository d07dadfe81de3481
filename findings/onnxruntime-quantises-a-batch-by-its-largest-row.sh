#!/usr/bin/env bash
# onnxruntime 1.32.0: quantize_dynamic has one scale for all rows of a product's input, so what a model says of a row
# depends on the rows beside it. Seen: a row of numbers of size 1 is off by 0.04 alone and by 2.3 beside a row that is
# 50 times as large, where right answers have a spread of 3.9.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

random = np.random.default_rng(0)
weights = random.standard_normal((16, 8)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], "product",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])], [numpy_helper.from_array(weights, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.save(model, "product.onnx")
quantize_dynamic("product.onnx", "quantised.onnx")
session = onnxruntime.InferenceSession("quantised.onnx")
row = random.standard_normal((1, 16)).astype(np.float32)
large = 50 * random.standard_normal((1, 16)).astype(np.float32)
right = row @ weights
alone = float(np.abs(session.run(None, {"x": row})[0] - right).max())
beside = float(np.abs(session.run(None, {"x": np.concatenate([row, large])})[0][:1] - right).max())
print("onnxruntime", onnxruntime.__version__, "- off by", alone, "alone and by", beside, "beside a larger row; spread",
      float(right.std()))
assert alone < 0.2
assert beside > 5 * alone, "rows have a scale each now"
PROGRAM
