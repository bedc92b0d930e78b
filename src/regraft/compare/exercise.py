"""Which operators the feeds put to work, and which branches they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.planting import same
from regraft.compare.roles import moves_only, role

if TYPE_CHECKING:
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

_TAKES_OVER = frozenset(
    {"cast", "identity", "dropout", "slice", "gather", "concat", "split", "pad", "tile", "expand", "squeeze",
     "gathernd", "unsqueeze", "reshape", "flatten", "depthtospace", "spacetodepth", "_to_copy", "to", "cat", "if",
     "loop", "scan"}
)  # fmt: skip
"""Operators that may rightly hand on what they take."""
_LIMITS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "erf": (-1.0, 1.0), "softmax": (0.0, 1.0)}
_SATURATED = 1e-6
"""Distance from a limit within which a float32 result no longer follows what it came from."""


class Idle(msgspec.Struct, frozen=True):
    """An operator that ran without doing anything that could go wrong visibly.

    Attributes:
        name, operator: of it.
        reason: `constant` (one and the same value on all feeds), `unchanged` (hands on one of its inputs on all
            feeds, as a Relu does with positive numbers), `saturated`, or `not_run`.
    """

    name: str
    operator: str
    reason: str


class Branch(msgspec.Struct, frozen=True):
    """A conditional of the outer graph, and which of its branches were taken."""

    name: str
    then_taken: bool
    else_taken: bool


class Exercise(msgspec.Struct, frozen=True):
    """What the feeds put to work.

    Attributes:
        operators: of the graph.
        idle: those of them that were not.
        branches: conditionals; those inside of other subgraphs are not looked into.
        feeds: that were traced.
    """

    operators: int
    idle: tuple[Idle, ...]
    branches: tuple[Branch, ...]
    feeds: int

    @property
    def share(self) -> float:
        """Operators that were put to work, of all."""
        return 1 - len(self.idle) / self.operators if self.operators else 1.0


class Exerciser:
    """Adds up what each operator did over the feeds.

    Args:
        graph: whose operators are watched.
    """

    def __init__(self, graph: OperatorGraph) -> None:
        self._graph = graph
        self._feeds = 0
        self._ran: set[str] = set()
        self._ranges: dict[str, tuple[float, float]] = {}
        self._changed: set[str] = set()
        self._followed: set[str] = set()
        self._taken: dict[str, set[bool]] = {node.name: set() for node in graph.nodes if node.operator == "If"}

    def add(self, values: Mapping[str, Any]) -> None:
        """Watch one pass.

        Args:
            values: every tensor of it by name.
        """
        self._feeds += 1
        for node in self._graph.nodes:
            made = next((name for name in node.outputs if name), "")
            value = values.get(made)
            if value is None:
                continue
            self._ran.add(node.name)
            if node.operator == "If":
                self._note_branch(node, values)
            if not hasattr(value, "dtype") or value.dtype.kind not in "fb" or not value.size:
                continue
            low, high = float(value.min()), float(value.max())
            before = self._ranges.get(node.name, (low, high))
            self._ranges[node.name] = (min(before[0], low), max(before[1], high))
            if node.name not in self._changed and not self._hands_on(node, value, values):
                self._changed.add(node.name)
            if node.name not in self._followed and not _is_saturated(node, value):
                self._followed.add(node.name)

    def result(self) -> Exercise:
        """What was seen so far."""
        idle = tuple(
            Idle(node.name, node.operator, reason)
            for node in self._graph.nodes
            if (reason := self._reason(node)) is not None
        )
        branches = tuple(Branch(name, True in taken, False in taken) for name, taken in self._taken.items())
        return Exercise(len(self._graph.nodes), idle, branches, self._feeds)

    def _reason(self, node: OperatorNode) -> str | None:
        if node.name not in self._ran:
            return "not_run"
        if node.name not in self._ranges:
            return None
        low, high = self._ranges[node.name]
        if low == high:
            return "constant"
        if node.name not in self._changed:
            return "unchanged"
        return None if node.name in self._followed else "saturated"

    def _note_branch(self, node: OperatorNode, values: Mapping[str, Any]) -> None:
        condition = values.get(node.inputs[0], self._graph.constant(node.inputs[0]))
        if condition is not None:
            self._taken[node.name].add(bool(condition.reshape(-1)[0]))

    def _hands_on(self, node: OperatorNode, value: Array, values: Mapping[str, Any]) -> bool:
        kind = role(node.operator)
        if moves_only(node.operator) or kind in _TAKES_OVER:
            return False
        given = (values.get(name, self._graph.constant(name)) for name in node.inputs if name)
        return any(one is not None and same(one, value) for one in given)


def _is_saturated(node: OperatorNode, value: Array) -> bool:
    import numpy as np

    limits: Sequence[float] = _LIMITS.get(role(node.operator), ())
    if not limits or value.dtype.kind != "f":
        return False
    near = np.zeros(value.shape, dtype=bool)
    for limit in limits:
        near |= np.abs(value.astype(np.float64) - limit) <= _SATURATED
    return bool(near.all())
