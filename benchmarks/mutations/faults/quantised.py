"""Faults of quantisation: one scale for all, another axis, another zero."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute

family = Family()

_BOTH = ("DequantizeLinear", "QuantizeLinear")


@family.kind("scale_per_tensor", *_BOTH, cause="quantisation_granularity", also=("quantisation_scale",))
def _scale_per_tensor(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The mean scale for all channels."""
    scale = graph.constant(node.input[1])
    if scale is None or scale.size < 2:
        return None
    graph.set_input(node, 1, np.full_like(scale, scale.mean()))
    return Planted()


@family.kind("scale_axis", *_BOTH, cause="quantisation_axis", also=("quantisation_granularity",))
def _scale_axis(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The scales along another axis that is as long."""
    scale, shape = graph.constant(node.input[1]), graph.shape(node.input[0])
    axis = attribute(node, "axis", 1)
    if scale is None or scale.size < 2 or len(shape) != 2 or shape[0] != shape[1]:
        return None
    set_attribute(node, "axis", 1 - axis)
    return Planted()


@family.kind("scale_wrong", *_BOTH, cause="quantisation_scale")
def _scale_wrong(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """127 steps for 128."""
    scale = graph.constant(node.input[1])
    if scale is None:
        return None
    graph.set_input(node, 1, (scale * 128 / 127).astype(scale.dtype))
    return Planted()


@family.kind("zero_point", *_BOTH, cause="zero_point")
def _zero_point(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Zero lies one step further."""
    zero = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if zero is None:
        return None
    graph.set_input(node, 2, (zero + 1).astype(zero.dtype))
    return Planted()


@family.kind("zero_point_missing", *_BOTH, cause="zero_point")
def _zero_point_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Symmetric where it is not."""
    zero = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if zero is None or not zero.any():
        return None
    graph.set_input(node, 2, np.zeros_like(zero))
    return Planted()
