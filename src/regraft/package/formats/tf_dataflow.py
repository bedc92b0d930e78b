"""TensorFlow graphs and functions as steps, in the operator names of ONNX.

Source: graph.proto, node_def.proto, function.proto, op_def.proto and tensor.proto of TensorFlow 2.21.
"""

from __future__ import annotations

from collections.abc import Iterator

from regraft.errors import LimitExceeded
from regraft.package.formats.dataflow import Dataflow, Step
from regraft.package.formats.wire import Message, entry_of
from regraft.package.limits import MAX_TENSORS

_NAMES = {
    "Select": "Where", "SelectV2": "Where", "If": "If", "StatelessIf": "If", "NotEqual": "Equal",
    "GreaterEqual": "GreaterOrEqual", "LessEqual": "LessOrEqual", "All": "ReduceMin", "Any": "ReduceMax",
    "Max": "ReduceMax", "Min": "ReduceMin", "Sum": "ReduceSum", "Mean": "ReduceMean", "Prod": "ReduceProd",
    "LogicalAnd": "And", "LogicalOr": "Or", "LogicalNot": "Not", "AddV2": "Add", "StridedSlice": "Slice",
    "GatherV2": "Gather", "GatherNd": "GatherND", "ExpandDims": "Unsqueeze", "BroadcastTo": "Expand",
    "Conv2D": "Conv", "Conv3D": "Conv", "DepthwiseConv2dNative": "Conv", "Conv2DBackpropInput": "ConvTranspose",
    "BatchMatMul": "MatMul", "BatchMatMulV2": "MatMul", "BatchMatMulV3": "MatMul", "_FusedMatMul": "Gemm",
    "_FusedConv2D": "Conv", "While": "Loop", "StatelessWhile": "Loop", "PartitionedCall": "Loop",
    "StatefulPartitionedCall": "Loop", "ParseExampleV2": "Loop", "LookupTableFindV2": "Loop", "Rank": "Shape",
}  # fmt: skip
_RESOURCE, _VARIANT = 20, 21
_SMALL_BYTES = 4096


def dataflows_of_graph(graph: Message) -> Iterator[Dataflow]:
    """The main graph of a GraphDef, then each of its functions.

    Raises:
        Damaged: the bytes are no graph. LimitExceeded: it has more nodes than are followed.
    """
    nodes, functions = list[Message](), list[Message]()
    for number, _, value in graph.fields():
        if isinstance(value, Message):
            if number == 1:
                nodes.append(value)
            elif number == 2:
                functions += value.spans(1)
        if len(nodes) > MAX_TENSORS:
            raise LimitExceeded("more nodes than are followed", where=graph.where)
    main = Dataflow({}, [], {}, [])
    for node in nodes:
        _add_node(node, main)
    taken = {name for step in main.steps for name in step.inputs}
    main.outputs = [name for step in main.steps for name in step.outputs if name not in taken]
    yield main
    for function in functions:
        yield _function(function)


def _function(function: Message) -> Dataflow:
    flow = Dataflow({}, [], {}, [])
    for number, _, value in function.fields():
        if not isinstance(value, Message):
            continue
        if number == 1:
            for argument in value.spans(2):
                name, kind = "", 0
                for part, _, inner in argument.fields():
                    if part == 1 and isinstance(inner, Message):
                        name = inner.text(limit=1000)
                    elif part == 3 and isinstance(inner, int):
                        kind = inner
                if kind not in (_RESOURCE, _VARIANT):
                    flow.inputs[name] = None
        elif number == 3:
            _add_node(value, flow)
        elif number == 4:
            made = entry_of(value)[1]
            if made is not None:
                flow.outputs.append(_bare(made.text(limit=1000)))
    return flow


def _add_node(node: Message, flow: Dataflow) -> None:
    name, operator, inputs = "", "", list[str]()
    attributes: dict[str, Message] = {}
    for number, _, value in node.fields():
        if not isinstance(value, Message):
            continue
        if number == 1:
            name = value.text(limit=1000)
        elif number == 2:
            operator = value.text(limit=200)
        elif number == 3:
            inputs.append(value.text(limit=1000))
        elif number == 5:
            key, content = entry_of(value)
            if content is not None and key in ("shape", "value"):
                attributes[key] = content
    if operator == "Const":
        flow.constants[name] = _is_zero(attributes.get("value"))
    elif operator in ("Placeholder", "PlaceholderV2"):
        flow.inputs[name] = _rank(attributes.get("shape"))
    else:
        taken = tuple(_bare(text) for text in inputs if not text.startswith("^"))
        flow.steps.append(Step(_NAMES.get(operator, operator), taken, (name,)))


def _bare(name: str) -> str:
    """The node of `node:output:0` or `node:0`."""
    return name.partition(":")[0]


def _rank(attribute: Message | None) -> int | None:
    """The rank of a shape (AttrValue.shape 7; dim 2, unknown_rank 3)."""
    for shape in attribute.spans(7) if attribute is not None else ():
        fields = list(shape.fields())
        is_unknown = any(number == 3 and value for number, _, value in fields)
        return None if is_unknown else sum(number == 2 for number, _, _ in fields)
    return None


def _is_zero(attribute: Message | None) -> bool:
    """Is every number of a constant (AttrValue.tensor 8) zero? Large ones are not read."""
    for tensor in attribute.spans(8) if attribute is not None else ():
        for number, _, value in tensor.fields():
            if number in (1, 2, 3):
                continue
            if isinstance(value, int) and value:
                return False
            if isinstance(value, Message) and (value.size > _SMALL_BYTES or any(value.bytes(limit=_SMALL_BYTES))):
                return False
        return True
    return False
