"""Differential fuzzing: a reference as oracle for its re-implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.compare.coverage import FaultCoverage, fault_coverage
from regraft.compare.judge import threshold
from regraft.compare.measure import EXACT, Yardstick
from regraft.compare.pairing import pair_outputs
from regraft.compare.weight_map import WeightMap
from regraft.conceptual.fuzzing.checkpoints import OWN, Checkpoint, checkpoints, mapped_names, tied
from regraft.conceptual.fuzzing.domain import Domain, accepts, domain_of
from regraft.conceptual.fuzzing.oracle import PRECISION, Oracle, moved
from regraft.conceptual.fuzzing.search import Fuzzed, Search
from regraft.conceptual.fuzzing.values import drawn, kinds_of
from regraft.runtime.feeding import feeds_for
from regraft.runtime.graphs import operator_graph
from regraft.runtime.named_weights import with_weights

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

_BATCHES = 2
"""Of inputs, to train on."""
_SAMPLE = 12
"""Inputs that planted faults are run on: one of each of the first kinds of values."""


class Pair:
    """A reference and a re-implementation of it that can be given the same weights.

    Args:
        reference: eager torch, JAX, or any other; others keep the weights that they have.
        candidate: with the reference's weights in it.
        feeds: that both take, by the reference's names; their sizes are the usual ones.
        inputs: reference's input → candidate's.
        weight_map: from the reference's weights to the candidate's; without pairs both keep what they have.
        values: the reference's weights.
        seed: of everything that is drawn.
    Raises:
        Unsupported: an output of one is none of the other's.
    """

    def __init__(
        self,
        reference: Model,
        candidate: Model,
        feeds: Feeds,
        *,
        inputs: Mapping[str, str],
        weight_map: WeightMap,
        values: Mapping[str, Array],
        seed: int = 0,
    ) -> None:
        self.domain: Domain
        self.domain, self._reference, self._candidate = domain_of(reference, candidate, feeds, inputs=inputs)
        self.inputs = dict(inputs)
        self._feeds, self._map, self._seed = dict(feeds), weight_map, seed
        theirs = {inputs[name]: value for name, value in feeds.items() if name in inputs}
        said = reference(feeds_for(reference, feeds)), candidate(feeds_for(candidate, theirs))
        self.outputs = pair_outputs(*said, candidate.where).names
        self._values = dict(values) if weight_map.pairs else {}

    def checkpoints(self) -> list[Checkpoint]:
        """The sets of weights that both can be given, the reference's own first."""
        import numpy as np

        if not self._values:
            return [OWN]
        random = np.random.default_rng(self._seed)
        ordinary = {port.name: kinds_of(port, self.domain)[0] for port in self.domain.ports}
        batches = [drawn(self.domain, self.domain.usual, ordinary, random) for _ in range(_BATCHES)]
        return checkpoints(self._reference, self._map, self._values, batches, seed=self._seed)

    def oracle(self, checkpoint: Checkpoint) -> Oracle:
        """Both under one set of weights, and a little beside it."""
        beside = (lambda seed: self._oracle(self._moved(checkpoint, seed), None)) if self._values else None
        return self._oracle(checkpoint, beside)

    def _oracle(self, checkpoint: Checkpoint, beside: Callable[[int], Oracle] | None) -> Oracle:
        models = self.filled(checkpoint)
        return Oracle(
            *models, self._feeds, inputs=self.inputs, outputs=self.outputs, seed=self._seed, beside=beside
        )  # fmt: skip

    def _moved(self, checkpoint: Checkpoint, seed: int) -> Checkpoint:
        """A set of weights with each number moved by a few units in its last place."""
        import numpy as np

        random = np.random.default_rng(seed)
        values = {name: checkpoint.values.get(name, self._values[name]) for name in mapped_names(self._map)}
        near = {name: moved(value, random, with_zeros=True) for name, value in values.items()}
        return Checkpoint(checkpoint.name, checkpoint.told, tied(near, self._map))

    def filled(self, checkpoint: Checkpoint) -> tuple[Model, Model]:
        """Both networks with a set of weights, taking all the sizes that the reference does."""
        if not checkpoint.values:
            return self._reference, self._candidate
        theirs = self._map.to_candidate({**self._values, **checkpoint.values})
        return with_weights(self._reference, checkpoint.values), with_weights(self._candidate, theirs)

    def restore(self) -> None:
        """Give networks that are changed themselves (Keras) the weights back that they came with."""
        for model in (self._reference, self._candidate):
            if type(model).__name__ == "KerasModel":
                keras: Any = model
                keras.with_weights(keras.weights)

    def coverage(self, sample: Sequence[Feeds], *, seconds: float) -> FaultCoverage:
        """How many faults, planted in the reference, would these inputs have brought to an output?

        Args:
            sample: inputs of the usual sizes.
            seconds: most that it may take.
        Raises:
            Unsupported: the reference does not show its operators, or has no float64.
        """
        given = [dict(feeds) for feeds in sample if accepts(self._reference, feeds)][:_SAMPLE]
        yardstick = Yardstick(self._reference, self._feeds, method=EXACT, seed=self._seed)
        answers = list(yardstick.answers(given))
        graph = operator_graph(self._reference, self._feeds)
        outputs = dict(zip(answers[0].truth, graph.outputs, strict=False)) if answers else {}
        limits = threshold(EXACT, PRECISION)
        return fault_coverage(graph, given, answers, limits=limits, outputs=outputs, seed=self._seed, time_s=seconds)


def fuzz(
    pair: Pair, *, seconds: float, inputs: int | None = None, given: Sequence[Feeds] = (), seed: int = 0
) -> Fuzzed:
    """Search for inputs, and weights, on which two networks differ by more than rounding.

    Args:
        pair: the two networks.
        seconds: to search; making what was found smaller comes on top.
        inputs: most that are judged; a search that this ends is the same again with the same seed.
        given: inputs of the user's own, which are tried first.
        seed: of everything that is drawn.
    Raises:
        Unsupported: there is no floor to judge by.
    """
    try:
        search = Search(pair.domain, pair.checkpoints(), pair.oracle, given=given, seed=seed)
        return search.run(seconds, inputs)
    finally:
        pair.restore()
