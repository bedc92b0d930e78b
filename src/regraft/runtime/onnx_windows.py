"""Pools of ONNX whose window is larger than what it slides over: there runtimes do not follow the standard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_MAX_NUMBERS = 1024
"""Elements of a constant that may be a shape; of larger ones only the sizes matter."""


def unfit_window(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> str:
    """The first pool whose window does not fit at these sizes, in words; empty where all do.

    The standard's formula gives no element there. ONNX Runtime rounds the quotient towards zero and computes one, of
    the part of the window that is there; OpenVINO refuses it. What it gives is therefore no promise of the network.

    Args:
        proto: weights are not looked at, and may lie elsewhere.
        shapes: input → sizes.
    Source: ONNX, operator MaxPool, output shape; onnxruntime 1.32, pool_attributes.h.
    """
    pools = [node for node in proto.graph.node if node.op_type in _POOLS and node.domain in ("", "ai.onnx")]
    if not pools:
        return ""
    known = _inferred(proto, shapes)
    for node in pools:
        if why := _unfit(node, known.get(node.input[0], ())):
            return why
    return ""


def _inferred(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Name → sizes of every tensor of the graph that follow from those of the inputs."""
    import onnx

    bare = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    bare.graph.node.extend(proto.graph.node)
    bare.graph.output.extend(proto.graph.output)
    for tensor in proto.graph.initializer:
        is_small = math.prod(tensor.dims) <= _MAX_NUMBERS
        bare.graph.initializer.append(
            tensor if is_small else onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        )
    for value in proto.graph.input:
        kind = value.type.tensor_type.elem_type
        sizes = shapes.get(value.name)
        bare.graph.input.append(
            value if sizes is None else onnx.helper.make_tensor_value_info(value.name, kind, list(sizes))
        )
    try:
        made = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):  # what it cannot follow is not judged
        return {}
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*made.value_info, *made.input)
    }


def _unfit(node: onnx.NodeProto, sizes: Sequence[int]) -> str:
    from onnx import helper

    settings: dict[str, Any] = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    kernel = settings.get("kernel_shape", ())
    rank = len(kernel)
    if settings.get("auto_pad", b"NOTSET").startswith(b"SAME") or len(sizes) != rank + 2:
        return ""
    pads = settings.get("pads", [0] * 2 * rank)
    dilations, strides = settings.get("dilations", [1] * rank), settings.get("strides", [1] * rank)
    rounded = math.ceil if settings.get("ceil_mode") else math.floor
    for i, size in enumerate(sizes[2:]):
        window = (kernel[i] - 1) * dilations[i] + 1
        over = size + pads[i] + pads[i + rank]
        if size and rounded((over - window) / strides[i]) + 1 < 1:
            return f"{node.op_type} {node.name or node.output[0]!r} has a window of {window} over {over} elements"
    return ""
