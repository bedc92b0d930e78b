"""An ONNX graph in float16; operators whose values would overflow stay in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.deployment.convert.hops.onnx_rewriting import graph_model, quiet, refused, rewritten
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.errors import Unsupported
from regraft.runtime.onnx_proto import proto_from_bytes

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import TapStatistics
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

_LIMIT = 2.0**15
"""Half of float16's largest number: other inputs than the examples may reach twice as far."""
_FLOAT, _FLOAT16 = 1, 10


class OnnxFloat16FromOnnx:
    """Halves weights and activations; inputs and outputs stay as they are."""

    name = "onnx_float16_from_onnx"
    source = "onnx"
    target = "onnx-float16"
    cost = 5

    def obstacle(self) -> str:
        """ONNX Runtime must be installed: the pass over the graph is its own."""
        return missing("onnxruntime", "onnx", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Look at the values of every operator on the examples, and convert those that stay in range.

        Raises:
            Unsupported: no operator may be converted, or the result does not run where the source does.
        """
        import onnxruntime
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = graph_model(source)
        proto = proto_from_bytes(model.content, source.where)
        for number, node in enumerate(proto.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        kept = _out_of_range(proto, _peaks(model, source))
        if len(kept) == len(proto.graph.node):
            raise Unsupported("the values of every operator leave the range of float16", where=source.where)
        try:
            with quiet():
                halved = convert_float_to_float16(proto, keep_io_types=True, node_block_list=kept)
        except Exception as error:
            raise refused("onnxruntime's float16 pass", error, source.where) from error
        _join(halved)
        notes = []
        if kept:
            shown = ", ".join(kept[:5]) + (", …" if len(kept) > 5 else "")
            notes.append(f"{len(kept)} operators stay in float32, their values reach beyond {_LIMIT:g}: {shown}")
        versions = {"onnxruntime": str(onnxruntime.__version__)}
        return rewritten(halved, source, notes=tuple(notes), versions=versions, precision="float16")


def _peaks(model: OnnxRuntimeModel, source: Source) -> dict[str, float]:
    """Tensor → largest magnitude over the examples; infinite where it is not finite."""
    import numpy as np

    peaks: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        peaks[name] = max(peaks.get(name, 0.0), value if np.isfinite(value) else np.inf)

    for feeds in source.feeds:
        for tap in model.trace(feeds, reduce=_statistics):
            if tap.kept is not None:
                note(tap.name, tap.kept.peak)
        for name, value in feeds.items():
            if value.dtype.kind == "f" and value.size:
                note(name, float(np.abs(value).max()))
    return peaks


def _statistics(value: object) -> TapStatistics:
    import numpy as np

    from regraft.runtime.interface import TapStatistics

    array = np.asarray(value)
    is_float = array.dtype.kind == "f" and array.size
    peak = float(np.abs(array).max()) if is_float else 0.0
    return TapStatistics(array.shape, array.dtype.name, 0.0, peak, 0.0)


def _out_of_range(proto: onnx.ModelProto, peaks: dict[str, float]) -> list[str]:
    """Names of the nodes that read or make a number which float16 cannot hold, weights included."""
    import numpy as np
    from onnx import numpy_helper

    for weight in proto.graph.initializer:
        if weight.data_type == _FLOAT:
            values = numpy_helper.to_array(weight)
            peaks[weight.name] = float(np.abs(values).max()) if values.size else 0.0
    return [
        node.name
        for node in proto.graph.node
        if any(peaks.get(name, 0.0) > _LIMIT for name in (*node.input, *node.output))
    ]


def _join(proto: onnx.ModelProto) -> None:
    """Lead a tensor in float32 from one operator that stays so to the next, without the way through float16.

    The pass casts after and before each of them by itself; a value that overflows would be lost in between.
    """
    casts = {node.output[0]: node for node in proto.graph.node if node.op_type == "Cast"}
    targets = {name: next(entry.i for entry in node.attribute if entry.name == "to") for name, node in casts.items()}
    halved = {name: casts[name].input[0] for name, kind in targets.items() if kind == _FLOAT16}
    direct = {
        name: halved[casts[name].input[0]]
        for name, kind in targets.items()
        if kind == _FLOAT and casts[name].input[0] in halved
    }
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in direct:
                node.input[index] = direct[name]
    used = {name for node in proto.graph.node for name in node.input} | {value.name for value in proto.graph.output}
    for node in [node for node in proto.graph.node if node.op_type == "Cast" and node.output[0] not in used]:
        proto.graph.node.remove(node)
