"""Connections that differ: an operator too many, one too few, or one that takes another tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.attributes import kind_of
from regraft.compare.matching import Layout, Match
from regraft.compare.noise import Ratio
from regraft.compare.roles import moves_only, role
from regraft.compare.transplant import transplanted

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTensor
    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorNode

_MAX_STEPS = 4
"""Operators that may be missing in a row."""
_MAX_SOURCES = 48
_WHOLE = 1e-3
_ACTIVATIONS = frozenset("relu gelu sigmoid tanh silu leakyrelu elu selu softplus hardswish clip prelu".split())
_IN_FLOAT = {"pow": "integer_pow", "div": "integer_division"}
_OF_TAKERS = {"gather_index": "gather", "slice_bounds": "slice"}
Follow = Callable[[str, Match], bool]


class Rewiring(msgspec.Struct, frozen=True):
    """A changed connection that was shown by running it the other way.

    Attributes:
        reference: operators of the reference that are concerned.
        is_of_candidate: the candidate's operator is at fault, not the lack of one.
        tensor: reference's tensor that the candidate's result should be.
        cause: `node_inserted`, `node_missing`, `wrong_source`, or a more special word.
        detail: in words.
        residual: divergence that is left when it is connected rightly.
    """

    reference: tuple[str, ...]
    is_of_candidate: bool
    tensor: str
    cause: str
    detail: str
    residual: Ratio | None


def bypassed(walk: Walk, node: OperatorNode, theirs: str, follow: Follow) -> Rewiring | None:
    """An operator that should not be there: with one of its inputs in place of its result, what follows agrees."""
    value: Any = walk.computed.get(theirs)  # or a size, which torch passes between operators as well
    for name in node.inputs:
        match = walk.matches.get(name)
        if match is None or not hasattr(value, "size") or walk.trace.tensors[match.name].value.size != value.size:
            continue
        layout = Layout(value.shape)
        if follow(theirs, Match(match.name, layout, None, by="pinned", is_sound=False)):
            around, cause = _place_of_inserted(walk, node, match.name, value)
            detail = f"{node.operator} is not in the reference, where {match.name} is used as it is"
            return Rewiring(around, True, match.name, cause, detail, None)
    return None


def _place_of_inserted(walk: Walk, node: OperatorNode, name: str, value: Array) -> tuple[tuple[str, ...], str]:
    """The reference's operator beside which one is too many, and a word for it."""
    cause = _cause_of_inserted(walk, node, value)
    tensor = walk.trace.tensors[name].value
    takers = [one for one in walk.trace.graph.nodes if name in one.inputs]
    if role(node.operator) == "cast" and value.dtype.kind == "f" and tensor.dtype.kind in "iu":
        kinds = {role(user.operator) for made in node.outputs for user in walk.consumers.get(made, ())}
        alike = [one for one in takers if role(one.operator) in kinds]
        if alike:
            return (alike[0].name,), _IN_FLOAT.get(role(alike[0].operator), "dtype_promotion")
    if cause in _OF_TAKERS:
        alike = [one for one in takers if role(one.operator) == _OF_TAKERS[cause]]
        if alike:
            return (alike[0].name,), cause
    is_layout = role(node.operator) == "transpose" or node.operator == "Flatten"
    turned = first_turned(walk, name) if moves_only(node.operator) else None
    return (turned,) if turned is not None else _around(walk, name, is_layout=is_layout), cause


def first_turned(walk: Walk, name: str) -> str | None:
    """The first of the reference's rearrangements of a tensor whose result the candidate does not have as it lies."""
    trace = walk.trace
    makers = {made: node for node in trace.graph.nodes for made in node.outputs if made}
    while name in makers and moves_only(makers[name].operator) and makers[name].inputs[0] in trace.tensors:
        name = makers[name].inputs[0]
    families = {trace.tensors[name].family}
    held = {
        (trace.tensors[match.name].family, match.layout.shape)
        for match in walk.matches.values()
        if match.layout.axes is None
    }
    for one in trace.graph.nodes:
        taken = [trace.tensors[i].family for i in one.inputs if i in trace.tensors]
        made = trace.tensors.get(one.outputs[0])
        if made is None or not moves_only(one.operator) or families.isdisjoint(taken):
            continue
        if (made.family, made.value.shape) not in held:
            return one.name
        families.add(made.family)
    return None


def rewired(walk: Walk, node: OperatorNode) -> Rewiring | None:
    """The operator on another tensor of the reference in place of one of its inputs, which makes it agree."""
    for position, name in enumerate(node.inputs):
        match = walk.matches.get(name)
        if match is None:
            continue
        held = walk.trace.tensors[match.name]
        for source in _sources(walk, held, match.layout.shape):
            overlay = {name: source.value}
            found = walk.try_run(node, overlay)
            value: Any = found.get(node.outputs[0]) if found else None
            result = walk.find(value, node) if hasattr(value, "dtype") else None
            if result is None or not _is_new(walk, result, source):
                continue
            return _described(walk, node, position, held, source, result)
    return None


