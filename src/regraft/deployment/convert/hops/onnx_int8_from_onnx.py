"""An ONNX graph whose matrix products or convolutions compute in 8 bits, by ONNX Runtime's quantisation."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.convert.hops.onnx_rewriting import graph_model, quiet, refused, rewritten
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.errors import Unsupported
from regraft.runtime.onnx_proto import precision_of_graph, proto_from_bytes

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array, Feeds

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("MatMul", "Gemm", "Attention", "LSTM", "EmbedLayerNormalization")
"""What ONNX Runtime quantises with the range of each input taken while it runs."""

_PER_CHANNEL_OPSET = 13
"""From here on a scale may be one a channel. Source: the changelog of ONNX's operators, DequantizeLinear."""


class OnnxInt8FromOnnx:
    """Quantises weights to 8 bits a channel; activations while running, or of convolutions by calibration."""

    name = "onnx_int8_from_onnx"
    source = "onnx"
    target = "onnx-int8"
    cost = 5

    def obstacle(self) -> str:
        """ONNX Runtime must be installed."""
        return missing("onnxruntime", "onnx", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Quantise: dynamically where matrix products carry the network, by calibration where convolutions do.

        ONNX Runtime's dynamic convolution is slower than the one in float32, hence the second way; its ranges are
        those of the examples, so real inputs make it better. Source: onnxruntime.ai, quantize ONNX models.

        Raises:
            Unsupported: nothing in it can be quantised, or the result does not run where the source does.
        """
        import onnxruntime

        model = graph_model(source)
        counts = Counter(node.op_type for node in model.outline.graph.node)
        convolutions = sum(counts[name] for name in _CONVOLUTIONS)
        products = sum(counts[name] for name in _PRODUCTS)
        if not convolutions + products:
            raise Unsupported("it has no matrix product and no convolution to quantise", where=source.where)
        feeds = source.feeds if convolutions >= products else ()
        try:
            with quiet():
                proto = _quantised(model.content, feeds, source.where)
        except Exception as error:
            raise refused("onnxruntime's quantisation", error, source.where) from error
        if precision_of_graph(proto) != "int8":
            raise Unsupported("onnxruntime quantised nothing of it", where=source.where)
        how = f"calibrated on {len(feeds)} inputs" if feeds else "ranges of activations are taken while it runs"
        made = sum(node.op_type == "QuantizeLinear" or "Integer" in node.op_type for node in proto.graph.node)
        versions = {"onnxruntime": str(onnxruntime.__version__)}
        notes = (f"{how}; {made} quantising operators",)
        return rewritten(proto, source, notes=notes, versions=versions, precision="int8")


class _Reader:
    """The examples, one after the other, as ONNX Runtime asks for them."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._left = list(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return dict(self._left.pop(0)) if self._left else None


def _quantised(content: bytes, feeds: Sequence[Feeds], where: str) -> onnx.ModelProto:
    """With feeds by calibration, without dynamically."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(_Reader)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        source, prepared, made = (Path(folder) / name for name in ("source.onnx", "prepared.onnx", "made.onnx"))
        source.write_bytes(content)
        per_channel = _opset(proto_from_bytes(content, where)) >= _PER_CHANNEL_OPSET
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        if feeds:
            quantize_static(
                str(prepared),
                str(made),
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                per_channel=per_channel,
            )
        else:
            quantize_dynamic(str(prepared), str(made), weight_type=QuantType.QInt8, per_channel=per_channel)
        return proto_from_bytes(made.read_bytes(), where)


def _opset(proto: onnx.ModelProto) -> int:
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
