"""Faults of weights: transposed, permuted, taken from elsewhere, lost."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute

family = Family()

_LINEAR = ("MatMul", "Gemm")


def _weight(graph: Graph, node: onnx.NodeProto) -> tuple[int, np.ndarray] | None:
    """Index and value of the weight of a product or a convolution."""
    for index in (1, 0):
        value = graph.constant(node.input[index])
        if value is not None and value.ndim >= 2 and value.dtype.kind == "f":
            return index, value
    return None


def _reduced_axis(node: onnx.NodeProto, index: int) -> int:
    """The axis of the weight that is summed over."""
    if node.op_type == "Conv":
        return 1
    if node.op_type == "Gemm":
        return 1 if attribute(node, "transB", 0) else 0
    return 0 if index == 1 else 1


@family.kind("weight_transposed", *_LINEAR, cause="weight_transposed")
def _weight_transposed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A square matrix transposed, which no shape tells."""
    found = _weight(graph, node)
    if found is None or found[1].ndim != 2 or found[1].shape[0] != found[1].shape[1]:
        return None
    graph.set_input(node, found[0], found[1].T)
    return Planted()


@family.kind("weight_channels_transposed", "Conv", cause="weight_transposed")
def _weight_channels_transposed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Input and output channels swapped where they are as many."""
    found = _weight(graph, node)
    if found is None or found[1].shape[0] != found[1].shape[1]:
        return None
    graph.set_input(node, found[0], found[1].swapaxes(0, 1))
    return Planted()


def _interleaved(values: np.ndarray, axis: int) -> np.ndarray | None:
    """Along the axis: blocks of neighbours read as blocks of every n-th one."""
    size = values.shape[axis]
    blocks = next((n for n in (4, 3, 2, 5, 7) if size % n == 0 and size > n), None)
    if blocks is None:
        return None
    order = np.arange(size).reshape(blocks, -1).T.reshape(-1)
    return values.take(order, axis)


@family.kind("weight_inputs_permuted", *_LINEAR, "Conv", cause="weight_permuted", also=("layout",))
def _weight_inputs_permuted(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Input features in the order of another flattening."""
    found = _weight(graph, node)
    if found is None:
        return None
    changed = _interleaved(found[1], _reduced_axis(node, found[0]))
    if changed is None:
        return None
    graph.set_input(node, found[0], changed)
    return Planted()


@family.kind("weight_outputs_permuted", *_LINEAR, "Conv", cause="weight_permuted")
def _weight_outputs_permuted(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Output features in another order: heads interleaved, for instance."""
    found = _weight(graph, node)
    if found is None or (found[1].ndim > 2 and node.op_type != "Conv"):
        return None
    changed = _interleaved(found[1], 0 if node.op_type == "Conv" else 1 - _reduced_axis(node, found[0]))
    if changed is None:
        return None
    graph.set_input(node, found[0], changed)
    return Planted()


@family.kind("weight_duplicated", *_LINEAR, "Conv", cause="weight_duplicated", also=("weight_changed",))
def _weight_duplicated(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The weights of another layer of the same shape, loaded a second time."""
    found = _weight(graph, node)
    if found is None:
        return None
    for other in graph.nodes():
        if other.op_type != node.op_type or other.name == node.name:
            continue
        theirs = _weight(graph, other)
        if theirs is not None and theirs[1].shape == found[1].shape and (theirs[1] != found[1]).any():
            graph.set_input(node, found[0], theirs[1])
            return Planted()
    return None


@family.kind("weight_truncated", *_LINEAR, "Conv", "Gather", cause="weight_changed")
def _weight_truncated(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The last eighth of the bytes is zero: a file that was cut and filled up."""
    weight = _weight(graph, node) if node.op_type != "Gather" else _table(graph, node)
    if weight is None:
        return None
    values = weight[1].copy().reshape(-1)
    values[-max(1, values.size // 8) :] = 0
    graph.set_input(node, weight[0], values.reshape(weight[1].shape))
    return Planted()


def _table(graph: Graph, node: onnx.NodeProto) -> tuple[int, np.ndarray] | None:
    value = graph.constant(node.input[0])
    return (0, value) if value is not None and value.dtype.kind == "f" and value.ndim == 2 else None


@family.kind("weight_scaled", *_LINEAR, "Conv", cause="weight_changed")
def _weight_scaled(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A factor that was folded in twice, for one output in eight."""
    found = _weight(graph, node)
    if found is None:
        return None
    values = np.moveaxis(found[1].copy(), 0 if node.op_type == "Conv" else 1 - _reduced_axis(node, found[0]), 0)
    values[::8] *= np.float32(1.1)
    axis = 0 if node.op_type == "Conv" else 1 - _reduced_axis(node, found[0])
    graph.set_input(node, found[0], np.moveaxis(values, 0, axis))
    return Planted()


@family.kind("weight_untied", "Transpose", "MatMul", "Gather", "Gemm", cause="weight_tying", also=("weight_changed",))
def _weight_untied(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A weight that two layers share, in one of them as it was before training."""
    for index, name in enumerate(node.input):
        value, readers = graph.constant(name), graph.consumers(name)
        if value is None or value.ndim < 2 or len(readers) < 2 or readers[-1].name != node.name:
            continue
        random = np.random.default_rng(0).standard_normal(value.shape) * value.std()
        graph.set_input(node, index, random.astype(value.dtype))
        return Planted()
    return None


@family.kind("bias_missing", "Conv", "Gemm", "Add", cause="bias_missing", also=("node_missing",))
def _bias_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A bias that was not carried over."""
    if node.op_type != "Add":
        if len(node.input) < 3 or not node.input[2]:
            return None
        del node.input[2]
        return Planted()
    constants = [i for i, value in enumerate(graph.inputs(node)) if value is not None and value.ndim == 1]
    if len(constants) != 1 or graph.constant(node.input[constants[0]]).size < 2:
        return None
    return Planted() if graph.bypass(node, 1 - constants[0]) else None


@family.kind("bias_permuted", "Conv", "Gemm", "Add", cause="weight_permuted", also=("bias_changed",))
def _bias_permuted(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The bias in another order than the weights."""
    for index, value in enumerate(graph.inputs(node)):
        if value is None or value.ndim != 1 or value.size < 4 or value.dtype.kind != "f":
            continue
        graph.set_input(node, index, np.roll(value, 1))
        return Planted()
    return None
