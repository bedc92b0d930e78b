"""Faults of attention: the scale, the mask, the positions."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph

family = Family()

_BLOCKED = -1000.0
"""A number below this one in the scores stands for: may not be looked at."""


def _leads_to_softmax(graph: Graph, tensor: str, steps: int = 3) -> bool:
    """Whether products, sums and masks alone lie between a tensor and a softmax."""
    for reader in graph.consumers(tensor):
        if reader.op_type == "Softmax":
            return True
        if (
            steps
            and reader.op_type in ("MatMul", "Add", "Where")
            and _leads_to_softmax(graph, reader.output[0], steps - 1)
        ):
            return True
    return False


def _scale(graph: Graph, node: onnx.NodeProto) -> int | None:
    """Index of the scalar by which scores are scaled."""
    for index, value in enumerate(graph.inputs(node)):
        if value is not None and value.size == 1 and abs(float(value.reshape(-1)[0])) < 100:
            other = node.input[1 - index]
            if (
                graph.value(other) is not None
                and graph.value(other).ndim >= 3
                and _leads_to_softmax(graph, node.output[0])
            ):
                return index
    return None


@family.kind("attention_scale", "Mul", "Div", cause="attention_scale", also=("constant_value",))
def _attention_scale(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """d in place of √d."""
    index = _scale(graph, node)
    if index is None:
        return None
    value = graph.constant(node.input[index])
    graph.set_input(node, index, (value * value).astype(value.dtype))
    return Planted()


@family.kind("attention_scale_missing", "Mul", "Div", cause="attention_scale", also=("node_missing",))
def _attention_scale_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Scores as they come out of the product."""
    index = _scale(graph, node)
    return Planted() if index is not None and graph.bypass(node, 1 - index) else None


@family.kind("mask_missing", "Add", cause="node_missing", also=("mask_missing", "mask_value"))
def _mask_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Everything may be looked at."""
    if not any(reader.op_type == "Softmax" for reader in graph.consumers(node.output[0])):
        return None
    values = [graph.value(name) for name in node.input]
    masks = [i for i, value in enumerate(values) if value is not None and value.min() < _BLOCKED]
    return Planted() if len(masks) == 1 and graph.bypass(node, 1 - masks[0]) else None


def _mask_value(graph: Graph, node: onnx.NodeProto, new: float) -> Planted | None:
    for index, value in enumerate(graph.inputs(node)):
        if value is not None and value.dtype.kind == "f" and value.size == 1 and value.min() < _BLOCKED:
            graph.set_input(node, index, np.full_like(value, new))
            return Planted()
    return None


@family.kind("mask_value_weak", "Where", "Mul", cause="mask_value", also=("constant_value",))
def _mask_value_weak(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """-3, which leaves 5 % of the weight."""
    return _mask_value(graph, node, -3.0)


@family.kind("mask_value_finite", "Where", "Mul", cause="mask_value", also=("constant_value",))
def _mask_value_finite(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """-1e9: as good as the lowest number, unless a row has nothing to look at."""
    return _mask_value(graph, node, -1e9)


@family.kind("position_offset", "Range", cause="position_offset", also=("constant_value",))
def _position_offset(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Positions that count from 1."""
    start = graph.constant(node.input[0])
    if start is None:
        return None
    graph.set_input(node, 0, start + 1)
    graph.wrap_input(node, 1, "Add", graph.weight(np.array(1, start.dtype)))
    return Planted()


@family.kind("rotation_sign", "Neg", cause="node_missing", also=("rotation_sign",))
def _rotation_sign(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A rotary embedding that turns one half only."""
    readers = graph.consumers(node.output[0])
    if not readers or readers[0].op_type != "Concat":
        return None
    return Planted() if graph.bypass(node) else None
