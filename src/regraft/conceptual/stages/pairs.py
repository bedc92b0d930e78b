"""What both sides call differently: outputs, and the names under which two networks hold one weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays, Side, WeightMap


class Paired:
    """The candidate, spoken to in the reference's names.

    Args:
        reference, candidate: both sides.
        weights: how their weights correspond.
    Raises:
        Unsupported: a weight that is trained in the candidate has no counterpart.
    """

    def __init__(self, reference: Side, candidate: Side, weights: WeightMap) -> None:
        self.reference = reference
        self.candidate = candidate
        self._map = weights
        self._outputs: dict[str, str] = {}

    def weights(self, ours: Arrays) -> dict[str, Array]:
        """The reference's weights as the candidate takes them.

        Raises:
            Unsupported: a weight of the candidate has none.
        """
        made = self._map.to_candidate(ours)
        own = self.candidate.weights()
        missing = [name for name in own if name not in made]
        if missing:
            raise Unsupported(
                f"{len(missing)} of {len(own)} weights have no counterpart in the reference, for instance {missing[0]}",
                where=self.candidate.where,
                hint="give a weight map",
            )
        return made

    def gradients(self, ours: Arrays) -> dict[str, Array]:
        """The reference's gradients as the candidate takes them; zero for weights that have none."""
        mapped = self._map.to_candidate({**_zeros(self.reference.weights()), **ours})
        trained = self.candidate.trainable()
        return {name: value for name, value in mapped.items() if name in trained}

    def back(self, theirs: Arrays) -> dict[str, Array]:
        """What the candidate says of its weights, by the reference's names; zero where it says nothing."""
        return self._map.to_reference({**_zeros(self.candidate.weights()), **theirs})

    def counterparts(self) -> dict[str, str]:
        """Weight of the reference → the candidate's that holds it, or a part of it."""
        import numpy as np

        own = self.reference.weights()
        numbered = {name: np.full(value.shape, i, np.float32) for i, (name, value) in enumerate(own.items())}
        names = list(own)
        found: dict[str, str] = {}
        for theirs, value in self._map.to_candidate(numbered).items():
            for number in np.unique(value):
                found.setdefault(names[int(number)], theirs)
        return found

    def fed(self, batch: Arrays) -> dict[str, Array]:
        """A batch of the reference by the names that the candidate's code uses."""
        if not self.candidate.batches or set(self.candidate.batches[0]) == set(batch):
            return dict(batch)
        names = list(self.candidate.batches[0])
        if len(names) != len(batch):
            raise Unsupported(
                f"its batches are {', '.join(names)}, the reference's {', '.join(batch)}",
                where=self.candidate.where,
                hint="let both factories name the parts of a batch alike",
            )
        return dict(zip(names, batch.values(), strict=True))

    def outputs(self, ours: Arrays, theirs: Arrays) -> dict[str, Array]:
        """The candidate's outputs by the reference's names: by name, else by position.

        Raises:
            Unsupported: they are not as many.
        """
        self._learn(ours, theirs)
        return {name: theirs[self._outputs[name]] for name in ours}

    def as_outputs(self, ours: Mapping[str, Array], theirs: Arrays) -> dict[str, Array]:
        """Arrays by the reference's names of outputs, by the candidate's."""
        self._learn(ours, theirs)
        return {self._outputs[name]: value for name, value in ours.items()}

    def _learn(self, ours: Arrays, theirs: Arrays) -> None:
        if set(ours) <= set(theirs):
            self._outputs = {name: name for name in ours}
            return
        if len(ours) != len(theirs):
            raise Unsupported(
                f"its outputs are {', '.join(theirs)}, the reference's {', '.join(ours)}",
                where=self.candidate.where,
                hint="let forward return as many outputs, by the same names",
            )
        self._outputs = dict(zip(ours, theirs, strict=True))


def _zeros(weights: Arrays) -> dict[str, Array]:
    import numpy as np

    return {name: np.zeros_like(value) for name, value in weights.items()}
