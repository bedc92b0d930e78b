"""Faults of activations: another approximation, another slope, other bounds, none at all."""

from __future__ import annotations

import math

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute

family = Family()


def _replaced(node: onnx.NodeProto, operator: str, *inputs: str) -> Planted:
    node.op_type = operator
    node.input[:] = list(inputs)
    del node.attribute[:]
    return Planted()


@family.kind("gelu_tanh", "Gelu", "Erf", cause="gelu_approximation")
def _gelu_tanh(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The tanh approximation in place of the error function."""
    if node.op_type == "Gelu":
        if attribute(node, "approximate", "none") == "tanh":
            return None
        set_attribute(node, "approximate", "tanh")
        return Planted()
    y = node.input[0]  # x / √2, so that √(2/π) (x + 0.044715 x³) = 2/√π · y (1 + 0.08943 y²)
    square = graph.before(node, "Mul", y, y)
    factor = graph.before(node, "Mul", square, graph.scalar(2 * 0.044715))
    factor = graph.before(node, "Add", factor, graph.scalar(1.0))
    inner = graph.before(node, "Mul", y, factor)
    return _replaced(node, "Tanh", graph.before(node, "Mul", inner, graph.scalar(2 / math.sqrt(math.pi))))


@family.kind("gelu_sigmoid", "Gelu", "Erf", cause="gelu_approximation")
def _gelu_sigmoid(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """x · sigmoid(1.702 x), the quick approximation."""
    x = node.input[0]
    factor = 1.702 if node.op_type == "Gelu" else 1.702 * math.sqrt(2)
    gate = graph.before(node, "Sigmoid", graph.before(node, "Mul", x, graph.scalar(factor)))
    if node.op_type == "Gelu":
        return _replaced(node, "Mul", x, gate)
    twice = graph.before(node, "Mul", gate, graph.scalar(2.0))
    return _replaced(node, "Sub", twice, graph.scalar(1.0))


@family.kind("relu_leaky", "Relu", cause="activation_kind", also=("activation_alpha",))
def _relu_leaky(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A slope of 0.01 below zero."""
    node.op_type = "LeakyRelu"
    set_attribute(node, "alpha", 0.01)
    return Planted()


@family.kind("activation_alpha", "LeakyRelu", "Elu", "PRelu", cause="activation_alpha")
def _activation_alpha(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The default slope of another framework; one slope for all channels."""
    if node.op_type == "PRelu":
        slope = graph.constant(node.input[1])
        if slope is None:
            return None
        graph.set_input(node, 1, np.full_like(slope, slope.mean()))
        return Planted()
    old = attribute(node, "alpha", 0.01 if node.op_type == "LeakyRelu" else 1.0)
    set_attribute(node, "alpha", {"LeakyRelu": 0.3 if old == 0.01 else 0.01, "Elu": 0.5}[node.op_type])
    return Planted()


_KINDS = {
    "Sigmoid": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "Selu": ("Elu", {"alpha": 1.0}),
    "Elu": ("Selu", {}),
    "Tanh": ("Softsign", {}),
    "LeakyRelu": ("Relu", {}),
}


@family.kind("activation_kind", *_KINDS, "HardSwish", cause="activation_kind")
def _activation_kind(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A cheap relative of the activation."""
    if node.op_type == "HardSwish":
        x = node.input[0]
        return _replaced(node, "Mul", x, graph.before(node, "Sigmoid", x))
    operator, attributes = _KINDS[node.op_type]
    _replaced(node, operator, node.input[0])
    for name, value in attributes.items():
        set_attribute(node, name, value)
    return Planted()


@family.kind(
    "activation_missing", "Relu", "LeakyRelu", "Gelu", "HardSwish", "Tanh", "Sigmoid", "Selu", "Elu", "PRelu",
    cause="node_missing", also=("activation_missing",),
)  # fmt: skip
def _activation_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """No activation."""
    return Planted() if graph.bypass(node) else None


@family.kind("clip_upper_missing", "Clip", cause="clip_bounds")
def _clip_upper_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A ReLU6 that became a ReLU."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    node.input[2] = ""
    return Planted()


@family.kind("clip_lower_changed", "Clip", cause="clip_bounds")
def _clip_lower_changed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A lower bound that is a tenth of the upper one too low."""
    bounds = [graph.constant(name) for name in node.input[1:3]]
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None or bounds[0].dtype.kind != "f":
        return None
    graph.set_input(node, 1, (bounds[0] - 0.1 * bounds[1]).astype(bounds[0].dtype))
    return Planted()


@family.kind("clip_upper_changed", "Clip", cause="clip_bounds")
def _clip_upper_changed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """An upper bound that is a sixth too low."""
    bound = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if bound is None or bound.dtype.kind != "f":
        return None
    graph.set_input(node, 2, (bound * 5 / 6).astype(bound.dtype))
    return Planted()
