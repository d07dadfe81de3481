"""ONNX's operator Attention, in the reference evaluator and in onnxruntime."""

from functools import partial

import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

from operators import Found, Operator, Operators

operators = Operators()
LIBRARIES = ("onnx", "onnxruntime")


def model(opset, fed, attributes):
    names = [name if name in fed else "" for name in ("Q", "K", "V", "attn_mask")]
    node = helper.make_node("Attention", names if names[-1] else names[:-1], ["Y"], **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in fed.items()
    ]
    output = helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "attention", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)


def reference(made, fed):
    return ReferenceEvaluator(made).run(None, fed)[0]


def runtime(made, fed):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(made.SerializeToString(), options).run(None, fed)[0]


def attend(run, opset, query, key, value, *, mask=None, added=None, causal=False, softcap=0.0):
    return _attend(run, opset, query, key, value, mask, added, {"is_causal": int(causal), "softcap": float(softcap)})


def attend_in_windows(run, opset, query, key, value, *, mask=None, added=None, causal=False, softcap=0.0, window=None):
    attributes = {"is_causal": int(causal), "softcap": float(softcap)}
    if window is not None:
        attributes |= {"left_window_size": window, "right_window_size": window}
    return _attend(run, opset, query, key, value, mask, added, attributes)


def _attend(run, opset, query, key, value, mask, added, attributes):
    mask = added if mask is None else mask
    fed = {"Q": query, "K": key, "V": value} | ({} if mask is None else {"attn_mask": mask})
    return Found(run(model(opset, fed, attributes), fed))


for opset in (23, 24, 25):
    function = attend_in_windows if opset == 25 else attend
    for run in (reference, runtime):
        name = f"onnx opset {opset} in {'the reference' if run is reference else 'onnxruntime'}"
        operators.all.append(Operator(name, partial(function, run, opset), grouped=True))
