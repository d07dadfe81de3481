"""ONNX graphs whose products with constant weights are in whole numbers of eight bits.

onnxruntime's own dynamic quantisation takes one scale for a whole batch, padding included, so that a row's answer
depends on what is beside it. Here each row of an input has its own, found by operators of the graph:

    s = max_k |x_k| / 127,    X = round(x / s) + 128,    y = (X - 128) W s t

Numbers without a sign, from 1 to 255, are what its kernels multiply fast. OpenVINO is given whole weights with a scale
for each output, and rounds inputs itself, by parts of a row.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from regard.errors import UnsupportedError
from regard.finetuning.int8 import LEAST

PREFIX = "int8"


def quantize_graph(file: Path, by_row: bool) -> None:
    """Put whole numbers in the place of the weights in a file, in place.

    Args:
        file: the model; its weights lie in `.data` beside it, or inside.
        by_row: round the inputs, too, each row by its own scale.

    Raises:
        UnsupportedError: it has no products with constant weights.
    """
    import onnx

    model = onnx.load(str(file))
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        weights = graph.weights(node)
        if weights is None:
            graph.nodes.append(node)
        elif by_row:
            graph.multiply(node, *_rounded(weights))
        else:
            graph.keep_weights(node, *_rounded(weights))
    if not graph.count:
        raise UnsupportedError(
            f"export: need a graph with products of {LEAST} outputs or more by constant weights for int8; got one "
            "without; leave out quantize."
        )
    graph.finish()
    data = file.with_name(f"{file.name}.data")
    data.unlink(missing_ok=True)
    onnx.save(model, str(file), save_as_external_data=True, location=data.name)
    if data.is_file():
        data.chmod(file.stat().st_mode)  # which onnx gives to its writer alone


def _rounded(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of weights `(K, N)`, and the scale of each output `(N,)`."""
    largest = np.abs(weights).max(0)
    factors = np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(weights * factors).astype(np.int8), (largest / 127).astype(np.float32)


class _Graph:
    """A graph whose nodes are written anew, and the constants that come to it."""

    def __init__(self, graph: Any) -> None:
        self.graph, self.count = graph, 0
        self.nodes: list[Any] = []
        self.constants = {each.name: each for each in graph.initializer}
        self.rounded: dict[str, tuple[str, str]] = {}  # an input -> its whole numbers, and their scales

    def weights(self, node: Any) -> np.ndarray | None:
        """The weights `(K, N)` of a product by constants, None of any other node."""
        from onnx import numpy_helper

        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in self.constants:
            return None
        options = {each.name: each for each in node.attribute}
        if any(options[name].f != 1 for name in ("alpha", "beta") if name in options):
            return None
        if "transA" in options and options["transA"].i:
            return None
        found = numpy_helper.to_array(self.constants[node.input[1]])
        found = found.T if "transB" in options and options["transB"].i else found
        fits = found.ndim == 2 and found.dtype == np.float32 and found.shape[1] >= LEAST
        return found if fits else None

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant of this name, made once."""
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **options: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], **options))
        return output

    def multiply(self, node: Any, weights: np.ndarray, scales: np.ndarray) -> None:
        """A product in whole numbers, and back."""
        name = self._next()
        integers, rows = self._rows(node.input[0])
        inputs = [integers, self.constant(f"{name}_weights", weights), self._zero()]
        found = self.add("Cast", [self.add("MatMulInteger", inputs, f"{name}_sums")], f"{name}_numbers", to=1)
        found = self.add("Mul", [found, rows], f"{name}_by_row")
        self._close(node, found, self.constant(f"{name}_scales", scales), name)

    def _close(self, node: Any, found: str, scales: str, name: str) -> None:
        """The scales of the outputs, and a bias that the node adds."""
        bias = node.op_type == "Gemm" and len(node.input) > 2
        self.add("Mul", [found, scales], f"{name}_product" if bias else node.output[0])
        if bias:
            self.add("Add", [f"{name}_product", node.input[2]], node.output[0])

    def _rows(self, given: str) -> tuple[str, str]:
        """An input's whole numbers and the scale of each row; once for all products of it."""
        if given not in self.rounded:
            name = f"{PREFIX}_rows_{len(self.rounded)}"
            axes = self.constant(f"{PREFIX}_last", np.array([-1]))
            most = self.constant(f"{PREFIX}_most", np.array(127, np.float32))
            least = self.constant(f"{PREFIX}_least", np.array(1e-30, np.float32))  # a row of zeros
            one = self.constant(f"{PREFIX}_one", np.array(1, np.float32))
            largest = self.add("ReduceMax", [self.add("Abs", [given], f"{name}_sizes"), axes], f"{name}_largest")
            scales = self.add("Div", [self.add("Max", [largest, least], f"{name}_above"), most], f"{name}_scales")
            numbers = self.add("Div", [given, scales], f"{name}_numbers")
            integers = self.add("QuantizeLinear", [numbers, one, self._zero()], f"{name}_integers")
            self.rounded[given] = integers, scales
        return self.rounded[given]

    def keep_weights(self, node: Any, weights: np.ndarray, scales: np.ndarray) -> None:
        """The same product, by weights that are kept whole."""
        name = self._next()
        inputs = [self.constant(f"{name}_weights", weights), self.constant(f"{name}_scales", scales)]
        kept = self.add("DequantizeLinear", inputs, f"{name}_kept", axis=1)
        bias = node.op_type == "Gemm" and len(node.input) > 2
        self.add("MatMul", [node.input[0], kept], f"{name}_product" if bias else node.output[0])
        if bias:
            self.add("Add", [f"{name}_product", node.input[2]], node.output[0])

    def _next(self) -> str:
        self.count += 1
        return f"{PREFIX}_{self.count}"

    def _zero(self) -> str:
        return self.constant(f"{PREFIX}_zero", np.array(128, np.uint8))

    def finish(self) -> None:
        """Write nodes and constants, without those that nobody reads any longer."""
        read = Counter(name for node in self.nodes for name in node.input)
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(each for name, each in self.constants.items() if read[name])
