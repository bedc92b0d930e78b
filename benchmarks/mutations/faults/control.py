"""Faults of If, Loop and Scan."""

from __future__ import annotations

import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute

family = Family()


@family.kind("branches_swapped", "If", cause="branches_swapped")
def _branches_swapped(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Then for else."""
    for one in node.attribute:
        one.name = {"then_branch": "else_branch", "else_branch": "then_branch"}.get(one.name, one.name)
    return Planted()


@family.kind("branch_fixed", "If", cause="branch_fixed", also=("branches_swapped", "baked_size"))
def _branch_fixed(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The branch that the example took, always: what tracing does to Python's `if`."""
    taken = graph.value(node.input[0])
    if taken is None:
        return None
    graph.set_input(node, 0, taken)
    return Planted()


@family.kind("trip_count", "Loop", cause="trip_count")
def _trip_count(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """One round too few."""
    rounds = graph.constant(node.input[0])
    if rounds is None:
        return None
    graph.set_input(node, 0, rounds - 1)
    return Planted()


@family.kind("scan_direction", "Scan", cause="scan_direction")
def _scan_direction(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Backwards over its input."""
    directions = attribute(node, "scan_input_directions", [0] * attribute(node, "num_scan_inputs"))
    set_attribute(node, "scan_input_directions", [1 - directions[0], *directions[1:]])
    return Planted()


@family.kind("scan_output_direction", "Scan", cause="scan_direction")
def _scan_output_direction(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """What is stacked is stacked the other way round."""
    set_attribute(node, "scan_output_directions", [1])
    return Planted()


@family.kind("state_stale", "Identity", cause="state_stale", also=("input_source",))
def _state_stale(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The state of before the round is stacked, not the one of after it."""
    if not graph.enclosing(node) or not graph.is_returned(node.output[0]):
        return None
    maker = graph.producer(node.input[0])
    if maker is None:
        return None
    around = next(one for one in graph.nodes() if one.name == graph.enclosing(node)[-1])
    body = attribute(around, "body")
    states = [value.name for value in body.input if value.name.endswith("/state")] if body is not None else []
    if not states:
        return None
    node.input[0] = states[0]
    return Planted()
