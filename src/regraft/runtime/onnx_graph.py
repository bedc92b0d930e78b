"""An ONNX graph as operators that run alone: float32 in onnxruntime, float64 where there is any kernel for it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.onnx_editing import changed_node, settings_of
from regraft.runtime.onnx_kernels import Kernels
from regraft.runtime.onnx_proto import FLOAT_NAMES, import_onnx
from regraft.runtime.operator_graph import OperatorNode
from regraft.runtime.rounding import round_to

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array
    from regraft.runtime.onnx_weights import OnnxWeights
    from regraft.runtime.operator_graph import Values

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
)
"""Operators whose result is not a function of their inputs."""
_SEQUENCES = frozenset({"SequenceEmpty", "SequenceConstruct", "SplitToSequence", "SequenceInsert", "SequenceErase"})
"""Operators that make lists of tensors, which are no weights even where they are made of weights alone."""


class OnnxGraph:
    """The operators of an ONNX model.

    Args:
        model: self-contained (no external data); functions of the model's own are written out.
        threads: intra-op threads of each operator; None for onnxruntime's default.
        where: how errors name it.
        weights: initialisers whose values lie beside the model.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        threads: int | None = None,
        where: str = "",
        weights: OnnxWeights | None = None,
    ) -> None:
        import_onnx(where)
        self.where = where
        self._weights = weights
        self._threads = threads
        self.model = _written_out(model)
        self.protos: dict[str, onnx.NodeProto] = {}
        self._made_by: dict[str, OperatorNode] = {}
        self._constants: dict[str, Any] = {}
        self._kernels = Kernels(self.model, threads=threads, where=where)
        self._read_constants()
        self._nodes = tuple(self._read_nodes())

    @property
    def nodes(self) -> Sequence[OperatorNode]:
        """Operators that depend on an input, in the order of the file, which ONNX wants to be topological."""
        return self._nodes

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """Inputs that are no initialisers."""
        return tuple(value.name for value in self.model.graph.input if value.name not in self._constants)

    @functools.cached_property
    def outputs(self) -> tuple[str, ...]:
        """As the graph declares them."""
        return tuple(value.name for value in self.model.graph.output)

    @functools.cached_property
    def constant_names(self) -> tuple[str, ...]:
        """Initialisers, values of `Constant` operators, and what is computed from these alone."""
        return tuple(self._constants)

    def constant(self, name: str) -> Array | None:
        """The value of an initialiser, of a `Constant`, or of what is computed from these alone."""
        if self._weights is not None and name in self._weights:
            return self._weights[name]
        value = self._constants.get(name)
        if isinstance(value, OperatorNode):
            values: dict[str, Any] = {name: self.constant(name) for name in value.inputs if name}
            self._constants.update(self._kernels.run(self.protos[value.name], values, "float32"))
            value = self._constants[name]
        elif value is not None and not hasattr(value, "shape"):
            value = self._constants[name] = _array(value)
        result: Array | None = value
        return result

    def with_rounded_weights(self, precision: str, *, kept: Collection[str] = ()) -> OnnxGraph:
        """See `OperatorGraph.with_rounded_weights`."""
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        _round_weights(copy.graph, precision, kept)

        def rounded(name: str, value: Array) -> Array:
            is_weight = name not in kept and value.dtype.kind == "f" and value.ndim > 0 and value.size > 1
            return round_to(value, precision).astype(value.dtype) if is_weight else value

        weights = self._weights.changed(rounded) if self._weights is not None else None
        return OnnxGraph(copy, threads=self._threads, where=self.where, weights=weights)

    def maker(self, name: str) -> OperatorNode | None:
        """The operator that makes a tensor, also where it depends on constants alone; None for inputs and weights."""
        return self._made_by.get(name)

    def run(self, node: OperatorNode, values: Values, *, precision: str = "float32") -> dict[str, Any]:
        """Run one operator; see `OperatorGraph.run`."""
        proto = self.protos[node.name]
        if self._weights is not None:
            self._weights.spill.breathe()
        if precision == "float32":
            found = self._kernels.run_as_it_stands(node, proto, values, self.constant)
            if found is not None:
                return found
        return self.run_proto(proto, values, precision=precision)

    def settings(self, node: OperatorNode) -> dict[str, Any]:
        """See `EditableGraph.settings`."""
        return settings_of(self.protos[node.name], self._opset(node))

    def run_changed(
        self,
        node: OperatorNode,
        values: Values,
        *,
        operator: str | None = None,
        settings: Mapping[str, Any] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """See `EditableGraph.run_changed`."""
        proto = self.protos[node.name]
        changed = changed_node(proto, operator=operator, settings=settings, inputs=inputs, opset=self._opset(node))
        return self.run_proto(changed, values)

    def run_proto(self, proto: onnx.NodeProto, values: Values, *, precision: str = "float32") -> dict[str, Array]:
        """Run an operator that need not be one of this graph, on tensors of this graph and on values.

        Raises:
            Unsupported: it cannot be run.
        """
        found: dict[str, Any] = {}
        for name in dict.fromkeys((*proto.input, *captured(proto))):
            if name:
                value = values.get(name)
                found[name] = self.constant(name) if value is None else value
                if found[name] is None:
                    raise Unsupported(f"{proto.op_type} {proto.name!r} lacks its input {name!r}", where=self.where)
        return self._kernels.run(proto, found, precision)

    def _opset(self, node: OperatorNode) -> int:
        domain = self.protos[node.name].domain
        return next((one.version for one in self.model.opset_import if one.domain == domain), 1)

    def _read_constants(self) -> None:
        graph = self.model.graph
        if graph.sparse_initializer:
            raise Unsupported("the graph has sparse initialisers", where=self.where)
        for tensor in graph.initializer:
            self._constants[tensor.name] = tensor
        for node in graph.node:
            if node.op_type == "Constant" and not node.domain:
                self._constants[node.output[0]] = node.attribute[0]

    def _read_nodes(self) -> Iterator[OperatorNode]:
        for position, proto in enumerate(self.model.graph.node):
            if proto.op_type == "Constant" and not proto.domain:
                continue
            name = proto.name if proto.name and proto.name not in self.protos else f"{proto.op_type}_{position}"
            inputs = (*proto.input, *captured(proto))
            node = OperatorNode(name, proto.op_type, inputs, tuple(proto.output), _scope(proto))
            self.protos[name] = proto
            self._made_by.update((output, node) for output in proto.output if output)
            if proto.op_type not in _RANDOM | _SEQUENCES and all(name in self._constants for name in inputs if name):
                self._constants.update((output, node) for output in proto.output if output)
            else:
                yield node


def captured(proto: onnx.NodeProto) -> tuple[str, ...]:
    """Tensors from outside that the subgraphs of an operator use."""
    names: dict[str, None] = {}
    for attribute in proto.attribute:
        graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
        for graph in graphs:
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            for node in graph.node:
                names.update(dict.fromkeys(name for name in (*node.input, *captured(node)) if name and name not in own))
                own.update(node.output)
            names.update(dict.fromkeys(value.name for value in graph.output if value.name not in own))
    return tuple(name for name in names if name not in proto.input)


def _written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    import onnx.inliner

    return onnx.inliner.inline_local_functions(model)


def _round_weights(graph: onnx.GraphProto, precision: str, kept: Collection[str]) -> None:
    """Round the weights of a graph and of the graphs inside its operators."""
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _round(tensor, precision)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _round_weights(attribute.g, precision, kept)
            elif node.op_type == "Constant" and attribute.HasField("t") and node.output[0] not in kept:
                _round(attribute.t, precision)


def _round(tensor: onnx.TensorProto, precision: str) -> None:
    from onnx import numpy_helper

    if tensor.data_type in FLOAT_NAMES and len(tensor.dims) and tensor.data_location != tensor.EXTERNAL:
        value = numpy_helper.to_array(tensor)
        if value.size > 1:
            rounded = round_to(value, precision).astype(value.dtype)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))


