"""Where the bodies of two If, Loop or Scan operators differ: the reference's is run with parts of the candidate's."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.attributes import cause_of_attribute, kind_of
from regraft.compare.causes.interface import Hypothesis
from regraft.compare.causes.weights import cause_of_operand, change_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorNode

_BRANCHES = {"then_branch": "else_branch", "else_branch": "then_branch"}


class Difference(msgspec.Struct, frozen=True):
    """Something that differs between two bodies.

    Attributes:
        cause, detail: as of a hypothesis.
        graft: puts the candidate's into a copy of the reference's body.
        path: attributes and positions of operators that lead to the body from outside.
    """

    cause: str
    detail: str
    graft: Callable[[onnx.GraphProto], None]
    path: tuple[tuple[str, int], ...] = ()


def body_hypotheses(walk: Walk, twin: OperatorNode, node: OperatorNode) -> Iterator[Hypothesis]:
    """Parts of the candidate's bodies in the reference's operator, one by one.

    Args:
        walk: both graphs are ONNX.
        twin: of the reference.
        node: of the candidate, of the same kind.
    """
    graph: Any = walk.trace.graph
    ours, theirs = graph.protos[twin.name], walk.candidate.protos[node.name]  # type: ignore[attr-defined]
    if ours.op_type == "If":
        swapped = _copied(ours)
        for attribute in swapped.attribute:
            attribute.name = _BRANCHES.get(attribute.name, attribute.name)
        yield Hypothesis("branches_swapped", "the branches are swapped", functools.partial(graph.run_proto, swapped))
    outside = _Outside(walk.trace.graph.constant, walk.candidate.constant)
    for name, mine, other in _bodies(ours, theirs):
        for one in _differences(mine, other, outside, ()):
            copy = _copied(ours)
            body = next(attribute.g for attribute in copy.attribute if attribute.name == name)
            for inner, position in one.path:
                body = next(attribute.g for attribute in body.node[position].attribute if attribute.name == inner)
            one.graft(body)
            yield Hypothesis(one.cause, f"in {name}, {one.detail}", functools.partial(graph.run_proto, copy))


class _Outside(msgspec.Struct, frozen=True):
    """Constants of the graphs around two bodies."""

    ours: Callable[[str], Array | None]
    theirs: Callable[[str], Array | None]


def _copied(proto: onnx.NodeProto) -> onnx.NodeProto:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    return copy


def _bodies(ours: onnx.NodeProto, theirs: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto, onnx.GraphProto]]:
    held = {one.name: one.g for one in theirs.attribute if one.HasField("g")}
    yield from ((one.name, one.g, held[one.name]) for one in ours.attribute if one.HasField("g") and one.name in held)


def _differences(
    ours: onnx.GraphProto, theirs: onnx.GraphProto, outside: _Outside, path: tuple[tuple[str, int], ...]
) -> Iterator[Difference]:
    """What differs between operators that stand in the same order in two bodies."""
    names = dict(zip((one.name for one in theirs.input), (one.name for one in ours.input), strict=False))
    constants = (_constants(ours), _constants(theirs))
    for position, first, second in _aligned(ours, theirs):
        yield from _of_operators(position, first, second, path)
        for place, (held, other) in enumerate(zip(first.input, second.input, strict=False)):
            a = constants[0].get(held, outside.ours(held))
            b = constants[1].get(other, outside.theirs(other))
            if a is not None and b is not None:
                if a.shape != b.shape or a.tobytes() != b.tobytes():
                    yield _other_constant(position, place, first, a, b, path)
            elif other in names and names[other] != held:
                yield _other_source(
                    position, place, first, names[other], [names.get(n, "") for n in second.input], path
                )
        for name, a_body, b_body in _bodies(first, second):
            yield from _differences(a_body, b_body, outside, (*path, (name, position)))
        names.update(zip(second.output, first.output, strict=False))


def _aligned(ours: onnx.GraphProto, theirs: onnx.GraphProto) -> Iterator[tuple[int, onnx.NodeProto, onnx.NodeProto]]:
    """Position, reference's operator, candidate's: one by one where both have as many, else where the kinds agree."""
    mine = [(i, node) for i, node in enumerate(ours.node) if node.op_type != "Constant"]
    others = [node for node in theirs.node if node.op_type != "Constant"]
    if len(mine) == len(others):
        yield from ((i, node, other) for (i, node), other in zip(mine, others, strict=True))
        return
    kinds = [node.op_type for _, node in mine], [node.op_type for node in others]
    for block in difflib.SequenceMatcher(None, *kinds, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            yield *mine[block.a + step], others[block.b + step]


def _of_operators(
    position: int, first: onnx.NodeProto, second: onnx.NodeProto, path: tuple[tuple[str, int], ...]
) -> Iterator[Difference]:
    mine = {one.name: one.SerializeToString(deterministic=True) for one in first.attribute if not one.HasField("g")}
    held = {one.name: one.SerializeToString(deterministic=True) for one in second.attribute if not one.HasField("g")}
    names = [name for name in {**mine, **held} if mine.get(name) != held.get(name)]

    def graft(body: onnx.GraphProto) -> None:
        node = body.node[position]
        node.op_type = second.op_type
        kept = [one for one in node.attribute if one.HasField("g")]
        del node.attribute[:]
        node.attribute.extend([*kept, *(one for one in second.attribute if not one.HasField("g"))])

    if first.op_type != second.op_type:
        yield Difference(kind_of(first.op_type), f"{second.op_type} in place of {first.op_type}", graft, path)
    elif names:
        cause, detail = cause_of_attribute(first, second, names[0])
        yield Difference(cause, detail, graft, path)


def _other_constant(
    position: int, place: int, node: onnx.NodeProto, ours: Array, theirs: Array, path: tuple[tuple[str, int], ...]
) -> Difference:
    from onnx import numpy_helper

    def graft(body: onnx.GraphProto) -> None:
        name = f"{position}.{place} of the candidate"
        body.initializer.append(numpy_helper.from_array(theirs, name))
        body.node[position].input[place] = name

    changed = change_of(ours, theirs) if ours.size > 1 else None
    word = cause_of_operand(node.op_type, place) or ("constant_value" if ours.size == 1 else "weight_changed")
    detail = changed[1] if changed else f"{theirs.item():g}, not {ours.item():g}" if ours.size == 1 else "another one"
    return Difference(changed[0] if changed else word, f"operand {place} of {node.op_type} is {detail}", graft, path)


def _other_source(
    position: int, place: int, node: onnx.NodeProto, name: str, all_names: list[str], path: tuple[tuple[str, int], ...]
) -> Difference:
    is_order = sorted(all_names) == sorted(node.input)

    def graft(body: onnx.GraphProto) -> None:
        if is_order:
            body.node[position].input[:] = all_names
        else:
            body.node[position].input[place] = name

    detail = f"operand {place} of {node.op_type} is {name} in place of {node.input[place]}"
    return Difference("operands_swapped" if is_order else "input_source", detail, graft, path)


def _constants(body: onnx.GraphProto) -> Mapping[str, Array]:
    from onnx import helper, numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer}
    for node in body.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))
    return found
