"""ONNX from SavedModels and frozen graphs, by tf2onnx in an environment of its own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class OnnxFromSavedModel:
    """Converts the serving signature."""

    name = "onnx_from_saved_model"
    source = "saved-model"
    target = "onnx"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Freeze the graph and translate it operator by operator; free axes stay free.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "onnx_from_tensorflow", "onnxruntime")
