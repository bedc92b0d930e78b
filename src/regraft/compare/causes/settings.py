"""Hypotheses about attributes: every setting of an operator that converters are known to get wrong."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.compare.causes.attributes import cause_word
from regraft.compare.causes.interface import Hypothesis

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.onnx_graph import OnnxGraph
    from regraft.runtime.operator_graph import OperatorNode

EPSILONS = (1e-5, 1e-6, 1e-12, 1e-3, 1e-8, 1e-7, 1e-4, 1e-2, 0.0)
_COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
_NEAREST = ("round_prefer_floor", "floor", "ceil", "round_prefer_ceil")
_MAX_AXES = 5
_FLAGS = {
    "ceil_mode": ("MaxPool", "AveragePool"), "count_include_pad": ("AveragePool",), "fmod": ("Mod",),
    "exclusive": ("CumSum",), "reverse": ("CumSum",), "select_last_index": ("ArgMax", "ArgMin"),
    "largest": ("TopK",), "linear_before_reset": ("GRU",), "keepdims": ("ReduceMean", "ReduceSum", "ReduceMax"),
    "transA": ("Gemm",), "transB": ("Gemm",),
}  # fmt: skip
_ALPHAS = {"LeakyRelu": (0.01, 0.1, 0.2, 0.3, 0.0), "Elu": (1.0, 0.1), "HardSigmoid": (1 / 6, 0.2)}
_WITH_AXIS = frozenset(
    {"Softmax", "LogSoftmax", "Gather", "Concat", "ArgMax", "LayerNormalization", "Hardmax", "DequantizeLinear"}
)


def settings(graph: OnnxGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """Variants of an operator's attributes; see `Family`."""
    proto = graph.protos[node.name]
    for name, value in _variants(proto, values):
        changed = _changed(proto, name, value)
        run = functools.partial(_run, graph, changed)
        yield Hypothesis(cause_word(node.operator, name), f"{name} of {node.operator} is {value}", run)
    if node.operator == "BatchNormalization":
        run = functools.partial(_with_batch_statistics, graph, node)
        yield Hypothesis("batchnorm_training", "the normalisation uses the statistics of the batch", run)


def _variants(proto: onnx.NodeProto, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    kind = proto.op_type
    now = {one.name: one for one in proto.attribute}
    if "epsilon" in now or kind.endswith("Normalization"):
        yield from (("epsilon", value) for value in EPSILONS)
    if kind == "Gelu":
        yield from (("approximate", value) for value in ("tanh", "none"))
    if kind == "Resize":
        yield from (("coordinate_transformation_mode", value) for value in _COORDINATES)
        yield from (("nearest_mode", value) for value in _NEAREST)
        yield from (("mode", value) for value in ("nearest", "linear", "cubic"))
    for name, kinds in _FLAGS.items():
        if kind in kinds:
            yield name, 0 if name in now and now[name].i else 1
    if kind in _WITH_AXIS:
        rank = getattr(values.get(proto.input[0]), "ndim", _MAX_AXES)
        yield from (("axis", axis) for axis in range(rank))
    for value in _ALPHAS.get(kind, ()):
        yield "alpha", value
    if kind in ("Conv", "MaxPool", "AveragePool", "ConvTranspose"):
        yield from _windows(now)
    if kind == "Transpose":
        rank = getattr(values.get(proto.input[0]), "ndim", 0)
        if rank <= _MAX_AXES:
            yield from (("perm", list(order)) for order in itertools.permutations(range(rank)))
    if kind == "DepthToSpace":
        yield from (("mode", value) for value in ("DCR", "CRD"))
    if kind == "Pad":
        yield from (("mode", value) for value in ("constant", "reflect", "edge"))
    if kind in ("LSTM", "GRU", "RNN") and b"bidirectional" not in [one.s for one in proto.attribute]:
        yield from (("direction", value) for value in ("forward", "reverse"))


def _with_batch_statistics(graph: OnnxGraph, node: OperatorNode, values: Mapping[str, Any]) -> dict[str, Any]:
    x = values[node.inputs[0]]  # (N, C, *spatial)
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    found = graph.run(node, {**values, node.inputs[3]: mean, node.inputs[4]: variance})
    return {node.outputs[0]: found[node.outputs[0]]}


def _windows(now: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Paddings, strides and dilations of a window that slides."""
    pads = list(now["pads"].ints) if "pads" in now else []
    half = len(pads) // 2
    if pads:
        total = [pads[i] + pads[i + half] for i in range(half)]
        yield "pads", [0] * half + total
        yield "pads", total + [0] * half
        yield "pads", [0] * len(pads)
        yield "pads", [total[i] // 2 for i in range(half)] + [total[i] - total[i] // 2 for i in range(half)]
        yield "pads", [total[i] - total[i] // 2 for i in range(half)] + [total[i] // 2 for i in range(half)]
    for name in ("dilations", "strides"):
        if name in now:
            spread = list(now[name].ints)
            yield from ((name, [value] * len(spread)) for value in (1, 2))


def _changed(proto: onnx.NodeProto, name: str, value: Any) -> onnx.NodeProto:
    import onnx
    from onnx import helper

    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    kept = [one for one in proto.attribute if one.name != name]
    del copy.attribute[:]
    copy.attribute.extend([*kept, helper.make_attribute(name, value)])
    return copy


def _run(graph: OnnxGraph, proto: onnx.NodeProto, values: Mapping[str, Any]) -> dict[str, Any]:
    return graph.run_proto(proto, values)