def _described(
    walk: Walk, node: OperatorNode, position: int, held: CanonicalTensor, source: CanonicalTensor, result: Match
) -> Rewiring:
    trace = walk.trace
    missing = trace.region([source.name], [held.name, *walk.matched_names() - {source.name}])
    is_there = any(trace.tensors[one.name].family == source.family for one in walk.matches.values())
    if not is_there and held.family in trace.leaves(missing) and 0 < len(missing) <= _MAX_STEPS:
        if walk.matches[node.inputs[position]].layout.axes is not None:  # what only moves is there already
            missing = [one for one in missing if not moves_only(one.operator)] or missing
        missing = [one for one in missing if not _reshapes_only(walk, one)] or missing
        names = tuple(one.name for one in missing)
        kinds = " and ".join(one.operator for one in missing)
        cause = _cause_of_missing(walk, missing)
        detail = f"{kinds} is missing between {held.name} and {node.operator}"
        return Rewiring(names, False, result.name, cause, detail, result.ratio)
    if source.maker == held.maker >= 0:
        return _of_results(trace.graph.nodes[held.maker], result)
    twice = sum(one.name == held.name for one in walk.matches.values()) > 1
    if not is_there and twice and source.maker >= 0:  # something else stands in the place of what made the source
        replaced, instead = _where_apart(walk, trace.graph.nodes[source.maker], walk.makers.get(node.inputs[position]))
        kind = instead.operator if instead is not None else "nothing"
        cause, detail = kind_of(replaced.operator), f"{kind} in place of {replaced.operator}"
        changed = None
        if instead is not None and instead.operator == replaced.operator and hasattr(walk.candidate, "protos"):
            changed = transplanted(walk, instead, replaced)
        if changed is not None:
            cause, detail = changed.cause, changed.detail
        elif instead is not None and _does_the_same(walk, replaced, instead):
            held_by = (walk.candidate.constant(name) for name in instead.inputs if name)
            is_weighted = any(value is not None and value.dtype.kind == "f" and value.size > 1 for value in held_by)
            cause = "weight_duplicated" if is_weighted else "input_source"
            detail = f"{kind} makes {held.name} a second time, where the reference makes {source.name}"
        return Rewiring((replaced.name,), True, result.name, cause, detail, result.ratio)
    if source.maker >= 0 and node.inputs[position] in walk.makers:
        apart = _where_apart(walk, trace.graph.nodes[source.maker], walk.makers[node.inputs[position]])
        if apart[1] is not None and apart[0].operator == apart[1].operator and len(apart[0].outputs) > 1:
            return _of_results(apart[0], result)
    between = trace.region([result.name], [source.name, *walk.matched_names() - {result.name}])
    takes = [
        one for one in between if source.family in {trace.tensors[i].family for i in one.inputs if i in trace.tensors}
    ]
    taker = takes[0] if takes else trace.graph.nodes[trace.tensors[result.name].maker]
    detail = f"operand {position} of {node.operator} is {held.name}, where the reference takes {source.name}"
    cause = "residual_source" if role(node.operator) == "add" else "input_source"
    return Rewiring((taker.name,), True, result.name, cause, detail, result.ratio)


def _of_results(made_by: OperatorNode, result: Match) -> Rewiring:
    """The results of an operator of several are taken for one another."""
    word = "split_order" if role(made_by.operator) in ("split", "chunk") else "output_order"
    detail = f"the results of {made_by.operator} are in another order"
    return Rewiring((made_by.name,), True, result.name, word, detail, result.ratio)


def _where_apart(
    walk: Walk, ours: OperatorNode, theirs: OperatorNode | None
) -> tuple[OperatorNode, OperatorNode | None]:
    """The operators, from two on, back to those that take the same on both sides."""
    makers = {name: node for node in walk.trace.graph.nodes for name in node.outputs if name}
    for _ in walk.trace.graph.nodes:
        before = _makers_of_others(walk, makers, ours, theirs) if theirs is not None else None
        if before is None:
            break
        ours, theirs = before
    return ours, theirs


def _makers_of_others(
    walk: Walk, makers: Mapping[str, OperatorNode], ours: OperatorNode, theirs: OperatorNode
) -> tuple[OperatorNode, OperatorNode] | None:
    """What made the first operand that is another tensor on one side than on the other."""
    for mine, other in zip(ours.inputs, theirs.inputs, strict=False):
        tensor, family = walk.trace.tensors.get(mine), walk.family(other)
        if tensor is not None and family not in (None, tensor.family) and mine in makers and other in walk.makers:
            return makers[mine], walk.makers[other]
    return None


def _does_the_same(walk: Walk, ours: OperatorNode, theirs: OperatorNode) -> bool:
    """Are two operators of one role, or is one the sum that the other one's bias is part of?"""
    if role(ours.operator) == role(theirs.operator):
        return True
    makers = [walk.trace.tensors[name].maker for name in ours.inputs if name in walk.trace.tensors]
    before = {role(walk.trace.graph.nodes[maker].operator) for maker in makers if maker >= 0}
    return role(ours.operator) == "add" and role(theirs.operator) in before


