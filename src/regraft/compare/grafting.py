"""A fault of the candidate, planted in the reference and followed until it gives what the candidate has.

What a fused operator of the candidate computes need not be understood: the reference's operator of the same role is
run with the candidate's settings and weights, and those behind it on its result, as far as the fusion may go. Where
this gives the candidate's numbers, place and cause are proven, also when shapes differ from the reference's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.borrowed import borrowed_settings, borrowed_weights
from regraft.compare.causes.interface import Hypothesis
from regraft.compare.causes.operands import operands
from regraft.compare.causes.patching import scaled
from regraft.compare.causes.settings import settings
from regraft.compare.matching import Layout, Match, in_blocks, is_within, layouts
from regraft.compare.noise import Ratio
from regraft.compare.roles import role
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTensor
    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorNode

_MAX_TWINS = 4
_MAX_BEHIND = 5
"""Operators that may be fused behind one."""
_NEAR = 1e-2
"""Relative difference beyond which rounding is out of the question."""


class Graft(msgspec.Struct, frozen=True):
    """A fault that gives the candidate's numbers when it is planted in the reference.

    Attributes:
        twin: reference's operator.
        tensor: reference's tensor that the candidate's result should be.
        cause, detail: of the hypothesis.
        residual: difference between the candidate and the reference with the fault, in noise floors.
        layout: of the candidate's array, were it as large as the reference's.
    """

    twin: OperatorNode
    tensor: str
    cause: str
    detail: str
    residual: Ratio
    layout: Layout


def grafted(walk: Walk, node: OperatorNode) -> Graft | None:
    """The setting or weight of the candidate's operator that makes the reference's give the same.

    Args:
        walk: both graphs are ONNX.
        node: of the candidate, on corresponding inputs.
    """
    value = walk.computed.get(node.outputs[0])
    if value is None or not hasattr(value, "dtype") or value.dtype.kind != "f":
        return None
    graph: Any = walk.trace.graph
    for twin in _twins(walk, node):
        chain = list(_chain(walk, twin))
        for one in chain:
            theirs = borrowed_settings(walk, one, node) if one is twin else ()
            own = (family(graph, one, walk.trace.values) for family in (settings, operands) if one is not twin)
            for hypothesis in itertools.chain(theirs, *own):
                found = _followed(walk, chain, one, hypothesis, value)
                if found is not None:
                    return found
        for one in chain:
            for hypothesis in borrowed_weights(walk, one, [node]):
                found = _followed(walk, chain, one, hypothesis, value)
                if found is not None:
                    return found
    return None


def _twins(walk: Walk, node: OperatorNode) -> list[OperatorNode]:
    """Operators of the reference of the same role on the same first tensor that nothing corresponds to yet."""
    tensors, taken = walk.trace.tensors, walk.matched_names()
    wanted = {family for family in map(walk.family, node.inputs) if family is not None}
    for one in walk.trace.graph.nodes:
        if one.operator == "DequantizeLinear" and one.inputs[0] in tensors and tensors[one.inputs[0]].family in wanted:
            wanted.add(tensors[one.outputs[0]].family)
    found = []
    for twin in walk.trace.graph.nodes:
        if role(twin.operator) != role(node.operator) or any(name in taken for name in twin.outputs if name):
            continue
        if wanted & {tensors[name].family for name in twin.inputs if name in tensors}:
            found.append(twin)
    return found[:_MAX_TWINS]


def _followed(
    walk: Walk, chain: list[OperatorNode], planted: OperatorNode, hypothesis: Hypothesis, value: Array
) -> Graft | None:
    values: dict[str, Any] = dict(walk.trace.values)
    before = chain.index(planted)
    for place, one in enumerate(chain[before:], before):
        try:
            values |= hypothesis.run(values) if one is planted else walk.trace.graph.run(one, values)
        except (Unsupported, ValueError, KeyError):
            return None
        found = _agreeing(walk, chain[: place + 1], one.outputs[0], values, value)
        if found is not None:
            layout, residual = found
            return Graft(planted, one.outputs[0], *hypothesis.told(), residual, layout)
    return None


def _chain(walk: Walk, twin: OperatorNode) -> Iterator[OperatorNode]:
    """An operator, and those behind it that take its result and otherwise what is known."""
    yield twin
    name = twin.outputs[0]
    for _ in range(_MAX_BEHIND):
        users = [node for node in walk.trace.graph.nodes if name in node.inputs]
        if len(users) != 1:
            return
        yield users[0]
        name = users[0].outputs[0]


def _agreeing(
    walk: Walk, region: list[OperatorNode], name: str, values: Mapping[str, Any], value: Array
) -> tuple[Layout, Ratio] | None:
    import numpy as np

    made, tensor = values[name], walk.trace.tensors.get(name)
    is_filled = walk.index.blocked and made.ndim == value.ndim
    if tensor is None or tensor.own is None or made.dtype.kind != "f" or (made.size != value.size and not is_filled):
        return None
    scale = float(np.sqrt(np.square(made, dtype=np.float64).mean()))
    for layout in layouts(value.shape, made.shape, blocked=walk.index.blocked):
        turned = layout.to_reference(value, made.shape)
        if not np.sqrt(np.square(turned - made, dtype=np.float64).mean()) <= _NEAR * scale:
            continue
        target: CanonicalTensor = scaled(walk.trace.with_segment_floor(name, region) or tensor, made)
        ratio = target.ratio(turned, unit=walk.trace.unit)
        if ratio is not None and is_within(ratio):
            return _of_reference(layout, tensor.value.shape), ratio
    return None


def _of_reference(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout that the candidate's array would have if it were as large as the reference's."""
    if layout.block:
        return in_blocks(shape, layout.block)
    if layout.axes is None or len(layout.axes) != len(shape):
        return msgspec.structs.replace(layout, shape=shape)
    theirs = list(shape)
    for ours, axis in enumerate(layout.axes):
        theirs[axis] = shape[ours]
    return msgspec.structs.replace(layout, shape=tuple(theirs))


def pin_of(graft: Graft) -> Match:
    """The pair that a graft shows, which does not agree."""
    return Match(graft.tensor, graft.layout, None, by="pinned", is_sound=False)
