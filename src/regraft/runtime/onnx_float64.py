"""ONNX operators rewritten to compute in float64, and kernels for those that nobody else has in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array

_FLOAT, _DOUBLE = 1, 11
_NARROW = frozenset({1, 10, 16})
"""Element types float32, float16 and bfloat16: what a float64 run widens."""
_DTYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}
_STAY_FLOAT = {"Resize": (1, 2), "Upsample": (1,)}
"""Operands that the standard fixes to float32 whatever the data are: regions and scales."""


def widened(proto: onnx.NodeProto) -> onnx.NodeProto:
    """A copy of an operator in which every narrow floating-point type is float64, in its subgraphs too."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    _widen(copy)
    return copy


def widened_value(proto: onnx.NodeProto, name: str, value: Any) -> Any:
    """An input of an operator in float64; integers, and what the standard fixes to float32, as they are.

    Of a sequence, each of its tensors.
    """
    if isinstance(value, list | tuple):
        return [widened_value(proto, name, one) for one in value]
    positions = _STAY_FLOAT.get(proto.op_type, ())
    if any(proto.input[place] == name for place in positions if place < len(proto.input)):
        return value
    if value.dtype.kind == "f" or str(value.dtype) == "bfloat16":
        return value.astype("float64")
    return value


def float64_kernel(proto: onnx.NodeProto, values: Mapping[str, Array]) -> dict[str, Array] | None:
    """An operator that onnxruntime has in float32 alone and ONNX's reference evaluator slowly, or in float32 too.

    Args:
        proto: widened.
        values: its inputs in float64.
    Returns:
        its outputs; None for all other operators.
    """
    if proto.domain:
        return None
    if proto.op_type == "Erf":
        return {proto.output[0]: _erf(values[proto.input[0]])}
    if proto.op_type == "GlobalMaxPool":  # the reference evaluator of ONNX 1.23 loses the channels of (N, C, L)
        x = values[proto.input[0]]
        return {proto.output[0]: x.max(axis=tuple(range(2, x.ndim)), keepdims=True)}
    return float64_convolution(proto, values) if proto.op_type == "Conv" else None


def _erf(x: Array) -> Array:
    """The reference evaluator of ONNX 1.23 rounds its erf to float32; torch has it in float64."""
    import math

    import numpy as np

    try:
        import torch
    except ImportError:
        flat = np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size)
        return flat.reshape(x.shape)
    found: Array = torch.special.erf(_tensor(x)).numpy()
    return found


def _tensor(value: Array) -> Any:
    """A tensor on the array's memory; torch wants it to be writable."""
    import numpy as np
    import torch

    return torch.from_numpy(np.require(value, requirements=("C", "W")))


def float64_convolution(proto: onnx.NodeProto, values: Mapping[str, Array]) -> dict[str, Array] | None:
    """`Conv` in float64 through torch; None for paddings that torch has not, or without torch."""
    try:
        import torch
    except ImportError:
        return None
    x, weight = values[proto.input[0]], values[proto.input[1]]  # (N, C, *spatial), (M, C/group, *kernel)
    spatial = x.ndim - 2
    if spatial not in (1, 2, 3):
        return None
    attributes = {attribute.name: attribute for attribute in proto.attribute}
    if "auto_pad" in attributes and attributes["auto_pad"].s not in (b"NOTSET", b"VALID"):
        return None
    pads = _ints(attributes, "pads", [0] * (2 * spatial))
    data, even = _tensor(x), pads[:spatial]
    if pads[spatial:] != even or min(pads) < 0:
        around = [amount for axis in reversed(range(spatial)) for amount in (pads[axis], pads[axis + spatial])]
        data, even = torch.nn.functional.pad(data, around), [0] * spatial
    bias = values[proto.input[2]] if len(proto.input) > 2 and proto.input[2] else None
    convolve: Any = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[spatial - 1]
    result = convolve(
        data,
        _tensor(weight),
        None if bias is None else _tensor(bias),
        stride=_ints(attributes, "strides", [1] * spatial),
        padding=even,
        dilation=_ints(attributes, "dilations", [1] * spatial),
        groups=attributes["group"].i if "group" in attributes else 1,
    )
    return {proto.output[0]: result.numpy()}


def _ints(attributes: Mapping[str, Any], name: str, default: list[int]) -> list[int]:
    return list(attributes[name].ints) if name in attributes else default


def _widen(proto: onnx.NodeProto) -> None:
    for attribute in proto.attribute:
        if attribute.name == _DTYPE_ATTRIBUTES.get(proto.op_type) and attribute.i in _NARROW:
            attribute.i = _DOUBLE
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for tensor in graph.initializer:
                _widen_tensor(tensor)
            for value in (*graph.input, *graph.output, *graph.value_info):
                kind = value.type.sequence_type.elem_type if value.type.HasField("sequence_type") else value.type
                if kind.tensor_type.elem_type in _NARROW:
                    kind.tensor_type.elem_type = _DOUBLE
            for node in graph.node:
                _widen(node)
    if proto.op_type == "Constant" and proto.attribute and proto.attribute[0].name in ("value_float", "value_floats"):
        _widen_constant(proto)


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    from onnx import numpy_helper

    if tensor.data_type in _NARROW:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float64"), tensor.name))


def _widen_constant(proto: onnx.NodeProto) -> None:
    import numpy as np
    from onnx import helper, numpy_helper

    value = np.array(helper.get_attribute_value(proto.attribute[0]), dtype=np.float64)
    del proto.attribute[:]
    proto.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value)))
