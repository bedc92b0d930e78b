"""The weight map: which weight of one implementation is which of another, proven on the network's own numbers.

Source: docs/explanation/weight-map.md.
"""

from regraft.compare.weight_map.mapping import MapStatistics, WeightMap, map_weights, structural_map
from regraft.compare.weight_map.pieces import Pair, Piece, Source

__all__ = ["MapStatistics", "Pair", "Piece", "Source", "WeightMap", "map_weights", "structural_map"]
