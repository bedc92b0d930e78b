"""Faults of normalisations: epsilon, statistics, parameters in another order."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute

family = Family()

_NORMS = ("LayerNormalization", "BatchNormalization", "InstanceNormalization")


def _set_epsilon(graph: Graph, node: onnx.NodeProto, coarse: bool) -> Planted | None:
    """At a norm, or at the addition under the root of a decomposed one."""
    old = attribute(node, "epsilon", 1e-5) if node.op_type in _NORMS else _added_epsilon(graph, node)
    if old is None:
        return None
    new = (1e-3 if old < 5e-4 else 1e-1) if coarse else (1e-6 if old > 5e-6 else 1e-5)
    if node.op_type in _NORMS:
        set_attribute(node, "epsilon", new)
    else:
        index = next(i for i, value in enumerate(graph.inputs(node)) if value is not None)
        graph.set_input(node, index, np.full_like(graph.constant(node.input[index]), new))
    return Planted()


def _added_epsilon(graph: Graph, node: onnx.NodeProto) -> float | None:
    constants = [value for value in graph.inputs(node) if value is not None]
    readers = graph.consumers(node.output[0])
    if len(constants) != 1 or constants[0].size != 1 or not readers or readers[0].op_type not in ("Sqrt", "Pow"):
        return None
    value = float(constants[0].reshape(-1)[0])
    return value if 0 < value < 0.01 else None


@family.kind("epsilon_coarse", *_NORMS, "Add", cause="epsilon")
def _epsilon_coarse(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """1e-3, the default of another framework."""
    return _set_epsilon(graph, node, coarse=True)


@family.kind("epsilon_fine", *_NORMS, "Add", cause="epsilon")
def _epsilon_fine(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """1e-6 in place of 1e-5, or the other way round."""
    return _set_epsilon(graph, node, coarse=False)


@family.kind("norm_axis", "LayerNormalization", cause="norm_axis")
def _norm_axis(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Normalised over the tokens too: as if the axis were one further to the left."""
    rank = len(graph.shape(node.input[0]))
    axis = attribute(node, "axis", -1) % rank
    if axis < 1 or graph.shape(node.input[0])[axis - 1] < 2:
        return None
    set_attribute(node, "axis", axis - 1)
    for i in (1, 2):
        weight = graph.constant(node.input[i]) if len(node.input) > i else None
        if weight is None:
            return None
        shape = graph.before(node, "Shape", node.input[0], start=axis - 1, end=rank)
        node.input[i] = graph.before(node, "Expand", node.input[i], shape)
    return Planted()


@family.kind("batchnorm_training", "BatchNormalization", cause="batchnorm_training", also=("training_mode",))
def _batchnorm_training(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Statistics of the batch in place of the running ones."""
    x, axes = node.input[0], [0, *range(2, len(graph.shape(node.input[0])))]
    mean = graph.reduce(node, "ReduceMean", x, axes, keepdims=0)
    square = graph.reduce(node, "ReduceMean", graph.before(node, "Mul", x, x), axes, keepdims=0)
    node.input[3] = mean
    node.input[4] = graph.before(node, "Sub", square, graph.before(node, "Mul", mean, mean))
    return Planted()


@family.kind("batchnorm_scale_bias", "BatchNormalization", cause="batchnorm_parameters", also=("operands_swapped",))
def _batchnorm_scale_bias(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Scale and bias in each other's place."""
    node.input[1], node.input[2] = node.input[2], node.input[1]
    return Planted()


@family.kind("batchnorm_mean_bias", "BatchNormalization", cause="batchnorm_parameters", also=("operands_swapped",))
def _batchnorm_mean_bias(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Running mean and bias in each other's place."""
    node.input[2], node.input[3] = node.input[3], node.input[2]
    return Planted()


@family.kind("batchnorm_deviation", "BatchNormalization", cause="batchnorm_parameters")
def _batchnorm_deviation(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The standard deviation where the variance belongs."""
    variance = graph.constant(node.input[4])
    if variance is None:
        return None
    graph.set_input(node, 4, np.sqrt(variance))
    return Planted()


@family.kind("variance_unbiased", "ReduceMean", cause="variance_unbiased")
def _variance_unbiased(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The sum of squares over N - 1, as `var(unbiased=True)` has it."""
    maker = graph.producer(node.input[0])
    readers = [reader for one in graph.consumers(node.output[0]) for reader in graph.consumers(one.output[0])]
    if maker is None or maker.op_type not in ("Pow", "Mul") or not any(one.op_type == "Sqrt" for one in readers):
        return None
    axes = graph.axes(node)
    count = int(np.prod([graph.shape(node.input[0])[axis] for axis in axes or []]))
    if count < 2:
        return None
    graph.wrap_output(node, "Mul", graph.scalar(count / (count - 1)))
    return Planted()


@family.kind("norm_bias_missing", *_NORMS, cause="bias_missing")
def _norm_bias_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The shift of a norm left out."""
    bias = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if bias is None or not bias.any():
        return None
    graph.set_input(node, 2, np.zeros_like(bias))
    return Planted()


@family.kind("norm_scale_plus_one", *_NORMS, cause="weight_changed", also=("scale_offset",))
def _norm_scale_plus_one(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """1 + weight, as networks have it that keep the weight around 0."""
    scale = graph.constant(node.input[1])
    if scale is None:
        return None
    graph.set_input(node, 1, (scale + 1).astype(scale.dtype))
    return Planted()
