"""An ONNX graph as a torch module that walks it; torch.export turns the walk into a program of its own."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import torch
from torch import nn

from regraft.deployment.convert.operators.interface import Parameter, Row, attributes_of
from regraft.deployment.convert.operators.known_numbers import (
    MAX_NUMBERS,
    Numbers,
    settled,
    tensor_from_constant,
    tensor_from_numbers,
)
from regraft.errors import RegraftError, Unsupported

if TYPE_CHECKING:
    import onnx

    Value: TypeAlias = "torch.Tensor | Numbers | Stored | list[torch.Tensor] | None"
    Environment: TypeAlias = dict[str, Value]

_NAMED = 12


class Stored(msgspec.Struct, frozen=True):
    """A constant of the graph: a tensor of the module, and numbers where it is small.

    Attributes:
        values: as the file has them.
        attribute: of the module.
    """

    values: Numbers
    attribute: str


class Call:
    """One node while it is computed.

    Attributes:
        network: that it belongs to.
        node: the node.
        opset: version of the operator set that it is from.
        outputs: how many values it returns.
    """

    def __init__(self, network: OnnxNetwork, node: onnx.NodeProto, opset: int, outer: Environment) -> None:
        self.network = network
        self.node = node
        self.opset = opset
        self.outputs = len(node.output)
        self.outer = outer


class OnnxNetwork(nn.Module):
    """Interprets a graph on torch tensors.

    Args:
        proto: the model, self-contained, its local functions inlined.
        rows: the table of operators by domain and name.
        where: how errors name it.
    Raises:
        Unsupported: operators have no mapping; all of them are named, with the nodes that use them.
    """

    def __init__(self, proto: onnx.ModelProto, rows: Mapping[tuple[str, str], Sequence[Row]], *, where: str) -> None:
        super().__init__()
        self.where = where
        self.stored: dict[str, Stored] = {}
        self._operands: dict[str, torch.Tensor] | None = None
        self._graph = proto.graph
        self._opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
        self._rows = self._chosen(rows)
        for graph in graphs_of(proto.graph):
            self._store(graph)
        self.arguments = _arguments(proto.graph)
        self.forward = self._forward()  # its signature is the graph's

    def _chosen(self, rows: Mapping[tuple[str, str], Sequence[Row]]) -> dict[tuple[str, str], Row]:
        chosen: dict[tuple[str, str], Row] = {}
        lacking: dict[str, list[str]] = {}
        for graph in graphs_of(self._graph):
            for node in graph.node:
                key = _domain(node.domain), node.op_type
                fitting = [row for row in rows.get(key, ()) if row.holds(self._opsets.get(key[0], 1))]
                if fitting:
                    chosen[key] = fitting[0]
                elif key not in (("", "Constant"), ("", "If"), ("", "Loop"), ("", "Scan")):
                    lacking.setdefault("::".join(filter(None, key)), []).append(
                        node.name or next(iter(node.output), "")
                    )
        if lacking:
            raise Unsupported(_lacking(lacking), where=self.where)
        return chosen

    def _store(self, graph: onnx.GraphProto) -> None:
        """Constants become parameters and buffers, once for every name."""
        from onnx import numpy_helper

        for tensor in graph.initializer:
            self._keep(tensor.name, numpy_helper.to_array(tensor))
        for node in graph.node:
            if node.op_type == "Constant" and _domain(node.domain) == "":
                self._keep(node.output[0], _constant(node))

    def _keep(self, name: str, values: Numbers) -> None:
        taken = {stored.attribute for stored in self.stored.values()}
        attribute = base = "w_" + re.sub(r"\W", "_", name) if name[:1].isdigit() else re.sub(r"\W", "_", name)
        while attribute in taken or hasattr(self, attribute):
            base = f"{base}_"
            attribute = base
        if values.size:  # torch.export.save takes empty tensors for one, as they all lie at address 0
            self._register(attribute, values)
        self.stored[name] = Stored(values, attribute)

    def _register(self, attribute: str, values: Numbers) -> None:
        tensor = tensor_from_constant(values)
        if tensor.is_floating_point():
            self.register_parameter(attribute, nn.Parameter(tensor, requires_grad=False))
        else:
            self.register_buffer(attribute, tensor)

    def _forward(self) -> Any:
        def forward(*values: torch.Tensor, **named: torch.Tensor) -> dict[str, torch.Tensor]:
            given = dict(zip(self.arguments.values(), values, strict=False)) | {
                self.arguments[name]: value for name, value in named.items()
            }
            return self._computed({name: given[name] for name in self.arguments.values()})

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in self.arguments]
        )
        return forward

    def _computed(self, inputs: Environment) -> dict[str, torch.Tensor]:
        environment = self.run(self._graph, inputs)
        found = {value.name: self.tensor(environment[value.name]) for value in self._graph.output}
        return {name: value.clone() if name in inputs else value for name, value in found.items()}

    def run(self, graph: onnx.GraphProto, environment: Environment) -> Environment:
        """Compute every node of a graph, in the order of the file."""
        environment = dict(environment)
        for value in graph.initializer:
            environment[value.name] = self.stored[value.name]
        for node in graph.node:
            try:
                results = self._results(node, environment)
            except RegraftError as error:
                if error.where:
                    raise
                raise Unsupported(f"{_named(node)}: {error.what}", where=self.where, hint=error.hint) from error
            except Exception as error:
                raise Unsupported(f"{_named(node)}: {' '.join(str(error).split())[:300]}", where=self.where) from error
            environment |= dict(zip(node.output, results, strict=False))
        return environment

    def tensor(self, value: Value) -> torch.Tensor:
        """A value as data."""
        inside = self._operands
        if isinstance(value, Stored) and not value.values.size:
            return tensor_from_numbers(value.values)
        if isinstance(value, Stored):
            if inside is None:
                found: torch.Tensor = getattr(self, value.attribute)
                return found
            if value.attribute in inside:
                return inside[value.attribute]
            return tensor_from_numbers(value.values, spelled=True)
        if isinstance(value, np.ndarray):
            return tensor_from_numbers(value, spelled=inside is not None)
        if not isinstance(value, torch.Tensor):
            raise Unsupported("a sequence or nothing stands where a tensor belongs")
        return value

    @contextlib.contextmanager
    def inside(self, operands: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Within a branch: its constants are the operands that `torch.cond` hands to it, by attribute."""
        before, self._operands = self._operands, dict(operands)
        try:
            yield
        finally:
            self._operands = before

    def _results(self, node: onnx.NodeProto, environment: Environment) -> Sequence[Value]:
        if node.op_type == "Constant" and not _domain(node.domain):
            return [self.stored[node.output[0]]]
        from regraft.deployment.convert.operators.control import CONTROL

        opset = self._opsets.get(_domain(node.domain), 1)
        call = Call(self, node, opset, environment)
        values = [environment[name] if name else None for name in node.input]
        if node.op_type in CONTROL and not _domain(node.domain):
            return CONTROL[node.op_type](call, values)
        row = self._rows[_domain(node.domain), node.op_type]
        result = self._call(row, call, values)
        return [*result] if isinstance(result, tuple) else [result]

    def _call(self, row: Row, call: Call, values: Sequence[Value]) -> Any:
        given = _attributes(call.node)
        attributes = attributes_of(row, given)
        if row.numbers is not None:
            known = [numbers_of(value) for value in values if value is not None]
            if known and all(value is not None for value in known):
                bound = self._bound(row, values, given, as_numbers=True)
                return settled(np.asarray(row.numbers(*bound, **attributes)))
        bound = self._bound(row, values, given, as_numbers=False)
        return row.compute(*([call] if row.takes_call else []), *bound, **attributes)

    def _bound(self, row: Row, values: Sequence[Value], given: Mapping[str, Any], *, as_numbers: bool) -> list[Any]:
        bound: list[Any] = []
        for place, parameter in enumerate(row.inputs):
            if parameter.is_variadic:
                rest = values[place:]
                return bound + [
                    _required_numbers(value, parameter) if as_numbers else self._data(value) for value in rest
                ]
            value = values[place] if place < len(values) else None
            if value is None and parameter.is_number and parameter.name in given:
                bound.append(np.asarray(given[parameter.name]))
            elif value is None:
                if not parameter.is_optional:
                    raise Unsupported(f"{row.name} lacks its input {parameter.name}")
                bound.append(None)
            elif parameter.is_number or as_numbers:
                bound.append(_required_numbers(value, parameter))
            else:
                bound.append(self._data(value))
        return bound

    def _data(self, value: Value) -> Any:
        return value if isinstance(value, list) else self.tensor(value)


