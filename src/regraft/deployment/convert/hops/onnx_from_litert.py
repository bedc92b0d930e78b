"""ONNX from TFLite, by tf2onnx in an environment of its own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class OnnxFromLiteRt:
    """Converts flatbuffers, quantised ones included."""

    name = "onnx_from_litert"
    source = "litert"
    target = "onnx"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Translate the first graph of the file operator by operator.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "onnx_from_litert", "onnxruntime")
