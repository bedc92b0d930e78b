"""The same TensorFlow graph in float64, or with its weights moved to neighbouring numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from regraft.errors import Unsupported
from regraft.runtime.rounding import neighbours
from regraft.runtime.tensorflow_graph import FrozenGraph, const_nodes, import_tensorflow, with_ends

_NORMALISATIONS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_EPSILON = 1e-4
"""Default of those operators, which converters leave out."""


def in_float64(graph: FrozenGraph, where: str = "") -> FrozenGraph:
    """The graph with every float32 in it a float64: weights, attributes, ends.

    Batch normalisation, which TensorFlow computes in float32 alone, is written as the arithmetic that it is.

    Raises:
        Unsupported: an operator has no float64; the message names it.
    """
    tf = import_tensorflow()
    definition = tf.compat.v1.GraphDef()
    definition.CopyFrom(graph.definition)
    del definition.node[:]
    for node in graph.definition.node:
        definition.node.extend(_normalisation(node, graph.definition) if node.op in _NORMALISATIONS else [node])
    for function in definition.library.function:
        for port in (*function.signature.input_arg, *function.signature.output_arg):
            port.type = _wide(port.type)
        for node in function.node_def:
            _widen(node, where)
    for node in definition.node:
        _widen(node, where)
    inputs, outputs = ({end.port.name: end.tensor for end in ends} for ends in (graph.inputs, graph.outputs))
    return with_ends(definition, inputs, outputs, where)


def with_moved_weights(graph: FrozenGraph, seed: int, unit: float) -> FrozenGraph:
    """The graph with every weight that has axes times 1 − unit, 1 or 1 + unit; lone numbers are settings."""
    import numpy as np

    tf = import_tensorflow()
    rng = np.random.default_rng(seed)
    definition = tf.compat.v1.GraphDef()
    definition.CopyFrom(graph.definition)
    for node in const_nodes(definition):
        tensor = node.attr["value"].tensor
        if tensor.dtype == tf.float32.as_datatype_enum and tensor.tensor_shape.dim:
            tensor.CopyFrom(tf.make_tensor_proto(neighbours(tf.make_ndarray(tensor), rng, unit)))
    return FrozenGraph(definition, graph.inputs, graph.outputs)


def _widen(node: Any, where: str) -> None:
    """Every float32 among the attributes of an operator becomes a float64.

    Raises:
        Unsupported: the operator does not take it, or its result is float32 whatever it takes.
    """
    from tensorflow.python.framework import op_def_registry

    tf = import_tensorflow()
    single, double = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
    known = op_def_registry.get(node.op)
    if known is not None and any(port.type == single for port in (*known.input_arg, *known.output_arg)):
        raise Unsupported(f"TensorFlow computes {node.op} (node {node.name}) in float32 only", where=where)
    allowed = {one.name: list(one.allowed_values.list.type) for one in known.attr} if known is not None else {}
    for key, value in node.attr.items():
        if value.type == single and allowed.get(key) and double not in allowed[key]:
            raise Unsupported(f"TensorFlow has no {node.op} (node {node.name}) in float64", where=where)
        if value.type == single:
            value.type = double
        elif value.WhichOneof("value") == "list":
            value.list.type[:] = [_wide(one) for one in value.list.type]
    if node.op == "Const" and node.attr["value"].tensor.dtype == single:
        wide = tf.make_ndarray(node.attr["value"].tensor).astype("float64")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(wide))


def _wide(dtype: int) -> int:
    tf = import_tensorflow()
    return tf.float64.as_datatype_enum if dtype == tf.float32.as_datatype_enum else dtype


def _normalisation(node: Any, definition: Any) -> Iterator[Any]:
    """(x − mean) · (scale / √(variance + ε)) + offset, along the last axis.

    Source: Ioffe and Szegedy 2015, algorithm 2; TensorFlow's FusedBatchNorm with `is_training` false.
    """
    tf = import_tensorflow()
    is_plain = not node.attr["is_training"].b and node.attr["data_format"].s in (b"", b"NHWC")
    statistics = {f"{node.name}:{i}" for i in range(1, 6)}
    others = any(name in statistics for one in definition.node for name in one.input)
    if not is_plain or others:
        raise Unsupported(f"{node.op} (node {node.name}) normalises by its batch, or along another axis than the last")
    given, scale, offset, mean, variance = node.input[:5]
    epsilon = node.attr["epsilon"].f if "epsilon" in node.attr else _EPSILON
    small = tf.compat.v1.NodeDef(name=f"{node.name}/epsilon", op="Const")
    small.attr["dtype"].type = tf.float32.as_datatype_enum
    small.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(epsilon, dtype=tf.float32))
    yield small
    parts = (
        ("variance", "AddV2", (variance, small.name)),
        ("inverse", "Rsqrt", (f"{node.name}/variance",)),
        ("factor", "Mul", (f"{node.name}/inverse", scale)),
        ("centred", "Sub", (given, mean)),
        ("scaled", "Mul", (f"{node.name}/centred", f"{node.name}/factor")),
        ("", "AddV2", (f"{node.name}/scaled", offset)),
    )
    for part, operator, inputs in parts:
        made = tf.compat.v1.NodeDef(name=f"{node.name}/{part}".rstrip("/"), op=operator, input=inputs)
        made.attr["T"].type = tf.float32.as_datatype_enum
        yield made
