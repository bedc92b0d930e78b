"""Small ONNX networks to plant faults in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)
WEIGHTS = {
    "conv": RNG.normal(0, 0.2, (8, 3, 3, 3)), "scale": RNG.uniform(0.5, 2, 8), "bias": RNG.normal(size=8),
    "mean": RNG.normal(0, 0.3, 8), "var": RNG.uniform(0.5, 2, 8), "w1": RNG.normal(0, 0.3, (8, 8)),
    "w2": RNG.normal(0, 0.3, (8, 8)), "b1": RNG.normal(size=8), "g": RNG.uniform(0.5, 2, 8), "h": RNG.normal(size=8),
    "half": np.array(0.5), "one": np.array(1.0), "root": np.array(2.0**0.5),
}  # fmt: skip
FEEDS = {"x": RNG.normal(size=(2, 3, 7, 5)).astype(np.float32)}
"""Extents that all differ, so that a transposed layout cannot be mistaken for the plain one."""


def network(change: Callable[[onnx.GraphProto], Any] | None = None) -> onnx.ModelProto:
    """Convolution, batch norm, relu, then a feed-forward block with a written-out GELU, a residual and a layer norm."""
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"], "norm", epsilon=1e-5),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("Transpose", ["r"], ["t"], "transpose", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["t", "w1"], ["m"], "up"),
        helper.make_node("Add", ["m", "b1"], ["a"], "up_bias"),
        helper.make_node("Div", ["a", "root"], ["g1"], "gelu_div"),
        helper.make_node("Erf", ["g1"], ["g2"], "gelu_erf"),
        helper.make_node("Add", ["g2", "one"], ["g3"], "gelu_add"),
        helper.make_node("Mul", ["a", "g3"], ["g4"], "gelu_mul"),
        helper.make_node("Mul", ["g4", "half"], ["e"], "gelu_half"),
        helper.make_node("MatMul", ["e", "w2"], ["d"], "down"),
        helper.make_node("Add", ["d", "t"], ["s"], "residual"),
        helper.make_node("LayerNormalization", ["s", "g", "h"], ["l"], "layer_norm", axis=-1, epsilon=1e-5),
        helper.make_node("Softmax", ["l"], ["y"], "softmax", axis=-1),
    ]
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in WEIGHTS.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "small", [x], [y], stored)
    if change is not None:
        change(graph)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    return next(one for one in graph.node if one.name == name)


def set_attribute(graph: onnx.GraphProto, name: str, attribute: str, value: Any) -> None:
    found = node(graph, name)
    kept = [one for one in found.attribute if one.name != attribute]
    del found.attribute[:]
    found.attribute.extend([*kept, helper.make_attribute(attribute, value)])


def set_weight(graph: onnx.GraphProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(one for one in graph.initializer if one.name == name)
    value = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def rewire(graph: onnx.GraphProto, name: str, old: str, new: str) -> None:
    found = node(graph, name)
    found.input[:] = [new if taken == old else taken for taken in found.input]


def insert_after(graph: onnx.GraphProto, name: str, operator: str, **attributes: Any) -> None:
    """An operator behind another, between it and everything that takes its result."""
    found = node(graph, name)
    made = found.output[0]
    for other in graph.node:
        other.input[:] = [f"{made}_more" if taken == made else taken for taken in other.input]
    place = list(graph.node).index(found)
    graph.node.insert(place + 1, helper.make_node(operator, [made], [f"{made}_more"], f"more_{name}", **attributes))


def remove(graph: onnx.GraphProto, name: str) -> None:
    """Take an operator out; what took its result takes its first input."""
    found = node(graph, name)
    for other in graph.node:
        rewire(graph, other.name, found.output[0], found.input[0])
    graph.node.remove(found)


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every node and tensor under another name; inputs and outputs of the graph keep theirs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = {value.name for value in (*copy.graph.input, *copy.graph.output)}
    names: dict[str, str] = {}

    def new(name: str) -> str:
        return name if name in kept or not name else names.setdefault(name, f"t{len(names)}")

    for number, found in enumerate(copy.graph.node):
        found.name = f"n{number}"
        found.input[:] = [new(name) for name in found.input]
        found.output[:] = [new(name) for name in found.output]
    for tensor in copy.graph.initializer:
        tensor.name = new(tensor.name)
    return copy


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """As onnxruntime rewrites it at its highest level: the convolution takes in the batch norm, and more."""
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    return OnnxRuntimeModel(model.SerializeToString()).optimised_proto()
