"""replicate, the part that is about weights: the reference's, in a re-implementation's places."""

from regraft.conceptual.replication.weights import Mapped, map_onto

__all__ = ["Mapped", "map_onto"]