def _scope(proto: onnx.NodeProto) -> str:
    """What an exporter noted: torch's notes the module path under `pkg.torch.onnx.name_scopes`."""
    for entry in proto.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            parts = [part.strip(" '\"[]") for part in entry.value.split(",")]
            return next((part for part in reversed(parts[:-1]) if part), "")
    return ""


def _array(value: Any) -> Array:
    """The array of a TensorProto, or of the attribute of a `Constant`."""
    import numpy as np
    from onnx import helper, numpy_helper

    if hasattr(value, "data_type"):
        return numpy_helper.to_array(value)
    content = helper.get_attribute_value(value)
    if hasattr(content, "data_type"):
        return numpy_helper.to_array(content)
    if hasattr(content, "indices"):
        return _dense(content)
    if isinstance(content, bytes):
        return np.array(content.decode(), dtype=object)
    if isinstance(content, Sequence) and content and isinstance(content[0], bytes):
        return np.array([part.decode() for part in content], dtype=object)
    return np.array(content, dtype=np.float32 if "float" in value.name else np.int64)


def _dense(sparse: onnx.SparseTensorProto) -> Array:
    """A sparse tensor with its zeros: indices count elements in order, or name one by its place on each axis."""
    import numpy as np
    from onnx import numpy_helper

    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    result = np.zeros(tuple(sparse.dims), values.dtype)
    result[np.unravel_index(indices, result.shape) if indices.ndim == 1 else tuple(indices.T)] = values
    return result


__all__ = ["OnnxGraph", "captured"]
