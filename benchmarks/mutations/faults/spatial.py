"""Faults of convolutions, pools and resizing: where the window sits and what it counts."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute

family = Family()

_WINDOWS = ("Conv", "MaxPool", "AveragePool")


@family.kind("padding_shifted", *_WINDOWS, cause="padding")
def _padding_shifted(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """As much padding in all, but more of it at the other end, as SAME of another framework has it."""
    pads = attribute(node, "pads")
    if not pads or not any(pads):
        return None
    half = len(pads) // 2
    begins, ends = pads[:half], pads[half:]
    if begins == ends:
        begins, ends = [max(0, b - 1) for b in begins], [e + min(b, 1) for b, e in zip(begins, ends, strict=True)]
    else:
        begins, ends = ends, begins
    set_attribute(node, "pads", [*begins, *ends])
    return Planted()


@family.kind("pool_ceil_mode", "MaxPool", "AveragePool", cause="ceil_mode")
def _pool_ceil_mode(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The last window, which hangs over, dropped or added."""
    set_attribute(node, "ceil_mode", 1 - attribute(node, "ceil_mode", 0))
    kernel, sizes = attribute(node, "kernel_shape"), graph.shape(node.input[0])[2:]
    pads, strides = attribute(node, "pads", [0] * 2 * len(kernel)), attribute(node, "strides", [1] * len(kernel))
    over = [(size + pads[i] + pads[i + len(kernel)] - kernel[i]) % strides[i] for i, size in enumerate(sizes)]
    return Planted(equivalent="" if any(over) else "no window hangs over: height and width are fixed")


@family.kind("pool_include_pad", "AveragePool", cause="count_include_pad")
def _pool_include_pad(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Zeros of the padding counted, or not."""
    if not any(attribute(node, "pads", [])):
        return None
    set_attribute(node, "count_include_pad", 1 - attribute(node, "count_include_pad", 0))
    return Planted()


_POOLS = {
    "MaxPool": "AveragePool",
    "AveragePool": "MaxPool",
    "GlobalAveragePool": "GlobalMaxPool",
}


@family.kind("pool_kind", *_POOLS, cause="pool_kind", also=("reduce_kind", "operator_kind"))
def _pool_kind(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The largest in place of the mean, or the other way round."""
    node.op_type = _POOLS[node.op_type]
    set_attribute(node, "count_include_pad", None)
    return Planted()


@family.kind("conv_groups", "Conv", cause="groups")
def _conv_groups(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Groups of neighbouring input channels read as groups of every n-th one."""
    groups, weight = attribute(node, "group", 1), graph.constant(node.input[1])
    if groups < 2 or weight is None or weight.shape[1] < 2:
        return None
    per_group, each = weight.shape[1], weight.shape[0] // groups
    dense = np.zeros((weight.shape[0], per_group * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        dense[rows, group::groups] = weight[rows]
    graph.set_input(node, 1, dense)
    set_attribute(node, "group", 1)
    return Planted()


@family.kind("conv_dilation", "Conv", cause="dilation")
def _conv_dilation(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The dilation lost, or one too many, with the padding that keeps the size."""
    weight, pads = graph.constant(node.input[1]), attribute(node, "pads")
    if weight is None or not pads or weight.shape[2] < 2 or weight.shape[2] != weight.shape[3]:
        return None
    old = attribute(node, "dilations", [1, 1])[0]
    new = 1 if old > 1 else 2
    shift = (new - old) * (weight.shape[2] - 1) // 2
    if min(pads) + shift < 0:
        return None
    set_attribute(node, "dilations", [new, new])
    set_attribute(node, "pads", [pad + shift for pad in pads])
    return Planted()


@family.kind("conv_stride", "Conv", "MaxPool", cause="stride")
def _conv_stride(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A stride that was lost; what follows takes any size."""
    if max(attribute(node, "strides", [1])) < 2 or attribute(node, "group", 1) > 64:
        return None
    set_attribute(node, "strides", [1, 1])
    return Planted()


@family.kind("kernel_flipped", "Conv", cause="kernel_flipped", also=("weight_permuted",))
def _kernel_flipped(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Convolution where correlation is meant."""
    weight = graph.constant(node.input[1])
    if weight is None or max(weight.shape[2:]) < 2:
        return None
    graph.set_input(node, 1, weight[:, :, ::-1, ::-1])
    return Planted()


@family.kind("kernel_transposed", "Conv", cause="weight_transposed", also=("weight_permuted",))
def _kernel_transposed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Height and width of the kernel swapped."""
    weight = graph.constant(node.input[1])
    if weight is None or weight.shape[2] < 2 or weight.shape[2] != weight.shape[3]:
        return None
    graph.set_input(node, 1, weight.swapaxes(2, 3))
    return Planted()


@family.kind("channels_reversed", "Conv", cause="channel_order", also=("weight_permuted",))
def _channels_reversed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """BGR for RGB, at the first convolution."""
    weight = graph.constant(node.input[1])
    inputs = {value.name for value in graph.proto.graph.input}
    if weight is None or weight.shape[1] != 3 or attribute(node, "group", 1) != 1 or node.input[0] not in inputs:
        return None
    graph.set_input(node, 1, weight[:, ::-1])
    return Planted()


@family.kind("pad_mode", "Pad", cause="pad_mode", also=("padding",))
def _pad_mode(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The edge repeated in place of mirrored."""
    if attribute(node, "mode", "constant") == "edge":
        return None
    set_attribute(node, "mode", "edge")
    return Planted()


@family.kind("resize_align_corners", "Resize", cause="resize_coordinates")
def _resize_align_corners(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Corners aligned."""
    set_attribute(node, "coordinate_transformation_mode", "align_corners")
    return Planted()


@family.kind("resize_half_pixel", "Resize", cause="resize_coordinates")
def _resize_half_pixel(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Half pixels for asymmetric, asymmetric for half pixels."""
    old = attribute(node, "coordinate_transformation_mode", "half_pixel")
    set_attribute(node, "coordinate_transformation_mode", "half_pixel" if old == "asymmetric" else "asymmetric")
    return Planted()


@family.kind("resize_nearest_rounding", "Resize", cause="resize_nearest_rounding", also=("rounding_mode",))
def _resize_nearest_rounding(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The nearest pixel found with another rounding."""
    if attribute(node, "mode", "nearest") != "nearest":
        return None
    old = attribute(node, "nearest_mode", "round_prefer_floor")
    set_attribute(node, "nearest_mode", "ceil" if old in ("floor", "round_prefer_floor") else "floor")
    return Planted()


@family.kind("resize_mode", "Resize", cause="resize_mode")
def _resize_mode(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Nearest for linear, linear for nearest."""
    old = attribute(node, "mode", "nearest")
    set_attribute(node, "mode", "linear" if old == "nearest" else "nearest")
    set_attribute(node, "nearest_mode", None)
    return Planted()
