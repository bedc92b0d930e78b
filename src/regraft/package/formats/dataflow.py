"""Graphs as steps between named values, in the operator names of ONNX: what follows from the input, and how.

Source: onnx.proto3 of ONNX 1.23 and schema.fbs of TensorFlow Lite, version 3c; numbers are those of their fields.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from regraft.errors import LimitExceeded
from regraft.package.formats.flatbuffer import Buffer, Table
from regraft.package.formats.interface import Probe
from regraft.package.formats.onnx_tensors import port_of
from regraft.package.formats.tflite import operator_names
from regraft.package.formats.wire import Message, message_of
from regraft.package.limits import MAX_NESTING, MAX_TENSORS

_SMALL_BYTES = 4096
_PASS = "Identity"
_OF_TFLITE = {
    "SELECT": "Where", "SELECT_V2": "Where", "IF": "If", "EQUAL": "Equal", "NOT_EQUAL": "Equal", "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual", "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "REDUCE_ALL": "ReduceMin",
    "REDUCE_ANY": "ReduceMax", "REDUCE_MIN": "ReduceMin", "REDUCE_MAX": "ReduceMax", "REDUCE_PROD": "ReduceProd",
    "SUM": "ReduceSum", "MEAN": "ReduceMean", "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "LOGICAL_NOT": "Not",
    "CAST": "Cast", "MUL": "Mul", "SUB": "Sub", "ADD": "Add", "ABS": "Abs", "RESHAPE": "Reshape", "SLICE": "Slice",
    "STRIDED_SLICE": "Slice", "GATHER": "Gather", "GATHER_ND": "GatherND", "SQUEEZE": "Squeeze", "SHAPE": "Shape",
    "EXPAND_DIMS": "Unsqueeze", "FULLY_CONNECTED": "Gemm", "CONV_2D": "Conv", "DEPTHWISE_CONV_2D": "Conv",
    "BATCH_MATMUL": "MatMul", "TRANSPOSE_CONV": "ConvTranspose", "BROADCAST_TO": "Expand", "TILE": "Tile",
}  # fmt: skip


class Step(msgspec.Struct, frozen=True):
    """One operator: its name, the values that it takes and those that it makes."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Dataflow(msgspec.Struct):
    """A graph with the graphs inside of its nodes, as one list of steps in the order of the file.

    Attributes:
        inputs: name → rank, None where it is not said.
        outputs: names of what the graph returns.
        constants: name → whether every byte that is stored is zero; of large ones False, unread.
    """

    inputs: dict[str, int | None]
    outputs: list[str]
    constants: dict[str, bool]
    steps: list[Step]


def dataflows_of(probe: Probe, kind: str) -> Iterator[Dataflow]:
    """The steps of an ONNX or TFLite model, or of the graphs and functions of a TensorFlow one.

    Raises:
        Damaged, LimitExceeded: as the format's `describe`.
    """
    from regraft.package.formats.tf_dataflow import dataflows_of_graph

    if kind == "onnx":
        found = Dataflow({}, [], {}, [])
        for graph in message_of(probe).spans(7):
            _add_onnx(graph, found, 0)
        yield found
    elif kind == "tflite":
        yield _of_tflite(probe)
    elif kind == "tf-graph":
        yield from dataflows_of_graph(message_of(probe))
    elif kind in ("tf-saved-model", "tf-meta-graph"):
        whole = message_of(probe)
        for meta in whole.spans(2) if kind == "tf-saved-model" else (whole,):
            for graph in meta.spans(2):
                yield from dataflows_of_graph(graph)


def _add_onnx(graph: Message, flow: Dataflow, depth: int) -> list[str]:
    """Add a graph; the names of its outputs."""
    if depth > MAX_NESTING // 4 or len(flow.steps) > MAX_TENSORS:
        raise LimitExceeded("graphs nested too deep, or too many nodes", where=graph.where)
    outputs = []
    for number, _, value in graph.fields():
        if not isinstance(value, Message):
            continue
        if number == 1:
            _add_node(value, flow, depth)
        elif number == 5:
            _add_constant(value, flow)
        elif number == 11 and depth == 0:
            port = port_of(value)
            flow.inputs[port.name] = None if port.shape is None else len(port.shape)
        elif number == 12:
            outputs.append(port_of(value).name)
    if depth == 0:
        flow.outputs = outputs
        for name in flow.constants:
            flow.inputs.pop(name, None)
    return outputs


def _add_node(node: Message, flow: Dataflow, depth: int) -> None:
    inputs, outputs, branches = list[str](), list[str](), list[list[str]]()
    operator = ""
    constant = None
    for number, _, value in node.fields():
        if not isinstance(value, Message):
            continue
        if number == 1:
            inputs.append(value.text(limit=1000))
        elif number == 2:
            outputs.append(value.text(limit=1000))
        elif number == 4:
            operator = value.text(limit=200)
        elif number == 5:
            for part, _, inner in value.fields():
                if part == 6 and isinstance(inner, Message):
                    branches.append(_add_onnx(inner, flow, depth + 1))
                elif part == 5 and isinstance(inner, Message):
                    constant = inner
    if operator == "Constant":
        for name in outputs:
            flow.constants[name] = constant is not None and _is_zero(constant)
        return
    flow.steps.append(Step(operator, tuple(inputs), tuple(outputs)))
    for branch in branches if operator == "If" else ():
        flow.steps += [Step(_PASS, (inner,), (outer,)) for inner, outer in zip(branch, outputs, strict=False)]


def _add_constant(tensor: Message, flow: Dataflow) -> None:
    name = next((value.text(limit=1000) for value in tensor.spans(8)), "")
    flow.constants[name] = _is_zero(tensor)


def _is_zero(tensor: Message) -> bool:
    for number, _, value in tensor.fields():
        if number in (4, 5, 7, 9, 10, 11):
            if isinstance(value, int) and value:
                return False
            if isinstance(value, Message) and (value.size > _SMALL_BYTES or any(value.bytes(limit=_SMALL_BYTES))):
                return False
    return True


def _of_tflite(probe: Probe) -> Dataflow:
    """The first graph; tensors are named by their index."""
    model = Buffer(probe.reader).root()
    names = operator_names(model)
    flow = Dataflow({}, [], {}, [])
    for graph in model.tables(2):
        buffers = list(model.tables(4))
        for index, tensor in enumerate(graph.tables(0)):
            buffer = tensor.uint(2, 4)
            if 0 < buffer < len(buffers) and (buffers[buffer].length(0) or buffers[buffer].uint(1, 8) > 1):
                flow.constants[str(index)] = not any(buffers[buffer].blob(0, limit=_SMALL_BYTES))
        ranks = [tensor.length(0) for tensor in graph.tables(0)]
        flow.inputs = {str(i): ranks[i] for i in graph.sints(1, 4) if 0 <= i < len(ranks)}
        flow.outputs = [str(i) for i in graph.sints(2, 4)]
        flow.steps = list(_tflite_steps(graph.tables(3), names))
        break
    return flow


def _tflite_steps(nodes: Iterator[Table], names: list[str]) -> Iterator[Step]:
    for node in nodes:
        index = node.uint(0, 4)
        name = names[index] if index < len(names) else ""
        inputs = tuple(str(i) for i in node.sints(1, 4) if i >= 0)
        yield Step(_OF_TFLITE.get(name, name), inputs, tuple(str(i) for i in node.sints(2, 4)))
