"""The forms in which a converted network arrives: names kept, renamed, in bfloat16, fused by an optimiser."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from benchmarks.mutations.renaming import graphs, renamed
from benchmarks.mutations.running import LEVELS, Stopped
from onnx import TensorProto, numpy_helper


def named(proto: onnx.ModelProto) -> onnx.ModelProto:
    """As it is."""
    return proto


def bf16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Renamed, and every weight rounded to the nearest bfloat16, still stored as float32."""
    copy = renamed(proto)
    for graph in graphs(copy.graph):
        for tensor in graph.initializer:
            _round(tensor)
        for node in graph.node:
            for one in node.attribute:
                if one.name == "value" and one.HasField("t"):
                    _round(one.t)
    return copy


def fused(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Renamed, then as ONNX Runtime's optimiser saves it at its highest level, blocked convolutions included."""
    return optimised(renamed(proto), level="all")


VARIANTS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "named": named,
    "renamed": renamed,
    "bf16": bf16,
    "fused": fused,
}


def optimised(proto: onnx.ModelProto, *, level: str, is_blocked: bool = True) -> onnx.ModelProto:
    """The graph that ONNX Runtime makes of a network at one of its levels.

    At `all` convolutions work on channels in blocks (`com.microsoft.nchwc`). Such a graph can be saved, loaded, checked
    and traced (1.32), on a processor like the one that saved it. Its taps between ReorderInput and ReorderOutput say
    (N, C, H, W) for their shape, while the numbers lie as (N, C / block, H, W, block), block = 8 with AVX2 and 16 with
    AVX-512; C is rounded up to whole blocks.

    Args:
        proto: the network.
        level: basic, extended or all.
        is_blocked: let convolutions work in blocks.
    Raises:
        Stopped: the runtime refuses the graph.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 4
    without = [] if is_blocked else ["NchwcTransformer"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        content = proto.SerializeToString()
        try:
            ort.InferenceSession(content, options, providers=["CPUExecutionProvider"], disabled_optimizers=without)
        except Exception as error:  # the runtime's exceptions have no base of their own
            raise Stopped(str(error)[:500]) from error
        return onnx.load(str(path))


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to the nearest bfloat16, ties to even, as float32; infinities and NaN stay."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    finite = np.isfinite(values)
    return np.where(finite, rounded.view(np.float32), values).reshape(values.shape)


def _round(tensor: onnx.TensorProto) -> None:
    values = numpy_helper.to_array(tensor) if tensor.data_type == TensorProto.FLOAT else None
    if values is not None and values.size > 1:  # scalars are settings of an operator, no weights
        tensor.CopyFrom(numpy_helper.from_array(to_bfloat16(values), tensor.name))
