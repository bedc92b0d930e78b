"""A SavedModel from Keras files, by the Keras of TensorFlow in an environment of its own."""

from __future__ import annotations

from regraft.deployment.convert.hops import tensorflow_hop
from regraft.deployment.convert.interface import Hop, Source


class SavedModelFromKeras:
    """Converts whole models; a file's code is not run."""

    name = "saved_model_from_keras"
    source = "keras"
    target = "saved-model"
    cost = tensorflow_hop.COST

    def obstacle(self) -> str:
        """The environment `tensorflow` must have been made."""
        return tensorflow_hop.obstacle()

    def convert(self, source: Source) -> Hop:
        """Load the network and save it with its weights as constants; free axes stay free.

        Raises:
            Unsupported: the converter refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        return tensorflow_hop.hop(source, "saved_model_from_tensorflow", "tensorflow")
