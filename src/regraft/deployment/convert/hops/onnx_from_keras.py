"""ONNX from Keras files, by the Keras of TensorFlow and tf2onnx in an environment of their own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class OnnxFromKeras:
    """Converts whole models; a file's code is not run."""

    name = "onnx_from_keras"
    source = "keras"
    target = "onnx"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Load the network, freeze it and translate it; free axes stay free.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "onnx_from_tensorflow", "onnxruntime")
