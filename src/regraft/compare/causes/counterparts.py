"""Hypotheses from another framework: a weight of the reference is what the candidate has in its place."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.compare.canonical import family_of
from regraft.compare.causes.interface import Hypothesis
from regraft.compare.causes.weights import word_for_weight

if TYPE_CHECKING:
    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

_MAX_AXES = 4
_MAX_OTHERS = 24


def replaced_weights(walk: Walk, twin: OperatorNode, region: Sequence[OperatorNode]) -> Iterator[Hypothesis]:
    """A weight of the reference's operator replaced by one that the candidate has, in any order of axes.

    Args:
        walk: of the comparison; the two graphs may be of different frameworks.
        twin: of the reference.
        region: candidate's operators that correspond. A weight that both have is no replacement, and is not replaced.
    """
    graph = walk.trace.graph
    theirs = list(_weights(walk.candidate, region))
    ours = {name: value for name in twin.inputs if name and (value := graph.constant(name)) is not None}
    strange = [other for other in theirs if not any(_is_same(other, value) for value in ours.values())]
    for position, name in enumerate(twin.inputs):
        value = ours.get(name)
        if value is None or value.dtype.kind != "f" or value.size < 2 or any(_is_same(value, one) for one in theirs):
            continue
        for other in [one for one in strange if one.size == value.size][:_MAX_OTHERS]:
            for turned in _arrangements(other, value.shape):
                cause, detail = word_for_weight(walk, twin, position, value, turned)
                run = functools.partial(_with, graph, twin, {name: turned})
                yield Hypothesis(cause, f"{name} {detail}", run)


def _weights(graph: OperatorGraph, nodes: Sequence[OperatorNode]) -> Iterator[Array]:
    """Constants of some operators that are more than a lone number."""
    for name in dict.fromkeys(name for node in nodes for name in node.inputs if name):
        value = graph.constant(name)
        if value is not None and value.dtype.kind == "f" and value.size > 1:
            yield value


def _arrangements(other: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """An array in each order of axes that has a shape; as it stands first."""
    import numpy as np

    if other.shape == shape:
        yield other
    for axes in itertools.permutations(range(other.ndim)) if other.ndim <= _MAX_AXES else ():
        turned = other.transpose(axes)
        if turned.shape == shape and list(axes) != sorted(axes):
            yield np.ascontiguousarray(turned)


def _is_same(one: Array, other: Array) -> bool:
    """Do two weights hold the same numbers, in some order of axes?"""
    if one.size != other.size or one.dtype != other.dtype:
        return False
    family = family_of(one)
    return family_of(other) == family or any(family_of(turned) == family for turned in _arrangements(other, one.shape))


def _with(
    graph: OperatorGraph, node: OperatorNode, replaced: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    return graph.run(node, {**values, **replaced})
