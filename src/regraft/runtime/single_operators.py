"""The distinct operators of an ONNX graph, each with the tensors that it meets in a pass, as a model of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.runtime.rounding import round_to

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array, Feeds
    from regraft.runtime.onnx_graph import OnnxGraph
    from regraft.runtime.operator_graph import OperatorNode

HALVES = ("float16", "bfloat16")
_TYPES = {"float32": 1, "float16": 10, "bfloat16": 16}
_HELD_BYTES = 1 << 28
"""Weights beyond this are fed, as a message of protobuf ends at 2 GiB."""
_SETTING_ELEMENTS = 64
"""Lists of integers up to this size are settings (axes, sizes) and tell operators apart; others are data."""


class SingleOperator(msgspec.Struct, frozen=True):
    """One operator as it occurs.

    Attributes:
        node: in the graph.
        inputs: tensor name → value, constants included.
        outputs: tensor name → value, as onnxruntime computes it alone.
        constants: names of the inputs that are constants of the graph.
        key: equal for operators that differ in nothing but the values of their data.
    """

    node: OperatorNode
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    constants: frozenset[str]
    key: tuple[Any, ...]

    @property
    def dtype(self) -> str:
        """The floating-point dtype that it has in the graph; empty where it takes and makes none."""
        values = [value for value in (*self.inputs.values(), *self.outputs.values()) if hasattr(value, "dtype")]
        return next((str(value.dtype) for value in values if value.dtype.kind == "f"), "")

    @property
    def shapes(self) -> str:
        """Dtype and shape of every input, in words."""
        return ", ".join(f"{value.dtype} {list(value.shape)}" for value in self.inputs.values())

    @property
    def held(self) -> frozenset[str]:
        """Inputs that are part of its model: constants, and sizes, which compilers know from the graph around it."""
        return self.constants | {name for name, value in self.inputs.items() if _is_setting(value)}

    @property
    def obstacle(self) -> str:
        """Why it cannot be tried alone; empty where it can."""
        values = [*self.inputs.values(), *self.outputs.values()]
        if any(not hasattr(value, "dtype") for value in values):
            return "it takes or makes a list of tensors"
        return "it takes or makes texts" if any(value.dtype.kind not in "fiub" for value in values) else ""


class DistinctOperators:
    """Iterates over the operators of one pass, each that differs from all before it.

    Args:
        graph: the operators.
        feeds: inputs of the graph.
    """

    def __init__(self, graph: OnnxGraph, feeds: Feeds) -> None:
        self._graph = graph
        self._feeds = feeds
        self.counts: Counter[tuple[Any, ...]] = Counter()
        """Key → operators so far that have it."""

    def __iter__(self) -> Iterator[SingleOperator]:
        graph = self._graph
        values: dict[str, Any] = {name: self._feeds[name] for name in graph.inputs}
        last = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
        for number, node in enumerate(graph.nodes):
            made = graph.run(node, values)
            constants = {name: graph.constant(name) for name in node.inputs if name and name not in values}
            inputs = {name: values.get(name, constants.get(name)) for name in dict.fromkeys(node.inputs) if name}
            key = _key(graph.protos[node.name], inputs, frozenset(constants))
            self.counts[key] += 1
            if self.counts[key] == 1:
                yield SingleOperator(node, inputs, made, frozenset(constants), key)
            values |= {name: value for name, value in made.items() if last.get(name, -1) > number}
            for name in node.inputs:
                if last[name] == number:
                    values.pop(name, None)


def narrowed_inputs(graph: OnnxGraph, operator: SingleOperator, dtype: str) -> frozenset[str]:
    """The float32 inputs of an operator that the standard also allows in another dtype; empty where there are none.

    Args:
        graph: that it is from; its operator sets decide.
        operator: without subgraphs, which have types of their own.
        dtype: `float16` or `bfloat16`.
    """
    from onnx import defs

    proto = graph.protos[operator.node.name]
    version = _opset(graph.model, proto.domain)
    if any(attribute.HasField("g") for attribute in proto.attribute):
        return frozenset()
    if not defs.has(proto.op_type, version, proto.domain):
        return frozenset()
    schema = defs.get_schema(proto.op_type, version, proto.domain)
    formal = list(schema.inputs)
    found = set()
    for place, name in enumerate(proto.input):
        if name and formal and str(operator.inputs[name].dtype) == "float32":
            allowed = formal[min(place, len(formal) - 1)].types
            if f"tensor({dtype})" in allowed:
                found.add(name)
    return frozenset(found)


def narrowed_values(inputs: Mapping[str, Any], narrow: frozenset[str], dtype: str) -> dict[str, Any]:
    """The inputs with the values that a lower precision has, still in float32."""
    return {name: round_to(value, dtype) if name in narrow else value for name, value in inputs.items()}


def operator_model(
    graph: OnnxGraph, operator: SingleOperator, inputs: Mapping[str, Array], narrow: frozenset[str], dtype: str
) -> tuple[bytes, dict[str, Array]]:
    """An ONNX model of one operator, and what it is fed.

    In a lower precision its inputs and outputs stay float32, with casts between them and the operator: not every
    runtime takes arrays of these dtypes.

    Args:
        graph: that it is from.
        operator: the operator.
        inputs: its inputs, rounded where they are to be narrow.
        narrow: inputs to be of `dtype`; empty for the operator as it stands.
        dtype: of those.
    """
    import onnx
    from onnx import helper, numpy_helper

    proto = onnx.NodeProto()
    proto.CopyFrom(graph.protos[operator.node.name])
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    weights, ports, fed = [], [], {}
    held = operator.held
    new = {name: f"{name}/{dtype}" for name in narrow}
    for name, value in inputs.items():
        if name in held and value.nbytes <= _HELD_BYTES:
            tensor = _narrow_tensor(value, new[name], dtype) if name in narrow else numpy_helper.from_array(value, name)
            weights.append(tensor)
            continue
        fed[name] = value
        ports.append(_port(name, value))
        if name in narrow:
            before.append(helper.make_node("Cast", [name], [new[name]], to=_TYPES[dtype]))
    proto.input[:] = [new.get(name, name) for name in proto.input]
    if narrow:
        floats = [name for name in proto.output if name and operator.outputs[name].dtype.kind == "f"]
        proto.output[:] = [f"{name}/made" if name in floats else name for name in proto.output]
        after = [helper.make_node("Cast", [f"{name}/made"], [name], to=_TYPES["float32"]) for name in floats]
    results = [_port(name, value) for name, value in operator.outputs.items()]
    whole = helper.make_graph([*before, proto, *after], "operator", ports, results, weights)
    model = helper.make_model(whole, opset_imports=_opsets(graph.model), ir_version=graph.model.ir_version)
    return model.SerializeToString(), fed


def nothing_model(dtype: str) -> tuple[bytes, dict[str, Array]]:
    """An ONNX model that hands one number on, and what it is fed: what a call costs beside what it computes.

    Args:
        dtype: in which it does that, between casts from and to float32.
    """
    import numpy as np
    from onnx import helper

    number = np.zeros(1, np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=_TYPES[dtype]),
        helper.make_node("Identity", ["narrow"], ["same"]),
        helper.make_node("Cast", ["same"], ["y"], to=_TYPES["float32"]),
    ]
    nodes = nodes if dtype != "float32" else [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "nothing", [_port("x", number)], [_port("y", number)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), {"x": number}


def _key(proto: onnx.NodeProto, inputs: Mapping[str, Any], constants: frozenset[str]) -> tuple[Any, ...]:
    settings = tuple(sorted(attribute.SerializeToString(deterministic=True) for attribute in proto.attribute))
    places = tuple(list(inputs).index(name) if name else -1 for name in proto.input)
    kinds = tuple(
        (
            str(getattr(value, "dtype", "list")),
            getattr(value, "shape", ()),
            name in constants,
            value.tobytes() if _is_setting(value) else b"",
        )
        for name, value in inputs.items()
    )
    return proto.domain, proto.op_type, settings, places, tuple(map(bool, proto.output)), kinds


def _is_setting(value: Any) -> bool:
    has_numbers = hasattr(value, "dtype") and value.dtype.kind in "iub"
    return has_numbers and value.ndim <= 1 and value.size <= _SETTING_ELEMENTS


def _port(name: str, value: Array) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _narrow_tensor(value: Array, name: str, dtype: str) -> onnx.TensorProto:
    import ml_dtypes
    import numpy as np
    from onnx import numpy_helper

    kind: Any = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    with np.errstate(over="ignore"):
        return numpy_helper.from_array(value.astype(kind), name)


def _opset(model: onnx.ModelProto, domain: str) -> int:
    return next((one.version for one in model.opset_import if one.domain == domain), 1)


def _opsets(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """With the standard's own, from which the casts are."""
    from onnx import helper

    found = list(model.opset_import)
    return found if any(one.domain in ("", "ai.onnx") for one in found) else [*found, helper.make_opsetid("", 17)]
