"""A network as a graph of operators, each of which can be run alone on inputs of one's choice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard

import msgspec

if TYPE_CHECKING:
    from regraft.runtime.interface import Array

Values: TypeAlias = Mapping[str, Any]
"""Tensor name → array; what a framework passes between operators besides arrays (sizes, tuples) is kept as it is."""


class OperatorNode(msgspec.Struct, frozen=True):
    """One operator of a graph.

    Attributes:
        name: unique within the graph.
        operator: its kind in the words of the framework (`MatMul`, `aten.linear.default`).
        inputs: tensors that it takes, in order, constants included; what subgraphs capture follows. An optional
            input that is left out is the empty string.
        outputs: tensors that it makes, in order; an output that is not wanted is the empty string.
        scope: module or exporter metadata; empty where nobody knows.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scope: str = ""


class OperatorGraph(Protocol):
    """A loaded model that shows its operators. Names of tensors are unique within a graph."""

    where: str
    """How errors name it."""

    @property
    def nodes(self) -> Sequence[OperatorNode]:
        """In an order in which they can be run; what depends on constants alone is left out."""

    @property
    def inputs(self) -> Sequence[str]:
        """Tensors that are fed."""

    @property
    def outputs(self) -> Sequence[str]:
        """Tensors that are returned, in the order of the signature."""

    def constant(self, name: str) -> Array | None:
        """The value of a weight or of what is computed from weights alone; None for other tensors."""

    @property
    def constant_names(self) -> Sequence[str]:
        """Tensors of which `constant` knows the value."""

    def with_rounded_weights(self, precision: str, *, kept: Collection[str] = ()) -> OperatorGraph:
        """The same operators with weights of the values that a precision has; lone numbers are settings and stay.

        Args:
            precision: `bfloat16` or `float16`.
            kept: names of weights that stay as they are.
        Raises:
            Unsupported: the weights of this runtime's graphs cannot be replaced.
        """

    def run(self, node: OperatorNode, values: Values, *, precision: str = "float32") -> dict[str, Any]:
        """Run one operator.

        Args:
            node: of `nodes`.
            values: at least the operator's inputs that are no constants; a value under the name of a constant
                takes its place.
            precision: `float32` runs the operator as the model has it; `float64` computes in float64, whatever
                the floating-point dtype of the values is.
        Returns:
            output name → value.
        Raises:
            Unsupported: the operator cannot be run, or has no float64 kernel; the message carries its name.
        """


class EditableGraph(OperatorGraph, Protocol):
    """A graph whose operators can also be run as they are not: what hypotheses about causes are tried with."""

    def settings(self, node: OperatorNode) -> dict[str, Any]:
        """What an operator is told besides its tensors, by the framework's names, defaults included.

        Numbers, texts, and lists of them; what an operator holds in another form (a subgraph) is left out.
        """

    def run_changed(
        self,
        node: OperatorNode,
        values: Values,
        *,
        operator: str | None = None,
        settings: Mapping[str, Any] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Run an operator with changes, in its own precision.

        Args:
            node, values: as for `run`.
            operator: another kind in its place, in the framework's words; settings that it does not know are dropped.
            settings: setting → value in place of its own.
            inputs: tensors to take in place of `node.inputs`, as many.
        Raises:
            Unsupported: the operator cannot be run so.
        """


class PassingGraph(OperatorGraph, Protocol):
    """A graph of a runtime that compiles what it runs, so that one pass is far cheaper than one operator at a time."""

    def plain(self, values: Values) -> dict[str, Any]:
        """One pass from these tensors on, inputs of the model included: tensor name → value of what is behind."""


def is_passing(graph: OperatorGraph) -> TypeGuard[PassingGraph]:
    """Does the graph's runtime prefer a pass to single operators?"""
    return hasattr(graph, "plain")
