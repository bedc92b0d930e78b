"""Two operators of one kind on the same inputs: which setting or weight of the reference's mends the candidate's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.bodies import origin_inside, with_branches_swapped
from regraft.compare.causes.attributes import cause_of_attribute, weightiest
from regraft.compare.causes.borrowed import OF_FUSION, with_operands
from regraft.compare.causes.patching import scaled
from regraft.compare.causes.weights import cause_of_operand, cause_of_weight
from regraft.compare.matching import is_within
from regraft.compare.noise import Ratio
from regraft.compare.roles import CONTROL_FLOW
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import onnx

    from regraft.compare.walk import Walk
    from regraft.runtime.operator_graph import OperatorNode

_MAX_PERMUTED = 3
_GIVEN = "operand of the reference "


class Transplant(msgspec.Struct, frozen=True):
    """What of the reference's operator brings the candidate's into the floor.

    Attributes:
        cause, detail: in words.
        residual: what remains.
        reference: operators of the reference that are to blame in place of the twin; empty for the twin itself.
    """

    cause: str
    detail: str
    residual: Ratio | None
    reference: tuple[str, ...] = ()


def transplanted(walk: Walk, node: OperatorNode, twin: OperatorNode) -> Transplant | None:
    """Give the candidate's operator what it lacks of its twin: one setting, one weight, another order; else all.

    Args:
        walk: both graphs are ONNX.
        node: of the candidate, on corresponding inputs.
        twin: of the reference, of the same kind.
    Returns:
        None when even all settings and weights together do not mend it.
    """
    ours: onnx.NodeProto = walk.trace.graph.protos[twin.name]  # type: ignore[attr-defined]
    theirs: onnx.NodeProto = walk.candidate.protos[node.name]  # type: ignore[attr-defined]
    if node.operator in CONTROL_FLOW:
        found = _in_body(walk, node, twin)
        if found is not None:
            return found
    trial = _Trial(walk, node, twin)
    attributes = _differing(ours, theirs)
    weights = _differing_weights(walk, node, twin)
    for name in attributes:
        residual = trial.run(_with_attributes(theirs, ours, [name]), {})
        if residual is not None:
            cause, detail = cause_of_attribute(ours, theirs, name)
            return Transplant(cause, detail, residual.ratio)
    for position, (mine, other) in weights.items():
        residual = trial.run(*with_operands(theirs, {position: mine}))
        if residual is not None:
            cause, detail = cause_of_weight(walk, twin, node, position, mine, other)
            return Transplant(cause, detail, residual.ratio)
    swapped = _swapped(trial, theirs) or _reconnected(walk, trial, node, twin, theirs)
    if swapped is not None:
        return swapped
    if len(attributes) + len(weights) < 2:
        return None
    changed = _with_attributes(theirs, ours, attributes)
    residual = trial.run(*with_operands(changed, {i: mine for i, (mine, _) in weights.items()}))
    if residual is None:
        return None
    if weights:
        position = next(iter(weights))
        cause, detail = cause_of_weight(walk, twin, node, position, *weights[position])
    else:
        cause, detail = cause_of_attribute(ours, theirs, weightiest(attributes))
    parts = [*attributes, *(f"operand {position}" for position in weights)]
    return Transplant(cause, f"{', '.join(parts)} differ together: {detail}", residual.ratio)


def _in_body(walk: Walk, node: OperatorNode, twin: OperatorNode) -> Transplant | None:
    """What is wrong inside: the branches are swapped, or an operator of the body does something else."""
    graph: Any = walk.trace.graph
    if node.operator == "If":
        try:
            made = graph.run_proto(with_branches_swapped(graph.protos[twin.name]), walk.trace.values)
        except Unsupported:
            made = {}
        swapped = _worst(walk, node, twin, made) if made else None
        if swapped is not None:
            return Transplant("branches_swapped", "the branches are swapped", swapped.ratio)
    inside = origin_inside(walk, node, twin)
    if inside is None:
        return None
    places = ", ".join(inside.reference or inside.candidate)
    return Transplant(inside.cause or "subgraph", f"in its body, at {places}: {inside.detail}", inside.residual)


def _worst(walk: Walk, node: OperatorNode, twin: OperatorNode, made: Mapping[str, Any]) -> _Residual | None:
    """Difference between the candidate's results and the reference's with a fault; None beyond rounding."""
    worst: Ratio | None = None
    for theirs, ours in zip(node.outputs, twin.outputs, strict=False):
        value, tensor, wanted = walk.computed.get(theirs), walk.trace.tensors.get(ours), made.get(ours)
        if value is None or tensor is None or wanted is None:
            continue
        if value.shape != wanted.shape or (tensor.own is None and bool((value != wanted).any())):
            return None
        ratio = scaled(tensor, wanted).ratio(value, unit=walk.trace.unit) if tensor.own is not None else None
        if ratio is not None and not is_within(ratio):
            return None
        if ratio is not None and (worst is None or ratio.rms > worst.rms):
            worst = ratio
    return _Residual(worst)


class _Residual(msgspec.Struct, frozen=True):
    ratio: Ratio | None


class _Trial:
    """Runs variants of the candidate's operator and compares its results with the twin's."""

    def __init__(self, walk: Walk, node: OperatorNode, twin: OperatorNode) -> None:
        self._walk = walk
        self._node = node
        self._twin = twin

    def run(self, proto: onnx.NodeProto, overlay: Mapping[str, Any]) -> _Residual | None:
        """Divergence of a variant that agrees; None for one that does not, or cannot be run."""
        walk = self._walk
        graph: Any = walk.candidate
        try:
            found = graph.run_proto(proto, {**walk.values, **overlay})
        except Unsupported:
            return None
        worst: Ratio | None = None
        for theirs, ours in zip(proto.output, self._twin.outputs, strict=False):
            tensor = walk.trace.tensors.get(ours)
            if not theirs or tensor is None or theirs not in found:
                continue
            value = found[theirs]
            if value.size != tensor.value.size:
                return None
            match = walk.index.agrees(value, tensor)
            if match is None:
                return None
            if match.ratio is not None and (worst is None or match.ratio.rms > worst.rms):
                worst = match.ratio
        return _Residual(worst)


def _differing(ours: onnx.NodeProto, theirs: onnx.NodeProto) -> list[str]:
    mine = {one.name: one.SerializeToString(deterministic=True) for one in ours.attribute}
    other = {one.name: one.SerializeToString(deterministic=True) for one in theirs.attribute}
    mine, other = ({name: v for name, v in one.items() if name not in OF_FUSION} for one in (mine, other))
    return [name for name in dict.fromkeys((*mine, *other)) if mine.get(name) != other.get(name)]


def _with_attributes(theirs: onnx.NodeProto, ours: onnx.NodeProto, names: list[str]) -> onnx.NodeProto:
    """A copy of the candidate's operator with some of the reference's attributes, and no more results than that has."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(theirs)
    kept = [one for one in theirs.attribute if one.name not in names]
    given = [one for one in ours.attribute if one.name in names]
    del copy.attribute[:]
    copy.attribute.extend([*kept, *given])
    del copy.output[len(ours.output) :]
    return copy


