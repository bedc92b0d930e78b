"""Faults of layout: axes, orders, offsets."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute

family = Family()


@family.kind("softmax_axis", "Softmax", "LogSoftmax", cause="softmax_axis")
def _softmax_axis(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Over the axis to the left."""
    rank = len(graph.shape(node.input[0]))
    axis = attribute(node, "axis", -1) % rank
    if rank < 2:
        return None
    set_attribute(node, "axis", axis - 1 if axis else 1)
    return Planted()


@family.kind("transpose_perm", "Transpose", cause="transpose_perm", also=("layout",))
def _transpose_perm(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The last two axes in the other order; what follows takes the shape all the same."""
    perm = attribute(node, "perm")
    if not perm or len(perm) < 3 or not graph.is_float(node.input[0]):
        return None
    set_attribute(node, "perm", [*perm[:-2], perm[-1], perm[-2]])
    return Planted()


@family.kind(
    "transpose_as_reshape", "Transpose", cause="transpose_perm", also=("layout", "reshape_order", "weight_transposed")
)
def _transpose_as_reshape(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The right shape, but the numbers were not moved."""
    perm = attribute(node, "perm")
    shape = graph.shape(node.input[0])
    if not perm or sum(extent > 1 for extent in shape) < 2 or not graph.is_float(node.input[0]):
        return None
    old = graph.before(node, "Shape", node.input[0])
    new = graph.before(node, "Gather", old, graph.weight(np.array(perm, np.int64)), axis=0)
    node.op_type = "Reshape"
    node.input[:] = [node.input[0], new]
    set_attribute(node, "perm", None)
    return Planted()


@family.kind("reshape_order", "Reshape", cause="reshape_order", also=("layout", "transpose_perm"))
def _reshape_order(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """An axis split as (b, a) where (a, b) is meant, or (a, b) joined as (b, a)."""
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    if not graph.is_float(node.input[0]):
        return None
    rank = len(after)
    if rank == len(before) + 1 and before[:-1] == after[:-2] and min(after[-2:]) > 1:
        order = [*range(rank - 2), rank - 1, rank - 2]
        shape = graph.constant(node.input[1])
        if shape is not None and (shape[-2:] == 0).any():  # a 0 stands for the size at its own place
            return None
        indices = graph.weight(np.array(order, np.int64))
        values = graph.before(node, "Gather", node.input[1], indices, axis=0)
        node.input[1] = values
        graph.wrap_output(node, "Transpose", perm=order)
        return Planted()
    for axis in range(len(before) - 1):
        joined = (*before[:axis], before[axis] * before[axis + 1], *before[axis + 2 :])
        if joined == after and min(before[axis : axis + 2]) > 1 and axis > 0:
            order = [*range(axis), axis + 1, axis, *range(axis + 2, len(before))]
            return _joined_otherwise(graph, node, axis, order)
    return None


def _joined_otherwise(graph: Graph, node: onnx.NodeProto, axis: int, order: list[int]) -> Planted | None:
    """Transpose in front; a shape that copies sizes by 0 must not copy one of the two that were swapped."""
    shape = graph.constant(node.input[1])
    if shape is not None and any(shape[i] == 0 for i in range(axis, len(shape))):
        return None
    graph.wrap_input(node, 0, "Transpose", perm=order)
    return Planted()


@family.kind("flatten_layout", "Flatten", "Reshape", "Gemm", cause="layout", also=("weight_permuted",))
def _flatten_layout(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Channels last where a picture is flattened."""
    shape = graph.shape(node.input[0])
    if len(shape) != 4 or shape[1] < 2 or shape[2] * shape[3] < 2 or len(graph.shape(node.output[0])) != 2:
        return None
    graph.wrap_input(node, 0, "Transpose", perm=[0, 2, 3, 1])
    return Planted()


@family.kind("concat_order", "Concat", cause="concat_order", also=("operands_swapped",))
def _concat_order(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Two parts of the same shape, or two that add up to it, in the other order."""
    if not all(graph.is_float(name) for name in node.input) or node.input[0] == node.input[1]:
        return None
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return Planted()


@family.kind("split_order", "Split", cause="split_order", also=("operands_swapped",))
def _split_order(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Two parts of the same size in the other order."""
    if graph.shape(node.output[0]) != graph.shape(node.output[1]) or not graph.is_float(node.output[0]):
        return None
    node.output[0], node.output[1] = node.output[1], node.output[0]
    return Planted()


@family.kind(
    "reduce_axes", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", cause="reduce_axes", also=("softmax_axis",)
)
def _reduce_axes(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Over the axis to the left of the last one that is meant."""
    axes, rank = graph.axes(node), len(graph.shape(node.input[0]))
    if not axes or len(axes) > 1 or not graph.is_float(node.input[0]):
        return None
    axis = axes[0] % rank
    graph.set_axes(node, [axis - 1 if axis else 1])
    return Planted()


_REDUCTIONS = {"ReduceMean": "ReduceMax", "ReduceMax": "ReduceMean", "ReduceSum": "ReduceMean", "ReduceL2": "ReduceL1"}


@family.kind("reduce_kind", *_REDUCTIONS, cause="reduce_kind", also=("operator_kind",))
def _reduce_kind(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The largest for the mean, the mean for the sum, L1 for L2."""
    if node.op_type == "ReduceSum" and graph.opset < 18:
        axes = graph.axes(node)
        if axes is None:
            return None
        del node.input[1]
        set_attribute(node, "axes", axes)
    node.op_type = _REDUCTIONS[node.op_type]
    return Planted()


@family.kind("gather_index", "Gather", cause="gather_index")
def _gather_index(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The neighbour: off by one."""
    data, index = graph.shape(node.input[0]), graph.constant(node.input[1])
    axis = attribute(node, "axis", 0) % len(data)
    if not graph.is_float(node.input[0]) or data[axis] < 2:
        return None
    if index is not None:
        graph.set_input(node, 1, np.where(index + 1 < data[axis], index + 1, index - 1))
        return Planted()
    if graph.constant(node.input[0]) is None:
        return None
    graph.wrap_input(node, 1, "Add", graph.scalar(1, "int64"))
    graph.wrap_input(node, 1, "Mod", graph.scalar(data[axis], "int64"))
    return Planted()


@family.kind("gather_axis", "Gather", "GatherElements", cause="gather_axis")
def _gather_axis(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Along another axis that is as long."""
    data = graph.shape(node.input[0])
    axis = attribute(node, "axis", 0) % len(data)
    others = [i for i, extent in enumerate(data) if i != axis and extent == data[axis]]
    if not others or not graph.is_float(node.input[0]):
        return None
    set_attribute(node, "axis", others[0])
    return Planted()


@family.kind("slice_offset", "Slice", cause="slice_bounds", also=("gather_index",))
def _slice_offset(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """As long, but one further."""
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    starts = graph.constant(node.input[1])
    steps = graph.constant(node.input[4]) if len(node.input) > 4 else None
    if starts is None or not graph.is_float(node.input[0]) or before == after or (steps is not None and min(steps) < 0):
        return None
    cut = next(i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
    start = int(starts[0]) % before[cut]
    move = 1 if start + 1 + after[cut] <= before[cut] else -1
    if len(starts) != 1 or start + move < 0:
        return None
    graph.set_input(node, 1, starts + move)
    ends = graph.constant(node.input[2])
    if ends is not None:
        graph.set_input(node, 2, np.minimum(ends, before[cut]) + move)
    else:
        graph.wrap_input(node, 2, "Add", graph.weight(np.array([move], np.int64)))
    return Planted()


@family.kind("slice_negative_step", "Slice", cause="slice_step")
def _slice_negative_step(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Forwards where backwards is meant."""
    steps = graph.constant(node.input[4]) if len(node.input) > 4 else None
    if steps is None or len(steps) != 1 or steps[0] >= 0:
        return None
    graph.set_input(node, 1, np.array([0], np.int64))
    graph.set_input(node, 2, np.array([2**31], np.int64))
    graph.set_input(node, 4, -steps)
    return Planted()


@family.kind("tile_for_repeat", "Expand", "Tile", cause="repeat_order", also=("layout", "reshape_order"))
def _tile_for_repeat(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """a b a b where a a b b is meant: the copies of grouped heads."""
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    if len(before) != 5 or before[2] != 1 or after[2] < 2 or before[1] < 2:
        return None
    flat = graph.before(node, "Concat", *[node.input[0]] * after[2], axis=1)  # (B, n·g, 1, S, D)
    node.input[0] = graph.before(node, "Reshape", flat, node.input[1])
    return Planted()
