"""ONNX graphs: nodes with their subgraphs, stored tensors, inputs and outputs, gathered over a whole model.

Source: onnx/onnx.proto3 of ONNX 1.23; numbers are field numbers of its messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from regraft.errors import LimitExceeded
from regraft.package.formats.interface import Port, Problem, Tensor
from regraft.package.formats.onnx_tensors import is_floating, port_of, sparse_tensor_of, tensor_of
from regraft.package.formats.wire import SPAN, VARINT, Message
from regraft.package.limits import MAX_NESTING, MAX_TENSORS

GRAPH_FIELDS = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16})
DEFAULT_DOMAIN = "ai.onnx"
_MAX_PROBLEMS = 1000


class GraphFacts:
    """What the graphs and functions of one model add up to.

    Attributes:
        operators: operator → nodes, over all graphs, subgraphs and functions; `domain::Op` outside of the standard.
        initializers: stored tensors of all graphs.
        constants: floating-point arrays in attributes of nodes, where some exporters keep the weights.
        inputs, outputs: of the main graph; inputs without those that an initializer gives a default.
        externals: places of external data.
    """

    def __init__(self) -> None:
        self.name = ""
        self.operators: Counter[str] = Counter()
        self.initializers: list[Tensor] = []
        self.constants: list[Tensor] = []
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.externals: dict[str, None] = {}
        self.subgraphs = 0
        self.problems: list[Problem] = []

    def add_graph(self, graph: Message, *, depth: int = 0) -> None:
        """Add a `GraphProto`; `depth` 0 is the main graph.

        Raises:
            Damaged, LimitExceeded: the bytes are no graph, or beyond the bounds.
        """
        if depth > MAX_NESTING // 4:
            raise LimitExceeded(f"subgraphs nested {depth} deep", where=graph.where)
        declared = []
        for number, _, value in graph.fields():
            if not isinstance(value, Message):
                continue
            if number == 1:
                self.add_node(value, depth=depth)
            elif number == 5:
                self._keep(tensor_of(value, self.problems, self.externals), self.initializers, graph)
            elif number == 15:
                self._keep(sparse_tensor_of(value, self.problems, self.externals), self.initializers, graph)
            elif depth == 0 and number == 2:
                self.name = value.text()
            elif depth == 0 and number == 11:
                declared.append(port_of(value))
            elif depth == 0 and number == 12:
                self.outputs.append(port_of(value))
        if declared:
            defaults = {tensor.name for tensor in self.initializers}
            self.inputs += [port for port in declared if port.name not in defaults]

    def add_node(self, node: Message, *, depth: int) -> None:
        """Add a `NodeProto` with the graphs and tensors in its attributes."""
        operator, domain, name = "", "", ""
        held: list[Tensor] = []
        for number, _, value in node.fields():
            if not isinstance(value, Message):
                continue
            if number == 4:
                operator = value.text(limit=200)
            elif number == 7:
                domain = value.text(limit=200)
            elif number == 2 and not name:
                name = value.text()
            elif number == 5:
                self._add_attribute(value, held, depth)
        self.operators[operator_name(domain, operator)] += 1
        for tensor in held:
            if is_floating(tensor.dtype) and tensor.shape:
                self._keep(
                    Tensor(tensor.name or name, tensor.dtype, tensor.shape, tensor.size_bytes), self.constants, node
                )

    def _add_attribute(self, attribute: Message, held: list[Tensor], depth: int) -> None:
        for number, _, value in attribute.fields():
            if not isinstance(value, Message):
                continue
            if number in (6, 11):
                self.subgraphs += 1
                self.add_graph(value, depth=depth + 1)
            elif number in (5, 10):
                self._keep(tensor_of(value, self.problems, self.externals), held, attribute)
            elif number in (22, 23):
                self._keep(sparse_tensor_of(value, self.problems, self.externals), held, attribute)

    def _keep(self, tensor: Tensor | None, into: list[Tensor], at: Message) -> None:
        if tensor is not None:
            into.append(tensor)
        if len(into) > MAX_TENSORS or len(self.externals) > MAX_TENSORS:
            raise LimitExceeded(f"more than {MAX_TENSORS} tensors", where=at.where)
        del self.problems[_MAX_PROBLEMS:]


def operator_name(domain: str, operator: str) -> str:
    """`Conv` of the standard, `com.microsoft::FusedConv` of any other domain."""
    return operator if domain in ("", DEFAULT_DOMAIN) else f"{domain}::{operator}"


def looks_like_graph(span: Message) -> bool:
    """Do the first fields belong to a graph, down to a node's? Reads no more than a few fields.

    Raises:
        Damaged: the bytes are no message; a graph may still have been cut off.
    """
    first = list(_first(span, 8))
    if not first or any(number not in GRAPH_FIELDS or kind != SPAN for number, kind, _ in first):
        return False
    node = next((value for number, _, value in first if number == 1 and isinstance(value, Message)), None)
    if node is None:
        return True
    return all(
        number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10) and kind in (SPAN, VARINT) for number, kind, _ in _first(node, 8)
    )


def _first(span: Message, count: int) -> Iterator[tuple[int, int, int | Message]]:
    for field, _ in zip(span.fields(), range(count), strict=False):
        yield field
