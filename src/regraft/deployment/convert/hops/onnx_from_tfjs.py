"""ONNX from TensorFlow.js models, by tf2onnx in an environment of its own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class OnnxFromTfjs:
    """Converts graph models and models of layers."""

    name = "onnx_from_tfjs"
    source = "tfjs"
    target = "onnx"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Undo the fusions of tfjs, translate the graph; quantised weights become the numbers that they stand for.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "onnx_from_tensorflow", "onnxruntime")
