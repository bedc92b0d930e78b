"""Faults of the graph itself: nodes that are missing, added, wired wrongly or folded wrongly."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, set_attribute

family = Family()

_SKIPPED = ("Relu", "LeakyRelu", "Gelu", "HardSwish", "Tanh", "Sigmoid", "Selu", "Elu", "PRelu", "Identity", "Dropout",
            "Cast", "Reshape", "QuantizeLinear", "DequantizeLinear", "If", "Loop", "Scan")  # fmt: skip
"""Nodes that are no place for a missing node: activations have a kind of their own, others do nothing to values."""


@family.kind("node_missing", cause="node_missing")
def _node_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A node left out that does not change the shape."""
    if node.op_type in _SKIPPED or not graph.is_float(node.output[0]):
        return None
    shape = graph.shape(node.output[0])
    for index, name in enumerate(node.input):
        if graph.constant(name) is None and graph.is_float(name) and graph.shape(name) == shape:
            return Planted() if graph.bypass(node, index) else None
    return None


def _is_place(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node's output is a tensor of numbers on which something could sit."""
    value = graph.value(node.output[0])
    return value is not None and value.dtype == np.float32 and value.size > 8 and np.abs(value).max() < 1e6


@family.kind("node_inserted_scale", cause="node_inserted", also=("constant_value",))
def _node_inserted_scale(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A factor that was folded in already."""
    if not _is_place(graph, node):
        return None
    origin = graph.around(node.output[0])
    graph.wrap_output(node, "Mul", graph.scalar(0.9))
    return Planted(origin)


@family.kind("node_inserted_relu", cause="node_inserted", also=("activation_kind",))
def _node_inserted_relu(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """An activation too many."""
    if not _is_place(graph, node) or graph.value(node.output[0]).min() >= 0:
        return None
    origin = graph.around(node.output[0])
    graph.wrap_output(node, "Relu")
    return Planted(origin)


@family.kind("node_inserted_input", cause="node_inserted", also=("channel_order",))
def _node_inserted_input(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A preprocessing that is applied a second time, on an input of the graph."""
    inputs = {value.name for value in graph.proto.graph.input}
    if not node.input or node.input[0] not in inputs or not graph.is_float(node.input[0]):
        return None
    readers = graph.consumers(node.input[0])
    if len(readers) != 1:
        return None
    graph.wrap_input(node, 0, "Mul", graph.scalar(1.1))
    return Planted()


@family.kind("operands_swapped", "Sub", "Div", "Pow", cause="operands_swapped")
def _operands_swapped(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """b - a, b / a."""
    other = graph.value(node.input[0])
    if node.op_type == "Div" and (other is None or other.dtype.kind != "f" or (other == 0).any()):
        return None
    if node.op_type == "Pow" or not graph.is_float(node.output[0]):
        return None
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return Planted()


@family.kind("residual_source", "Add", cause="residual_source", also=("input_source",))
def _residual_source(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A skip that begins one node too early."""
    if any(graph.constant(name) is not None for name in node.input) or not graph.is_float(node.output[0]):
        return None
    if graph.shape(node.input[0]) != graph.shape(node.input[1]) or graph.shape(node.output[0]) == (-1,):
        return None
    order = graph.earlier(node, node.output[0])
    skip = max((0, 1), key=lambda i: order.index(node.input[i]) if node.input[i] in order else len(order))
    maker = graph.producer(node.input[skip])
    before = [name for name in maker.input if name in order] if maker is not None else []
    others = [*before, *order[::-1]]
    for name in others:
        if name not in node.input:
            node.input[skip] = name
            return Planted()
    return None


@family.kind("input_source", "MatMul", "Conv", "Gemm", "Mul", "Sub", cause="input_source", also=("residual_source",))
def _input_source(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """An operand taken from elsewhere: the nearest earlier tensor of the same shape."""
    for index, name in enumerate(node.input[:2]):
        if graph.constant(name) is not None or not graph.is_float(name) or len(graph.shape(name)) < 2:
            continue
        for other in graph.earlier(node, name):
            if other not in node.input and other != name:
                node.input[index] = other
                return Planted()
    return None


_OTHERS = {"Add": "Sub", "Sub": "Add", "Mul": "Add", "Max": "Min", "Min": "Max", "And": "Or", "Or": "And"}


@family.kind("operator_kind", *_OTHERS, cause="operator_kind", also=("operands_swapped",))
def _operator_kind(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Another operator with the same signature."""
    if node.op_type in ("Add", "Sub", "Mul") and not graph.is_float(node.output[0]):
        return None
    node.op_type = _OTHERS[node.op_type]
    return Planted()


@family.kind("constant_folding", cause="constant_folding", also=("constant_value", "weight_changed"))
def _constant_folding(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """What depends on constants alone computed at conversion, with fewer bits than it should be."""
    if not node.input or node.op_type == "Constant" or any(graph.constant(name) is None for name in node.input):
        return None
    value = graph.value(node.output[0])
    if value is None or value.dtype != np.float32:
        return None
    folded = np.round(value * 64) / 64 if np.abs(value).max() > 0.1 else value.astype(np.float16)
    return Planted() if graph.fold(node, folded.astype(np.float32)) else None


@family.kind(
    "constant_value", "Mul", "Div", "Add", "Sub", "Pow", "Max", cause="constant_value", also=("attention_scale",)
)
def _constant_value(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A scalar written down with two digits, or a hundredth off."""
    for index, value in enumerate(graph.inputs(node)):
        if value is None or value.size != 1 or value.dtype != np.float32:
            continue
        old = float(value.reshape(-1)[0])
        if not 0.01 < abs(old) < 1000:
            return None
        new = float(f"{old:.2g}")
        graph.set_input(node, index, np.full_like(value, new if abs(new / old - 1) > 1e-4 else 1.01 * old))
        return Planted()
    return None


@family.kind("baked_size", "Shape", "Reshape", "Expand", cause="baked_size")
def _baked_size(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The sizes of the example in place of those of the input."""
    if node.op_type == "Shape":
        return Planted() if graph.fold(node, graph.value(node.output[0])) else None
    shape = graph.constant(node.input[1])
    result = graph.shape(node.output[0])
    if result == (-1,) or (shape is not None and (shape > 0).all()):
        return None
    graph.set_input(node, 1, np.array(result, np.int64))
    set_attribute(node, "allowzero", None)
    return Planted()


@family.kind("dropout_on", "Dropout", cause="dropout", also=("training_mode",))
def _dropout_on(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Dropout as in training, written out since runtimes for inference refuse the mode."""
    ratio = graph.constant(node.input[1]) if len(node.input) > 1 else None
    if ratio is None:
        return None
    x = node.input[0]
    chance = graph.before(node, "RandomUniformLike", x, seed=5.0)
    kept = graph.before(node, "Cast", graph.before(node, "Greater", chance, node.input[1]), to=1)
    node.op_type = "Mul"
    node.input[:] = [graph.before(node, "Mul", x, kept), graph.scalar(1 / (1 - float(ratio)))]
    return Planted()
