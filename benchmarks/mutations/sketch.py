"""Write an ONNX network by hand, node by node: names, random weights and constants taken care of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_IR_VERSION = 10
"""What the oldest runtime that the corpus is run on still reads, and new enough for opset 20."""

_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
}


class Sketch:
    """A graph that grows.

    Args:
        name: of the graph.
        opset: of the default domain.
        seed: of the weights.
        outer: the sketch that this one is a subgraph of; names stay unique across both.
    """

    def __init__(self, name: str, *, opset: int = 17, seed: int = 0, outer: Sketch | None = None) -> None:
        self.name = name
        self.opset = opset
        self.random = outer.random if outer else np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._scope: list[str] = [name] if outer else []
        self._taken: dict[str, int] = outer._taken if outer else {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names made inside begin with `name/`."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    def input(self, name: str, dtype: str, shape: Sequence[int | str] | None) -> str:
        """Declare an input."""
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, tensor: str, name: str, dtype: str, shape: Sequence[int | str] | None) -> None:
        """Return a tensor, which is renamed to `name`."""
        for node in self.nodes:
            node.output[:] = [name if one == tensor else one for one in node.output]
            node.input[:] = [name if one == tensor else one for one in node.input]
        self.outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))

    def weight(self, name: str, values: Any, dtype: str = "float32") -> str:
        """An initialiser."""
        full = self._unique("/".join([*self._scope, name]))
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), full))
        return full

    def ints(self, *values: int, name: str = "shape") -> str:
        """An int64 vector as an initialiser."""
        return self.weight(name, list(values), "int64")

    def scalar(self, value: float, name: str = "value", dtype: str = "float32") -> str:
        """A scalar as an initialiser."""
        return self.weight(name, value, dtype)

    def normal(self, name: str, *shape: int, fan_in: int | None = None, gain: float = 1.0) -> str:
        """Random weights that keep the variance: gain / √fan_in, where the fan-in is all axes but the first."""
        fan = fan_in or max(1, int(np.prod(shape[1:])))
        return self.weight(name, self.random.standard_normal(shape) * gain / np.sqrt(fan))

    def uniform(self, name: str, *shape: int, low: float, high: float) -> str:
        """Random weights between two bounds."""
        return self.weight(name, self.random.uniform(low, high, shape))

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append a node with one output, and return that."""
        return self.multiple(operator, *inputs, outputs=1, name=name, **attributes)[0]

    def multiple(self, operator: str, *inputs: str, outputs: int, name: str = "", **attributes: Any) -> list[str]:
        """Append a node with several outputs."""
        full = self._unique("/".join([*self._scope, name or operator]))
        names = [f"{full}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=full, **attributes))
        return names

    def graph(self) -> onnx.GraphProto:
        """The graph so far."""
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)

    def proto(self) -> onnx.ModelProto:
        """The network, checked.

        Raises:
            onnx.checker.ValidationError: a node is not as its operator wants it.
        """
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(self.graph(), opset_imports=opsets, ir_version=_IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _unique(self, name: str) -> str:
        count = self._taken.get(name, 0)
        self._taken[name] = count + 1
        return f"{name}_{count}" if count else name
