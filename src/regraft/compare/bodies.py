"""Inside of If, Loop and Scan: the first rounds of two bodies are compared as graphs of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.compare.canonical import CanonicalTrace
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import onnx

    from regraft.compare.localise import Origin
    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.onnx_graph import OnnxGraph
    from regraft.runtime.operator_graph import OperatorNode

MAX_ROUNDS = 3
_BRANCHES = {"then_branch": "else_branch", "else_branch": "then_branch"}


def origin_inside(walk: Walk, node: OperatorNode, twin: OperatorNode) -> Origin | None:
    """The first origin in the bodies of two operators of control flow, in the first rounds that show one.

    Args:
        walk: both graphs are ONNX.
        node: of the candidate, on corresponding inputs.
        twin: of the reference, of the same kind.
    Returns:
        None where the bodies do the same, or where they take from outside what does not correspond.
    """
    from regraft.compare.localise import localise

    ours, theirs = walk.trace.graph.protos[twin.name], walk.candidate.protos[node.name]  # type: ignore[attr-defined]
    for mine, other in _bodies(walk, twin, ours, theirs):
        reference, candidate = _as_graph(walk.trace.graph, mine), _as_graph(walk.candidate, other)
        outside = _outside(walk, reference, candidate, len(mine.input), len(other.input))
        if outside is None:
            continue
        pairs, captured = outside
        pairs |= {a.name: b.name for a, b in zip(mine.input, other.input, strict=False)}
        try:
            for trace in _rounds(walk, twin, ours, reference, mine, captured):
                found = localise(reference, candidate, trace.fed, inputs=pairs, trace=trace)
                if found.origins:
                    return found.origins[0]
        except Unsupported:
            continue
    return None


def with_branches_swapped(proto: onnx.NodeProto) -> onnx.NodeProto:
    """An If that does the one thing for the other."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    for attribute in copy.attribute:
        attribute.name = _BRANCHES.get(attribute.name, attribute.name)
    return copy


def _bodies(
    walk: Walk, twin: OperatorNode, ours: onnx.NodeProto, theirs: onnx.NodeProto
) -> Iterator[tuple[onnx.GraphProto, onnx.GraphProto]]:
    held = {one.name: one.g for one in theirs.attribute if one.HasField("g")}
    wanted = None
    if ours.op_type == "If":
        condition = walk.trace.values.get(twin.inputs[0])
        condition = walk.trace.graph.constant(twin.inputs[0]) if condition is None else condition
        wanted = "then_branch" if condition is not None and bool(condition.item()) else "else_branch"
    for one in ours.attribute:
        if one.HasField("g") and one.name in held and wanted in (None, one.name):
            yield one.g, held[one.name]


def _as_graph(around: Any, body: onnx.GraphProto) -> OnnxGraph:
    """A body as a graph of its own: what it takes from outside is an input, or a weight where it is constant."""
    import onnx
    from onnx import helper, numpy_helper

    from regraft.runtime.onnx_graph import OnnxGraph, captured

    graph = onnx.GraphProto()
    graph.CopyFrom(body)
    holder = helper.make_node("Scan", [], [], body=body)
    for name in captured(holder):
        value = around.constant(name)
        if value is None:
            graph.input.append(onnx.ValueInfoProto(name=name))
        else:
            graph.initializer.append(numpy_helper.from_array(value, name))
    model = helper.make_model(graph, opset_imports=around.model.opset_import, ir_version=around.model.ir_version)
    return OnnxGraph(model, threads=1, where=around.where)


def _outside(
    walk: Walk, reference: OnnxGraph, candidate: OnnxGraph, ours: int, theirs: int
) -> tuple[dict[str, str], dict[str, Array]] | None:
    """What the bodies take from outside: reference's tensor → candidate's, and the reference's values."""
    values: dict[str, Array] = {name: walk.trace.values[name] for name in reference.inputs[ours:]}
    by_family = {walk.trace.tensors[name].family: name for name in values if name in walk.trace.tensors}
    pairs: dict[str, str] = {}
    for name in candidate.inputs[theirs:]:
        match = walk.matches.get(name)
        if match is None or match.layout.shape != walk.trace.tensors[match.name].value.shape:
            return None
        same = by_family.setdefault(walk.trace.tensors[match.name].family, match.name)
        values.setdefault(same, walk.trace.values[same])
        if same in pairs:
            return None
        pairs[same] = name
    return pairs, values


class _Round(CanonicalTrace):
    """One round of a body, and what it was fed."""

    fed: dict[str, Array]


def _rounds(
    walk: Walk,
    twin: OperatorNode,
    proto: onnx.NodeProto,
    reference: OnnxGraph,
    body: onnx.GraphProto,
    captured: Mapping[str, Array],
) -> Iterator[_Round]:
    """Traces of the first rounds of the reference's body."""
    given = [_value(walk, name) for name in proto.input]
    state, slices = _begin(proto, given)
    for number in range(MAX_ROUNDS):
        fed = _fed(proto, number, state, slices)
        if fed is None:
            return
        names = [value.name for value in body.input]
        feeds = {**dict(zip(names, fed, strict=True)), **captured}
        trace = _Round(reference, feeds, precision=walk.trace.precision)
        trace.fed = feeds
        yield trace
        made = [trace.values.get(value.name, reference.constant(value.name)) for value in body.output]
        first = 1 if proto.op_type == "Loop" else 0
        state = made[first : first + len(state)]
        if proto.op_type == "If" or any(value is None for value in state):
            return


def _value(walk: Walk, name: str) -> Any:
    value = walk.trace.values.get(name)
    return walk.trace.graph.constant(name) if value is None and name else value


def _begin(proto: onnx.NodeProto, given: list[Any]) -> tuple[list[Any], list[Any]]:
    """What a Loop or Scan carries from round to round at first, and what a Scan takes a slice of in each."""
    if proto.op_type == "Loop":
        return given[2:], []
    if proto.op_type == "Scan":
        count = next(one.i for one in proto.attribute if one.name == "num_scan_inputs")
        return given[: len(given) - count], given[len(given) - count :]
    return [], []


def _fed(proto: onnx.NodeProto, number: int, state: list[Any], slices: list[Any]) -> list[Any] | None:
    """The inputs of the body in one round; None after the last."""
    import numpy as np

    if proto.op_type == "If":
        return [] if number == 0 else None
    if proto.op_type == "Loop":
        return [np.array(number, np.int64), np.array(True), *state]
    lists = {one.name: list(one.ints) for one in proto.attribute}
    axes = lists.get("scan_input_axes", [0] * len(slices))
    backwards = lists.get("scan_input_directions", [0] * len(slices))
    if any(number >= value.shape[axis] for value, axis in zip(slices, axes, strict=True)):
        return None
    places = [-1 - number if back else number for back in backwards]
    return [*state, *(np.take(v, place, axis) for v, place, axis in zip(slices, places, axes, strict=True))]
