"""Which tensors of a pass are still wanted: the others are dropped, and their memory is used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

Run: TypeAlias = Callable[["OperatorNode", Mapping[str, Any]], dict[str, Any]]


def run_through(
    graph: OperatorGraph, feeds: Mapping[str, Any], run: Run
) -> Iterator[tuple[int, OperatorNode, dict[str, Any]]]:
    """One pass, operator by operator, that holds no tensor longer than something takes it.

    Fresh memory costs more than most operators do: a pass that keeps all its tensors takes half as long again.

    Args:
        graph: whose operators are run in order.
        feeds: its inputs.
        run: an operator on values: output name → value.
    Yields:
        position, operator and its results.
    """
    last = {name: position for position, node in enumerate(graph.nodes) for name in node.inputs}
    values = dict(feeds)
    for position, node in enumerate(graph.nodes):
        made = run(node, values)
        values.update((name, value) for name, value in made.items() if last.get(name, -1) > position)
        for name in set(node.inputs):
            if last[name] == position:
                values.pop(name, None)
        yield position, node, made


__all__ = ["run_through"]
