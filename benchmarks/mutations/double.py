"""A network in float64, by ONNX's reference evaluator: slow, and exact enough to tell a fault from rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper


def in_double(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name, everything of float32 taken as float64."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        """Along axes of any length; the one that ships stops at 64 rows (onnx 1.23)."""

        def _run(self, data: np.ndarray, indices: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
            return (np.take_along_axis(data, indices, axis),)

    wide = {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in feeds.items()}
    names = [output.name for output in proto.graph.output]
    values = ReferenceEvaluator(widened(proto), new_ops=[GatherElements]).run(None, wide)
    return dict(zip(names, values, strict=True))


def widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with float64 for float32: initialisers, constants, casts, declared types."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for graph in _graphs(copy.graph):
        for tensor in graph.initializer:
            _widen(tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
        for node in graph.node:
            for one in node.attribute:
                if one.HasField("t"):
                    _widen(one.t)
                elif one.name in ("to", "dtype") and one.i == TensorProto.FLOAT:
                    one.i = TensorProto.DOUBLE
    return copy


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for one in node.attribute:
            if one.HasField("g"):
                yield from _graphs(one.g)
