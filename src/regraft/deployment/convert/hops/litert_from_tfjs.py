"""TFLite from TensorFlow.js models, by TensorFlow's own converter in an environment of its own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class LiteRtFromTfjs:
    """Converts graph models and models of layers."""

    name = "litert_from_tfjs"
    source = "tfjs"
    target = "litert"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Undo the fusions of tfjs and write the graph with TFLite's builtin operators.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "litert_from_tensorflow", "litert")
