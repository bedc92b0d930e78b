"""Put weights of a reference where a map says that they belong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from regraft.compare.weight_map.pieces import Pair

if TYPE_CHECKING:
    from regraft.runtime.interface import Array
    from regraft.runtime.named_weights import NamedWeight


class Applier:
    """Makes weights of the candidate; of a weight that several pairs are slices of, all slices are kept.

    Args:
        weights: of the candidate.
        values: weight of the reference → array.
    """

    def __init__(self, weights: Mapping[str, NamedWeight], values: Mapping[str, Array]) -> None:
        self._weights = weights
        self._values = values
        self._partial: dict[str, Array] = {}

    def of_pairs(self, pairs: Iterable[Pair]) -> dict[str, Array]:
        """Weight of the candidate → array, float32; float64 where a source is (gradients of an exact run).

        Raises:
            UsageError: the numbers of a pair do not fit.
        """
        import numpy as np

        found: dict[str, Array] = {}
        for pair in pairs:
            name = pair.candidate.weight
            into = self._partial.get(name) if pair.candidate.part is not None else None
            if into is None:
                given = [np.float32, *(self._values[one.piece.weight].dtype for one in pair.sources)]
                into = np.zeros(self._weights[name].shape, np.float64 if np.float64 in given else np.float32)
            pair.place(self._values, into)
            if pair.candidate.part is not None:
                self._partial[name] = into
            found[name] = into
        return found
