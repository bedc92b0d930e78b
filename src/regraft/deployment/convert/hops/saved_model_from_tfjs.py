"""A SavedModel from TensorFlow.js models, by TensorFlow in an environment of its own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class SavedModelFromTfjs:
    """Converts graph models and models of layers."""

    name = "saved_model_from_tfjs"
    source = "tfjs"
    target = "saved-model"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Undo the fusions of tfjs and save the graph with its weights as constants.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "saved_model_from_tensorflow", "tensorflow")
