"""A fault, or a port, as a pair of models with the same weights."""

from __future__ import annotations

from typing import Any

from benchmarks.fuzzed.faults import Fault

from regraft.compare.weight_map import map_weights
from regraft.conceptual.fuzzing import Pair
from regraft.runtime.graphs import operator_graph
from regraft.runtime.named_weights import weight_values, with_weights
from regraft.runtime.torch_factory import torch_model


def pair_of(reference: Any, candidate: Any, feeds: Any) -> tuple[Pair, Any]:
    """Both with the reference's weights, and the candidate as it takes the sizes of its examples alone."""
    inputs = {name: name for name in feeds}
    found = map_weights(reference, candidate, feeds, inputs=inputs)
    values = weight_values(reference, operator_graph(reference, feeds))
    filled = with_weights(candidate, found.to_candidate(values))
    return Pair(reference, filled, feeds, inputs=inputs, weight_map=found, values=values), filled


def fault_sides(fault: Fault) -> tuple[Any, Any, Any]:
    """Models, and feeds by name."""
    network, examples = fault.reference()
    feeds = {key: value.numpy() for key, value in examples.items()}
    return torch_model(network, examples, threads=1), torch_model(*fault.candidate(), threads=1), feeds
