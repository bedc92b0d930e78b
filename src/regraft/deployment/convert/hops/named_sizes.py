"""Names of sizes in a graph of ONNX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_WORD = re.compile(r"\w+")


def rename_sizes(proto: onnx.ModelProto, labels: Mapping[str, str]) -> None:
    """Give sizes other names, in place; also where they are parts of a term, as in `2*n + 1`.

    Args:
        proto: with its subgraphs and functions.
        labels: name → its new name.
    """
    for value in _values(proto):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = _WORD.sub(lambda found: labels.get(found[0], found[0]), size.dim_param)


def _values(proto: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    yield from _of_graph(proto.graph)
    for function in proto.functions:
        yield from function.value_info
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from (*graph.input, *graph.output, *graph.value_info)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.ValueInfoProto]:
    for node in nodes:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _of_graph(inner)
