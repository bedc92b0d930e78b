"""Faults of integers, comparisons and dtypes."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute
from onnx import TensorProto

family = Family()

_LARGEST_HALF, _LARGEST_INT32, _LARGEST_EXACT = 65504.0, 2**31 - 1, 2**24


def _is_int64(graph: Graph, tensor: str) -> bool:
    value = graph.value(tensor)
    return value is not None and value.dtype == np.int64


@family.kind("division_floors", "Div", cause="integer_division", also=("rounding_mode",))
def _division_floors(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Rounded down, as Python has it, where ONNX rounds towards 0."""
    if not _is_int64(graph, node.output[0]):
        return None
    exact = [graph.before(node, "Cast", name, to=TensorProto.DOUBLE) for name in node.input]
    quotient = graph.before(node, "Floor", graph.before(node, "Div", *exact))
    node.op_type = "Cast"
    node.input[:] = [quotient]
    set_attribute(node, "to", TensorProto.INT64)
    return Planted()


@family.kind("division_in_float", "Div", cause="integer_division", also=("dtype_promotion", "lowered_precision"))
def _division_in_float(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Divided in float32, which counts to 2²⁴ only, and rounded to the nearest."""
    if not _is_int64(graph, node.output[0]):
        return None
    inexact = [graph.before(node, "Cast", name, to=TensorProto.FLOAT) for name in node.input]
    quotient = graph.before(node, "Round", graph.before(node, "Div", *inexact))
    node.op_type = "Cast"
    node.input[:] = [quotient]
    set_attribute(node, "to", TensorProto.INT64)
    return Planted()


@family.kind("rounding_mode", "Round", "Floor", "Ceil", cause="rounding_mode")
def _rounding_mode(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Halves away from zero in place of to even; towards zero in place of down."""
    if node.op_type == "Round":
        graph.wrap_input(node, 0, "Add", graph.scalar(0.5))
        node.op_type = "Floor"
        return Planted()
    graph.wrap_input(node, 0, "Cast", to=TensorProto.INT64)
    node.op_type = "Cast"
    set_attribute(node, "to", TensorProto.FLOAT)
    return Planted()


@family.kind("int32_truncation", "Mul", "Pow", "Add", "Cast", cause="integer_truncation")
def _int32_truncation(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """int64 through int32: what lies beyond 2³¹ wraps."""
    value = graph.value(node.output[0])
    if value is None or value.dtype != np.int64 or np.abs(value).max() <= _LARGEST_INT32:
        return None
    origin = graph.around(node.output[0])
    graph.wrap_output(node, "Cast", to=TensorProto.INT64)
    inserted = graph.node(graph.made[-1])
    graph.wrap_input(inserted, 0, "Cast", to=TensorProto.INT32)
    return Planted(origin)


@family.kind("mod_sign", "Mod", cause="mod_sign", also=("integer_mod",))
def _mod_sign(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The remainder with the sign of the dividend, as C has it; a negative index counts from the end."""
    set_attribute(node, "fmod", 1 - attribute(node, "fmod", 0))
    return Planted()


@family.kind("pow_in_float", "Pow", cause="integer_pow", also=("dtype_promotion", "lowered_precision"))
def _pow_in_float(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A power of integers in float32, which counts to 2²⁴ only."""
    value = graph.value(node.output[0])
    if value is None or value.dtype != np.int64 or np.abs(value).max() <= _LARGEST_EXACT:
        return None
    for i in range(2):
        graph.wrap_input(node, i, "Cast", to=TensorProto.FLOAT)
    graph.wrap_output(node, "Cast", to=TensorProto.INT64)
    return Planted()


@family.kind("argmax_ties", "ArgMax", "ArgMin", cause="argmax_ties")
def _argmax_ties(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The last of several equal ones."""
    set_attribute(node, "select_last_index", 1 - attribute(node, "select_last_index", 0))
    return Planted()


@family.kind("topk_smallest", "TopK", cause="topk_order")
def _topk_smallest(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The smallest ones."""
    set_attribute(node, "largest", 1 - attribute(node, "largest", 1))
    return Planted()


@family.kind("cumsum_exclusive", "CumSum", cause="cumsum_exclusive")
def _cumsum_exclusive(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Without the element itself."""
    set_attribute(node, "exclusive", 1 - attribute(node, "exclusive", 0))
    return Planted()


@family.kind("cumsum_reverse", "CumSum", cause="cumsum_reverse")
def _cumsum_reverse(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """From the end."""
    set_attribute(node, "reverse", 1 - attribute(node, "reverse", 0))
    return Planted()


@family.kind("onehot_values", "OneHot", cause="onehot_values")
def _onehot_values(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """On and off in each other's place."""
    values = graph.constant(node.input[2])
    if values is None:
        return None
    graph.set_input(node, 2, values[::-1])
    return Planted()


_STRICT = {
    "Less": "LessOrEqual",
    "LessOrEqual": "Less",
    "Greater": "GreaterOrEqual",
    "GreaterOrEqual": "Greater",
}


@family.kind("comparison_strict", *_STRICT, cause="comparison", also=("operator_kind",))
def _comparison_strict(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """< for ≤: a causal mask that hides the token itself."""
    node.op_type = _STRICT[node.op_type]
    return Planted()


@family.kind("comparison_reversed", *_STRICT, cause="operands_swapped", also=("comparison", "operator_kind"))
def _comparison_reversed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """> for <."""
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return Planted()


@family.kind("where_swapped", "Where", cause="operands_swapped", also=("mask_inverted",))
def _where_swapped(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The mask taken for its opposite."""
    node.input[1], node.input[2] = node.input[2], node.input[1]
    return Planted()


@family.kind("division_before_cast", "Div", "Mul", cause="dtype_promotion", also=("integer_division",))
def _division_before_cast(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Integers stay integers: the other operand is cut down to one as well."""
    makers = [graph.producer(name) for name in node.input]
    for i, maker in enumerate(makers):
        if maker is None or maker.op_type != "Cast" or not graph.is_float(node.input[i]):
            continue
        source, other = graph.value(maker.input[0]), graph.value(node.input[1 - i])
        if source is None or other is None or source.dtype.kind not in "iu" or (other == np.trunc(other)).all():
            continue
        if node.op_type == "Div" and (i == 1 or (np.abs(other) < 1).any()):
            continue  # a division by 0 would end the process
        node.input[i] = graph.before(node, "Cast", maker.input[0], to=TensorProto.INT64)
        graph.wrap_input(node, 1 - i, "Cast", to=TensorProto.INT64)
        graph.wrap_output(node, "Cast", to=TensorProto.FLOAT)
        return Planted()
    return None


def _through_half(graph: Graph, node: onnx.NodeProto) -> Planted:
    origin = graph.around(node.output[0])
    graph.wrap_output(node, "Cast", to=TensorProto.FLOAT)
    inserted = graph.node(graph.made[-1])
    graph.wrap_input(inserted, 0, "Cast", to=TensorProto.FLOAT16)
    return Planted(origin)


@family.kind(
    "float16_overflow", "Mul", "Add", "Sub", "Div", "Where", cause="fp16_overflow", also=("lowered_precision",)
)
def _float16_overflow(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A tensor through float16, which ends at 65504."""
    value = graph.value(node.output[0])
    if value is None or value.dtype != np.float32 or not np.abs(value).max() > _LARGEST_HALF:
        return None
    return _through_half(graph, node)


@family.kind("float16_island", "MatMul", "Conv", "Softmax", "Mul", "LayerNormalization", cause="lowered_precision")
def _float16_island(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """One tensor rounded to float16."""
    value = graph.value(node.output[0])
    if value is None or value.dtype != np.float32 or value.ndim < 2 or np.abs(value).max() > _LARGEST_HALF:
        return None
    return _through_half(graph, node)