def _differing_weights(walk: Walk, node: OperatorNode, twin: OperatorNode) -> dict[int, tuple[Any, Any]]:
    """Position → (reference's value, candidate's value), both constants with other numbers; None for one that lacks."""
    found = {}
    for position, (theirs, ours) in enumerate(itertools.zip_longest(node.inputs, twin.inputs, fillvalue="")):
        mine = walk.trace.values.get(ours)
        mine = walk.trace.graph.constant(ours) if mine is None and ours else mine
        other = walk.candidate.constant(theirs) if theirs else None
        if mine is None or other is None or ours in walk.trace.tensors:
            continue
        if mine.shape != other.shape or mine.dtype != other.dtype or mine.tobytes() != other.tobytes():
            found[position] = (mine, other)
    return found


def _swapped(trial: _Trial, theirs: onnx.NodeProto) -> Transplant | None:
    import onnx

    if not 2 <= len(theirs.input) <= _MAX_PERMUTED or theirs.op_type in CONTROL_FLOW:
        return None
    for order in _orders(len(theirs.input)):
        copy = onnx.NodeProto()
        copy.CopyFrom(theirs)
        copy.input[:] = [theirs.input[i] for i in order]
        residual = trial.run(copy, {})
        if residual is not None:
            return Transplant("operands_swapped", f"the operands are in another order: {order}", residual.ratio)
    return None


def _reconnected(
    walk: Walk, trial: _Trial, node: OperatorNode, twin: OperatorNode, theirs: onnx.NodeProto
) -> Transplant | None:
    """The twin's own operands where the candidate's operator has others, or none."""
    import onnx

    given: dict[str, Any] = {}
    copy = onnx.NodeProto()
    copy.CopyFrom(theirs)
    for position, ours in enumerate(twin.inputs):
        other = node.inputs[position] if position < len(node.inputs) else ""
        tensor = walk.trace.tensors.get(ours)
        if tensor is None or walk.family(other) == tensor.family:
            continue
        copy.input.extend([""] * (position + 1 - len(copy.input)))
        copy.input[position] = f"{_GIVEN}{position}"
        given[copy.input[position]] = tensor.value
    residual = trial.run(copy, given) if given else None
    if residual is None:
        return None
    position = int(next(iter(given)).removeprefix(_GIVEN))
    other = node.inputs[position] if position < len(node.inputs) else ""
    if other and walk.candidate.constant(other) is not None:
        return _baked(walk, node, twin, position, residual)
    held = f"is {walk.matches[other].name}" if other in walk.matches else "is left out"
    detail = f"operand {position} of {node.operator} {held}; it is {twin.inputs[position]} in the reference"
    families = [walk.trace.tensors[name].family for name in twin.inputs if name in walk.trace.tensors]
    if sorted(families) == sorted(f for f in map(walk.family, node.inputs) if f is not None):
        word = "concat_order" if node.operator == "Concat" else "operands_swapped"
    else:
        word = "input_source"
    return Transplant(cause_of_operand(node.operator, position) or word, detail, residual.ratio)


def _baked(walk: Walk, node: OperatorNode, twin: OperatorNode, position: int, residual: _Residual) -> Transplant:
    """A constant where the reference computes: the blame is with the first operator whose result became one."""
    known = cause_of_operand(node.operator, position)
    detail = f"operand {position} of {node.operator} is a constant; it is {twin.inputs[position]} in the reference"
    maker: Any = getattr(walk.candidate, "maker", lambda name: None)
    is_own = known is not None and maker(node.inputs[position]) is None
    computed = walk.trace.region([twin.inputs[position]], walk.matched_names())
    return Transplant(
        known if is_own and known is not None else "baked_size" if computed else "constant_folding",
        detail,
        residual.ratio,
        () if is_own or not computed else (computed[0].name,),
    )


def _orders(count: int) -> Iterator[tuple[int, ...]]:
    plain = tuple(range(count))
    return (order for order in itertools.permutations(plain) if order != plain)


__all__ = ["Transplant", "transplanted"]
