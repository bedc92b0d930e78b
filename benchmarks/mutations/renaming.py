"""Every name replaced: nodes, tensors, values inside subgraphs; only inputs and outputs of the network keep theirs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx


def renamed(proto: onnx.ModelProto, *, seed: int = 0) -> onnx.ModelProto:
    """A copy in which no name tells anything; numbers are dealt at random, so that their order tells nothing either.

    Metadata, documentation and inferred shapes go too.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    kept = {value.name for value in (*copy.graph.input, *copy.graph.output)}
    names = sorted({name for graph in graphs(copy.graph) for name in _tensors(graph)} - kept - {""})
    random = np.random.default_rng(seed)
    given = {name: f"t{number}" for name, number in zip(names, random.permutation(len(names)), strict=True)}
    nodes = [node for graph in graphs(copy.graph) for node in graph.node]
    for number, node in zip(random.permutation(len(nodes)), nodes, strict=True):
        node.name = f"n{number}"
        node.doc_string = ""
        del node.metadata_props[:]
    for graph in graphs(copy.graph):
        _rename(graph, given)
    del copy.metadata_props[:]
    copy.doc_string = copy.producer_name = copy.producer_version = ""
    return copy


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that are inside of it."""
    yield graph
    for node in graph.node:
        for one in node.attribute:
            if one.HasField("g"):
                yield from graphs(one.g)


def _tensors(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        yield from node.output
    for value in (*graph.initializer, *graph.input, *graph.output):
        yield value.name


def _rename(graph: onnx.GraphProto, given: dict[str, str]) -> None:
    graph.name = "g"
    graph.doc_string = ""
    del graph.value_info[:]
    for node in graph.node:
        node.input[:] = [given.get(name, name) for name in node.input]
        node.output[:] = [given.get(name, name) for name in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = given.get(value.name, value.name)
        value.doc_string = ""
        del value.metadata_props[:]
