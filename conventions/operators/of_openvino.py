"""OpenVINO."""

import numpy as np
import openvino
from openvino import opset13

from operators import Found, Operators

operators = Operators()
LIBRARIES = ("openvino",)


@operators("openvino `scaled_dot_product_attention`")
def function(query, key, value, *, mask=None, added=None, causal=False):
    mask = added if mask is None else mask
    given = [array for array in (query, key, value, mask) if array is not None]
    inputs = [opset13.parameter(array.shape, array.dtype) for array in given]
    node = opset13.scaled_dot_product_attention(*inputs, causal=causal)
    made = openvino.compile_model(openvino.Model([node], inputs), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return Found(np.array(made(given)[0]))
