"""TensorFlow graphs as protocol buffers: nodes, function libraries, signatures, element types.

Source: tensorflow/core/framework (graph, node_def, function, tensor_shape, types) and core/protobuf/meta_graph of
TensorFlow 2.21; numbers are field numbers of its messages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Port, Probe, Role
from regraft.package.formats.wire import SPAN, VARINT, Message, entry_of, message_of, signed

_DTYPES = (
    "unknown float32 float64 int32 uint8 int16 int8 string complex64 int64 bool qint8 quint8 qint32 bfloat16 qint16 "
    "quint16 uint16 complex128 float16 resource variant uint32 uint64 float8_e5m2 float8_e4m3fn float8_e4m3fnuz "
    "float8_e4m3b11fnuz float8_e5m2fnuz int4 uint4 int2 uint2 float4_e2m1fn"
).split()
_OPERATOR = re.compile(rb"[A-Za-z_>][A-Za-z0-9_.>\\/\-]{0,199}")
_NODE_KINDS = {1: SPAN, 2: SPAN, 3: SPAN, 4: SPAN, 5: SPAN, 6: SPAN, 7: SPAN}
_GRAPH_KINDS = {1: SPAN, 2: SPAN, 3: VARINT, 4: SPAN, 5: SPAN}
_FIELDS_LOOKED_AT = 16
_MAX_RANK = 64
_MAX_PORTS = 10_000


class TfGraph:
    """Format `tf-graph`: a bare GraphDef, such as a frozen graph."""

    name = "tf-graph"
    title = "TensorFlow graph (GraphDef)"
    role = Role.GRAPH
    loading = Loading.UNKNOWN
    suffixes = (".pb",)

    def matches(self, probe: Probe) -> bool:
        """A message whose first fields are nodes with a name and an operator, or a function library and nodes."""
        if probe.head[:1] not in (b"\x0a", b"\x12"):
            return False
        try:
            first = zip(message_of(probe).fields(), range(_FIELDS_LOOKED_AT), strict=False)
            fits = all(_GRAPH_KINDS.get(number) == kind for (number, kind, _), _ in first)
            return fits and looks_like_graph(message_of(probe))
        except Damaged:
            return False

    def describe(self, probe: Probe) -> Description:
        """Operators, placeholders as inputs, versions.

        Raises:
            Damaged: the bytes are no such messages.
        """
        operators: Counter[str] = Counter()
        inputs: list[Port] = []
        producer = add_graph(message_of(probe), operators, inputs)
        opsets = {} if producer is None else {"tensorflow.graph_def": producer}
        return Description(operators=dict(operators), opsets=opsets, inputs=tuple(inputs))


def add_graph(graph: Message, operators: Counter[str], inputs: list[Port] | None = None) -> int | None:
    """Count the operators of a `GraphDef` and its functions; the version of its producer where it says.

    Args:
        graph: the message.
        operators: receives the counts.
        inputs: receives the placeholders of the main graph, when given.
    """
    producer = None
    for number, _, value in graph.fields():
        if not isinstance(value, Message):
            continue
        if number == 1:
            operator, name, dtype, shape = _node(value, with_attributes=inputs is not None)
            operators[operator] += 1
            if inputs is not None and operator == "Placeholder" and len(inputs) < _MAX_PORTS:
                inputs.append(Port(name, dtype, shape))
        elif number == 2:
            for function in value.spans(1):
                for node in function.spans(3):
                    operators[_node(node, with_attributes=False)[0]] += 1
        elif number == 4:
            for found, _, version in value.fields():
                if found == 1 and isinstance(version, int):
                    producer = signed(version)
    return producer


def looks_like_graph(graph: Message) -> bool:
    """Are the first fields nodes with a name and an operator, or a library of functions?

    Raises:
        Damaged: the bytes are no message.
    """
    for (number, kind, value), _ in zip(graph.fields(), range(4), strict=False):
        if _GRAPH_KINDS.get(number) != kind:
            return False
        if number == 1 and isinstance(value, Message):
            return _looks_like_node(value)
        if number == 2 and isinstance(value, Message):
            signature = next((part for function in value.spans(1) for part in function.spans(1)), None)
            if signature is not None:
                return True
    return False


def dtype_of(number: int) -> str:
    """Element type by its number in `DataType`; references (from 101) as what they refer to."""
    number = number - 100 if number > 100 else number
    return _DTYPES[number] if 0 <= number < len(_DTYPES) else f"type_{number}"


def shape_of(message: Message) -> tuple[int | None, ...] | None:
    """A `TensorShapeProto`; None when the rank is unknown."""
    extents: list[int | None] = []
    for number, _, value in message.fields():
        if number == 2 and isinstance(value, Message):
            size = next((signed(v) for n, _, v in value.fields() if n == 1 and isinstance(v, int)), 0)
            extents.append(None if size < 0 else size)
            if len(extents) > _MAX_RANK:
                raise Damaged(f"a shape of more than {_MAX_RANK} dimensions", where=message.where)
        elif number == 3 and value == 1:
            return None
    return tuple(extents)


def ports_of(signature: Message, number: int) -> Iterator[Port]:
    """Inputs (1) or outputs (2) of a `SignatureDef`."""
    for pair in signature.spans(number):
        key, info = entry_of(pair)
        dtype, shape = "unknown", None
        for field, _, value in info.fields() if info is not None else ():
            if field == 2 and isinstance(value, int):
                dtype = dtype_of(value)
            elif field == 3 and isinstance(value, Message):
                shape = shape_of(value)
        yield Port(key, dtype, shape)


def _looks_like_node(node: Message) -> bool:
    seen = set()
    for number, kind, value in node.fields():
        if _NODE_KINDS.get(number) != kind or not isinstance(value, Message):
            return False
        if number == 2 and _OPERATOR.fullmatch(value.bytes(limit=200)) is None:
            return False
        seen.add(number)
    return {1, 2} <= seen


def _node(node: Message, *, with_attributes: bool) -> tuple[str, str, str, tuple[int | None, ...] | None]:
    """Operator, name, and `dtype` and `shape` attributes of a `NodeDef`."""
    operator, name, dtype = "", "", "unknown"
    shape: tuple[int | None, ...] | None = None
    for number, _, value in node.fields():
        if not isinstance(value, Message):
            continue
        if number == 2:
            operator = value.text(limit=200)
        elif number == 1 and with_attributes:
            name = value.text()
        elif number == 5 and with_attributes:
            key, content = entry_of(value)
            for field, _, found in content.fields() if content is not None and key in ("dtype", "shape") else ():
                if field == 6 and isinstance(found, int):
                    dtype = dtype_of(found)
                elif field == 7 and isinstance(found, Message):
                    shape = shape_of(found)
    return operator, name, dtype, shape
