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
        word: (cause, detail) where they are only worth finding out once the hypothesis holds; None where they are
            known.
    """

    cause: str
    detail: str
    run: Run
    word: Callable[[], tuple[str, str]] | None = None

    def told(self) -> tuple[str, str]:
        """Cause and detail."""
        return (self.cause, self.detail) if self.word is None else self.word()


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