def numbers_of(value: Value) -> Numbers | None:
    """The numbers that a value is, None for data."""
    if isinstance(value, np.ndarray):
        return value
    return value.values if isinstance(value, Stored) and value.values.size <= MAX_NUMBERS else None


def _required_numbers(value: Value, parameter: Parameter) -> Numbers:
    found = numbers_of(value)
    if found is None:
        raise Unsupported(
            f"its input {parameter.name} is computed from data, and torch.export needs to know it beforehand"
        )
    return found


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those of its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)


def free_names(graph: onnx.GraphProto) -> list[str]:
    """What a branch or body takes from outside, in order of use."""
    own = {value.name for value in (*graph.input, *graph.initializer)}
    free: dict[str, None] = {}
    for node in graph.node:
        inner = [name for a in node.attribute if a.HasField("g") for name in free_names(a.g)]
        free |= dict.fromkeys(name for name in (*node.input, *inner) if name and name not in own)
        own |= set(node.output)
    free |= dict.fromkeys(value.name for value in graph.output if value.name not in own)
    return list(free)


def _arguments(graph: onnx.GraphProto) -> dict[str, str]:
    """Python's name of an argument → the input's."""
    constants = {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {}
    for value in graph.input:
        if value.name not in constants:
            plain = re.sub(r"\W", "_", value.name)
            plain = f"x_{plain}" if not plain.isidentifier() else plain
            while plain in names:
                plain += "_"
            names[plain] = value.name
    return names


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values and numpy arrays; graphs are left to control flow."""
    from onnx import helper, numpy_helper

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == attribute.TENSOR:
            value = numpy_helper.to_array(value)
        elif isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            value = [item.decode() for item in value]
        found[attribute.name] = value
    return found


def _constant(node: onnx.NodeProto) -> Numbers:
    values = list(_attributes(node).values())
    if (
        len(values) != 1
        or isinstance(values[0], str)
        or (isinstance(values[0], list) and values[0] and isinstance(values[0][0], str))
    ):
        raise Unsupported(f"{_named(node)} holds text or nothing")
    (value,) = values
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value, dtype=np.float32 if "float" in next(iter(_attributes(node))) else np.int64)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _named(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or next(iter(node.output), '')!r}".replace("''", "")


def _lacking(lacking: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for operator, nodes in sorted(lacking.items()):
        shown = ", ".join(nodes[:_NAMED]) + (f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else "")
        parts.append(f"{operator} ({shown})")
    return f"no mapping to torch for {len(lacking)} operators: {'; '.join(parts)}"
