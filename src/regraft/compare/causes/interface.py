"""A hypothesis: one operator, run in a way that real converters get wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from regraft.compare.noise import Ratio

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import EditableGraph, OperatorNode

Run = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Values of the graph → the operator's results under the hypothesis."""


class Hypothesis(msgspec.Struct, frozen=True):
    """What might be wrong with an operator.

    Attributes:
        cause: the word for it.
        detail: with the value that is tried.
        run: the operator as it would be then.
    """

    cause: str
    detail: str
    run: Run


class NamedCause(msgspec.Struct, frozen=True):
    """A hypothesis that holds.

    Attributes:
        cause, detail: of the hypothesis.
        residual: divergence that it leaves.
        reference: the reference's operator that it is about; empty when it is about the candidate's.
        candidate: the candidate's operator that it is about; empty when it is about the reference's.
    """

    cause: str
    detail: str
    residual: Ratio | None
    reference: tuple[str, ...] = ()
    candidate: tuple[str, ...] = ()


class Family(Protocol):
    """A module of hypotheses."""

    def __call__(self, graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
        """Hypotheses about one operator, the likeliest first.

        Args:
            graph: that the operator is of.
            node: the operator.
            values: canonical values of the graph's tensors.
        """
