"""An ONNX network that is being edited: constants, example values and wiring, across subgraphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """A copy of a network to plant a fault in.

    Args:
        proto: edited in place; all its nodes have names, and no two tensors of it share one.
        values: tensor → its value on the example feeds, for tensors of the outer graph.
    """

    def __init__(self, proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> None:
        self.proto = proto
        self.values = values
        self.made: list[str] = []
        """Names of the nodes that were added."""
        self._owners: dict[str, onnx.GraphProto] = {}
        self._enclosing: dict[str, tuple[str, ...]] = {}
        self._index(proto.graph, ())
        self._initialisers = {one.name: one for graph in self._graphs() for one in graph.initializer}

    @property
    def opset(self) -> int:
        """Of the default domain."""
        return int(next(one.version for one in self.proto.opset_import if one.domain in ("", "ai.onnx")))

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """All nodes in the order of their graphs, those of the outer graph first."""
        for graph in self._graphs():
            yield from graph.node

    def node(self, name: str) -> onnx.NodeProto:
        """The node of that name."""
        return next(one for one in self._owners[name].node if one.name == name)

    def has_node(self, name: str) -> bool:
        """Whether the node is still there."""
        return any(one.name == name for one in self.nodes())

    def enclosing(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """Names of the If, Loop and Scan nodes around a node, outermost first."""
        return self._enclosing[node.name]

    def constant(self, tensor: str) -> np.ndarray | None:
        """The value of an initialiser or of a Constant node; None for what is computed."""
        if tensor in self._initialisers:
            return numpy_helper.to_array(self._initialisers[tensor])
        maker = self.producer(tensor) if tensor else None
        if maker is not None and maker.op_type == "Constant":
            value = attribute(maker, "value")
            return None if value is None else numpy_helper.to_array(value)
        return None

    def inputs(self, node: onnx.NodeProto) -> list[np.ndarray | None]:
        """Constants among the inputs of a node, None elsewhere."""
        return [self.constant(name) for name in node.input]

    def value(self, tensor: str) -> np.ndarray | None:
        """The value on the example feeds; None inside of a subgraph."""
        found = self.values.get(tensor)
        return self.constant(tensor) if found is None else found

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape on the example feeds; (-1,) where it is not known."""
        found = self.value(tensor)
        return (-1,) if found is None else tuple(found.shape)

    def is_float(self, tensor: str) -> bool:
        """Whether the tensor is known to be of floating point."""
        found = self.value(tensor)
        return found is not None and found.dtype.kind == "f"

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; None for inputs and initialisers."""
        return next((node for node in self.nodes() if tensor in node.output), None)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor, also from inside of subgraphs."""
        return [node for node in self.nodes() if tensor in node.input]

    def is_returned(self, tensor: str) -> bool:
        """Whether a graph or a subgraph returns the tensor."""
        return any(tensor == output.name for graph in self._graphs() for output in graph.output)

    def around(self, tensor: str) -> tuple[str, ...]:
        """Names of the nodes on both sides of a tensor."""
        maker = self.producer(tensor)
        return ((maker.name,) if maker is not None else ()) + tuple(node.name for node in self.consumers(tensor))

    def weight(self, values: Any, hint: str = "value") -> str:
        """A new initialiser."""
        name = self._fresh(hint)
        self.proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        self._initialisers[name] = self.proto.graph.initializer[-1]
        return name

    def scalar(self, value: float, dtype: str = "float32") -> str:
        """A new scalar initialiser."""
        return self.weight(np.array(value, dtype))

    def set_input(self, node: onnx.NodeProto, index: int, values: np.ndarray) -> None:
        """Give an input of a node another constant; it keeps its name when nobody else reads it."""
        old = node.input[index]
        alone = len(self.consumers(old)) == 1 and list(node.input).count(old) == 1 and not self.is_returned(old)
        if old in self._initialisers and alone:
            self._initialisers[old].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), old))
        else:
            node.input[index] = self.weight(values, old)

    def before(self, node: onnx.NodeProto, operator: str, *inputs: str, **attributes: Any) -> str:
        """Insert a node in front of another one, and return its output."""
        return self._insert(node, 0, operator, inputs, attributes)

    def wrap_input(self, node: onnx.NodeProto, index: int, operator: str, *more: str, **attributes: Any) -> None:
        """Send an input of a node through a new node."""
        node.input[index] = self.before(node, operator, node.input[index], *more, **attributes)

    def wrap_output(self, node: onnx.NodeProto, operator: str, *more: str, **attributes: Any) -> None:
        """Send the first output of a node through a new node; who reads it reads the new one's under the old name."""
        name = node.output[0]
        inner = self._fresh(name)
        node.output[0] = inner
        self._insert(node, 1, operator, (inner, *more), attributes, output=name)

    def bypass(self, node: onnx.NodeProto, index: int = 0) -> bool:
        """Remove a node; who reads its output reads its input. False where that would rename an input of the graph."""
        source, target = node.input[index], node.output[0]
        if self.is_returned(target):
            maker = self.producer(source)
            if maker is None or self.is_returned(source) or self._owners[maker.name] is not self._owners[node.name]:
                return False
            self._remove(node)
            self._rename(source, target)
            return True
        self._remove(node)
        for reader in self.consumers(target):
            reader.input[:] = [source if name == target else name for name in reader.input]
        return True

    def fold(self, node: onnx.NodeProto, values: np.ndarray) -> bool:
        """Put a constant in the place of a node. False where a graph returns its output."""
        if self.is_returned(node.output[0]):
            return False
        name = self.weight(values, node.output[0])
        target = node.output[0]
        self._remove(node)
        for reader in self.consumers(target):
            reader.input[:] = [name if one == target else one for one in reader.input]
        return True

    def reduce(self, node: onnx.NodeProto, operator: str, tensor: str, axes: list[int], *, keepdims: int) -> str:
        """Insert a reduction in front of a node, its axes where this opset wants them."""
        if self.opset >= 18 or operator == "ReduceSum":
            return self.before(node, operator, tensor, self.weight(np.array(axes, np.int64)), keepdims=keepdims)
        return self.before(node, operator, tensor, axes=axes, keepdims=keepdims)

    def earlier(self, node: onnx.NodeProto, like: str) -> list[str]:
        """Tensors of floating point that are made before a node, of the same shape as `like`; the latest first."""
        shape, found = self.shape(like), []
        for one in self._owners[node.name].node:
            if one.name == node.name:
                break
            found += [name for name in one.output if name and self.is_float(name) and self.shape(name) == shape]
        return found[::-1]

    def axes(self, node: onnx.NodeProto) -> list[int] | None:
        """The axes of a reduction, from its attribute or its second input; None for all of them."""
        given = attribute(node, "axes")
        if given is None and len(node.input) > 1 and node.input[1]:
            constant = self.constant(node.input[1])
            given = None if constant is None else constant.tolist()
        return None if given is None else list(given)

    def set_axes(self, node: onnx.NodeProto, axes: list[int]) -> None:
        """Reduce over other axes."""
        if attribute(node, "axes") is not None:
            set_attribute(node, "axes", axes)
        else:
            self.set_input(node, 1, np.array(axes, np.int64))

    def is_constant(self, node: onnx.NodeProto) -> bool:
        """Whether a node depends on initialisers alone, so that others may have folded it."""
        if not node.input or any(one.HasField("g") for one in node.attribute):
            return node.op_type == "Constant"
        makers = [self.producer(name) for name in node.input if name and self.constant(name) is None]
        return all(maker is not None and self.is_constant(maker) for maker in makers)

    def readers(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """Names of the nearest nodes behind one that depend on the input of the network."""
        found: list[str] = []
        for reader in [one for name in node.output for one in self.consumers(name)]:
            found += self.readers(reader) if self.is_constant(reader) else [reader.name]
        return tuple(dict.fromkeys(found))

    def owner(self, node: onnx.NodeProto) -> onnx.GraphProto:
        """The graph that a node stands in."""
        return self._owners[node.name]

    def _graphs(self) -> Iterator[onnx.GraphProto]:
        waiting = [self.proto.graph]
        while waiting:
            graph = waiting.pop(0)
            yield graph
            waiting += [one.g for node in graph.node for one in node.attribute if one.HasField("g")]

    def _index(self, graph: onnx.GraphProto, enclosing: tuple[str, ...]) -> None:
        for node in graph.node:
            self._owners[node.name] = graph
            self._enclosing[node.name] = enclosing
            for one in node.attribute:
                if one.HasField("g"):
                    self._index(one.g, (*enclosing, node.name))

    def _fresh(self, hint: str) -> str:
        taken = {name for node in self.nodes() for name in (*node.input, *node.output, node.name)}
        taken |= self._initialisers.keys()
        number = 1
        while f"{hint}_new{number}" in taken:
            number += 1
        return f"{hint}_new{number}"

    def _insert(
        self,
        node: onnx.NodeProto,
        offset: int,
        operator: str,
        inputs: tuple[str, ...],
        attributes: dict[str, Any],
        output: str = "",
    ) -> str:
        owner = self._owners[node.name]
        place = next(i for i, one in enumerate(owner.node) if one.name == node.name)
        name = self._fresh(f"{node.name}_{operator}")
        made = helper.make_node(operator, list(inputs), [output or f"{name}_output"], name=name, **attributes)
        owner.node.insert(place + offset, made)
        self._owners[name], self._enclosing[name] = owner, self._enclosing[node.name]
        self.made.append(name)
        return made.output[0]

    def _remove(self, node: onnx.NodeProto) -> None:
        self._owners[node.name].node.remove(node)

    def _rename(self, old: str, new: str) -> None:
        for node in self.nodes():
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute; strings as text."""
    for one in node.attribute:
        if one.name == name:
            value = helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute, or remove it with None."""
    for one in node.attribute:
        if one.name == name:
            node.attribute.remove(one)
            break
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))
