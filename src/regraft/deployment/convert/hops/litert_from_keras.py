"""TFLite from Keras files, by TensorFlow's own converter in an environment of its own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class LiteRtFromKeras:
    """Converts whole models; a file's code is not run."""

    name = "litert_from_keras"
    source = "keras"
    target = "litert"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Load the network, freeze it and write it with TFLite's builtin operators.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "litert_from_tensorflow", "litert")