def _reshapes_only(walk: Walk, node: OperatorNode) -> bool:
    tensors = walk.trace.tensors
    made = {tensors[name].family for name in node.outputs if name in tensors}
    return bool(made & {tensors[name].family for name in node.inputs if name in tensors})


def _cause_of_missing(walk: Walk, missing: Sequence[OperatorNode]) -> str:
    kinds = {role(one.operator) for one in missing}
    if kinds <= _ACTIVATIONS:
        return "activation_missing"
    if all(moves_only(one.operator) for one in missing):
        return "transpose_perm" if "transpose" in kinds else "layout"
    if len(kinds) == 1:
        if _factor(walk.trace.graph, missing[0]) == -1.0:
            return "rotation_sign"
        special = {"slice": "slice_step", "neg": "rotation_sign"}
        return special.get(kinds.pop(), "node_missing")
    return "node_missing"


def _factor(graph: Any, node: OperatorNode) -> float | None:
    """The lone number that an operator multiplies by; None for others."""
    if role(node.operator) != "mul":
        return None
    held = [graph.constant(name) for name in node.inputs if name]
    numbers = [float(value.item()) for value in held if value is not None and value.size == 1]
    if not numbers and hasattr(graph, "settings"):
        given = graph.settings(node).get("other")
        numbers = [float(given)] if isinstance(given, int | float) else []
    return numbers[0] if numbers else None


def _cause_of_inserted(walk: Walk, node: OperatorNode, value: Array) -> str:
    """A more special word for some operators that should not be there."""
    kind = role(node.operator)
    if kind == "cast":
        return "lowered_precision" if value.dtype.kind == "f" else "integer_truncation"
    if kind in ("mul", "div"):
        factor = next((c for c in map(walk.candidate.constant, filter(None, node.inputs)) if c is not None), None)
        if factor is not None and factor.size == 1 and factor.item():
            number = abs(float(factor.item())) ** (1 if kind == "mul" else -1)
            count = _averaged(walk, node)
            if count > 1 and abs(number * (count - 1) / count - 1) < _WHOLE:
                return "variance_unbiased"
        return "node_inserted"
    if kind == "dropout":
        return "dropout"
    if value.dtype.kind in "iu":
        users = {role(user.operator) for user in walk.after(node.outputs)[:_MAX_STEPS]}
        return "gather_index" if "gather" in users else "slice_bounds" if "slice" in users else "node_inserted"
    return "layout" if moves_only(node.operator) else "node_inserted"


def _is_new(walk: Walk, result: Match, source: CanonicalTensor) -> bool:
    """A tensor that nothing corresponds to yet, and that the reference makes from this source."""
    if result.ratio is None or result.name in walk.matched_names():
        return False
    maker = walk.trace.tensors[result.name].maker
    if maker < 0:
        return False
    operators = walk.trace.region([result.name], [source.name, *walk.matched_names()])
    return source.family in walk.trace.leaves(operators)


def _averaged(walk: Walk, node: OperatorNode) -> int:
    """How many elements the mean before an operator is taken over; 0 where there is none."""
    makers = [walk.makers.get(name) for name in node.inputs]
    mean = next((maker for maker in makers if maker is not None and role(maker.operator) == "mean"), None)
    if mean is None:
        return 0
    whole, part = (walk.values.get(name) for name in (mean.inputs[0], mean.outputs[0]))
    return int(whole.size // part.size) if whole is not None and part is not None and part.size else 0


def _sources(walk: Walk, held: CanonicalTensor, shape: tuple[int, ...]) -> Iterator[CanonicalTensor]:
    """Tensors that might have been meant: what the reference makes of this one first, then those made nearby."""
    trace = walk.trace
    behind = {held.family}
    seen = {held.family}
    first: list[CanonicalTensor] = []
    for _ in range(_MAX_STEPS):
        made = [
            trace.tensors[name]
            for node in trace.graph.nodes
            if any(taken in trace.tensors and trace.tensors[taken].family in behind for taken in node.inputs)
            for name in node.outputs
            if name in trace.tensors and trace.tensors[name].family not in seen
        ]
        behind = {tensor.family for tensor in made}
        seen |= behind
        first += made
    near = sorted(trace.tensors.values(), key=lambda tensor: abs(tensor.maker - held.maker))
    given: set[str] = {held.family}
    count = 0
    for tensor in (*first, *near):
        fits = tensor.value.shape == shape and tensor.value.dtype == held.value.dtype
        if fits and tensor.family not in given and count < _MAX_SOURCES:
            given.add(tensor.family)
            count += 1
            yield tensor


def _around(walk: Walk, name: str, *, is_layout: bool) -> tuple[str, ...]:
    """The operator that makes a tensor; for what is fed, the first that takes it.

    A rearrangement too many stands beside one of the reference's that was replaced, if there is one.
    """
    trace = walk.trace
    takers = [node for node in trace.graph.nodes if name in node.inputs]
    moving = [node.name for node in takers if moves_only(node.operator)]
    if is_layout and moving:
        return (moving[0],)
    maker = trace.tensors[name].maker
    return (trace.graph.nodes[maker].name,) if maker >= 0 else tuple(node.name for node in takers)[:1]
