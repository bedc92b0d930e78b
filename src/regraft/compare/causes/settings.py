"""Hypotheses about settings: every attribute or argument of an operator that is known to be got wrong."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.compare.causes.attributes import cause_word
from regraft.compare.causes.interface import Hypothesis
from regraft.compare.causes.knobs import variants
from regraft.compare.roles import role

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import EditableGraph, OperatorNode

_SLOPES = frozenset({"alpha", "negative_slope"})
_WITH_STATISTICS = 5
"""Operands of a batch norm that has the statistics of the training data: x, scale, bias, mean, variance."""


def settings(graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """Variants of an operator's settings; see `Family`."""
    x = values.get(node.inputs[0]) if node.inputs else None
    for changed in variants(node.operator, graph.settings(node), x):
        name, value = next(iter(changed.items()))
        run = functools.partial(graph.run_changed, node, settings=changed)
        is_flat = name in _SLOPES and value == 0  # a leaky ReLU without its slope is a ReLU
        cause = "activation_kind" if is_flat else cause_word(node.operator, name)
        yield Hypothesis(cause, f"{name} of {node.operator} is {value}", run)
    if role(node.operator) in ("range", "arange"):
        for offset in (1, -1):
            run = functools.partial(_shifted, graph, node, offset)
            yield Hypothesis("position_offset", f"{node.operator} begins and ends {offset:+d} further", run)
    if role(node.operator) == "batch_norm" and len(node.inputs) >= _WITH_STATISTICS:
        run = functools.partial(_with_batch_statistics, graph, node)
        yield Hypothesis("batchnorm_training", "the normalisation uses the statistics of the batch", run)


def _shifted(graph: EditableGraph, node: OperatorNode, offset: int, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value + offset for name, value in graph.run(node, values).items()}


def _with_batch_statistics(graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> dict[str, Any]:
    x = values[node.inputs[0]]  # (N, C, *spatial)
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    found = graph.run(node, {**values, node.inputs[3]: mean, node.inputs[4]: variance})
    return {node.outputs[0]: found[node.outputs[0]]}
