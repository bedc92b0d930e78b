"""A part of an operator graph: the operators between some tensors and one that is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Unsupported
from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array


class Region(msgspec.Struct, frozen=True):
    """Operators that lead from some tensors to an end.

    Attributes:
        graph: that they are part of.
        nodes: in an order in which they can be run.
        inputs: tensors that they take from outside, constants apart.
        end: the tensor that is wanted of them.
    """

    graph: Any
    nodes: tuple[OperatorNode, ...]
    inputs: tuple[str, ...]
    end: str

    def run(self, values: Mapping[str, Any], *, precision: str = "float32") -> dict[str, Any]:
        """Run the operators one by one, on each other's results.

        Args:
            values: at least `inputs`; an operator whose results are all given is not run.
            precision: as for `OperatorGraph.run`; operators without a float64 kernel run as they are.
        Returns:
            the values that were given, and those of all results.
        Raises:
            Unsupported: an operator cannot be run.
        """
        found = dict(values)
        for node in self.nodes:
            if all(name in found for name in node.outputs if name):
                continue
            found |= self._one(node, found, precision)
        return found

    def behind(self, names: Iterable[str]) -> list[OperatorNode]:
        """The operators that depend on some of the tensors, in order."""
        reached = set(names)
        found = []
        for node in self.nodes:
            if not reached.isdisjoint(node.inputs):
                reached.update(name for name in node.outputs if name)
                found.append(node)
        return found

    def _one(self, node: OperatorNode, values: dict[str, Any], precision: str) -> dict[str, Any]:
        if precision == "float32":
            return self.graph.run(node, values)  # type: ignore[no-any-return]
        try:
            return self.graph.run(node, values, precision=precision)  # type: ignore[no-any-return]
        except Unsupported:
            narrow = {name: _narrowed(values[name]) for name in node.inputs if name in values}
            return self.graph.run(node, {**values, **narrow})  # type: ignore[no-any-return]


def region_between(graph: OperatorGraph, end: str, starts: Iterable[str]) -> Region:
    """The operators that make a tensor out of others.

    Raises:
        Unsupported: it depends on something else, too.
    """
    stops = set(starts)
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    found: set[str] = set()
    inputs: dict[str, None] = {}
    waiting = [end]
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if name in stops and name != end:
            inputs[name] = None
        elif node is None:
            raise Unsupported(f"{end} depends on {name} as well", where=graph.where)
        elif node.name not in found:
            found.add(node.name)
            waiting.extend(taken for taken in node.inputs if taken and graph.constant(taken) is None)
    nodes = tuple(node for node in graph.nodes if node.name in found)
    return Region(graph, nodes, tuple(name for name in stops_in_order(nodes) if name in inputs), end)


def stops_in_order(nodes: Iterable[OperatorNode]) -> list[str]:
    """Everything that operators take, in the order in which they take it."""
    return list(dict.fromkeys(name for node in nodes for name in node.inputs if name))


def onnx_from_region(region: Region, values: Mapping[str, Array], *, is_fixed: bool = True) -> onnx.ModelProto:
    """A model of a region's operators with their constants, and of nothing else.

    Args:
        region: of an `OnnxGraph`.
        values: input → array of its dtype and shape.
        is_fixed: declare the shapes; otherwise the ranks alone, so that other sizes can be tried.
    Raises:
        Unsupported: the graph is none of ONNX.
    """
    from onnx import ValueInfoProto, helper, numpy_helper

    from regraft.runtime.onnx_graph import OnnxGraph

    graph = region.graph
    if not isinstance(graph, OnnxGraph):
        raise Unsupported("only ONNX graphs can be cut out and written to a file", where=graph.where)
    inputs = []
    for name in region.inputs:
        value = values[name]
        shape = list(value.shape) if is_fixed else [None] * value.ndim
        inputs.append(helper.make_tensor_value_info(name, element_type(value), shape))
    taken = stops_in_order(region.nodes)
    made = {name for node in region.nodes for name in node.outputs}
    constants = {name: graph.constant(name) for name in taken if name not in made and name not in region.inputs}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items() if value is not None]
    protos = [_apart(graph.protos[node.name], region.inputs) for node in region.nodes]
    content = helper.make_graph(protos, "region", inputs, [ValueInfoProto(name=region.end)], weights)
    return helper.make_model(content, opset_imports=list(graph.model.opset_import), ir_version=graph.model.ir_version)


def _apart(proto: onnx.NodeProto, inputs: Iterable[str]) -> onnx.NodeProto:
    """An operator with other names for those of its results that come from outside."""
    import onnx

    given = set(inputs)
    if given.isdisjoint(proto.output):
        return proto
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    for position, name in enumerate(copy.output):
        if name in given:
            copy.output[position] = f"{name}:unused"
    return copy


def element_type(value: Array) -> int:
    """Element type of an array in the numbering of ONNX."""
    import numpy as np
    from onnx import helper

    result: int = 8 if value.dtype == object else helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return result


def _narrowed(value: Any) -> Any:
    return value.astype("float32") if str(getattr(value, "dtype", "")) == "float64" else value
