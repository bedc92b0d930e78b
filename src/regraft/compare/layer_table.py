"""The layers of a network that have weights: kind, channels, kernel, stride, parameters and multiply-adds of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.weight_map.interface import IN, OUT, SPACE, Operand
from regraft.compare.weight_map.sites import reader_of
from regraft.errors import Unsupported
from regraft.runtime.graphs import operator_graph

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

_STATISTICS = ("centre", "variance")
"""Roles of what a norm has measured: state, no parameters."""
_STRIDES = ("strides", "stride", "window_strides")
_DILATIONS = ("dilations", "dilation", "rhs_dilation")
_GROUPS = ("group", "groups", "feature_group_count")


class Layer(msgspec.Struct, frozen=True):
    """One layer.

    Attributes:
        kind: `convolution`, `linear`, `recurrent` or `embedding`.
        channels_in, channels_out: of the layer, all groups together; rows and width of an embedding.
        kernel, stride, dilation: one number a spatial axis; empty for other kinds.
        groups: of a convolution.
        parameters: of its weight, and of its bias where it has one.
        multiply_adds: of one sample at the size that was fed.
        output: shape of what it makes, without the batch.
        name: in the graph.
    """

    kind: str
    channels_in: int
    channels_out: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    parameters: int = 0
    multiply_adds: int = 0
    output: tuple[int, ...] = ()
    name: str = ""


class LayerTable(msgspec.Struct, frozen=True):
    """What a network is made of.

    Attributes:
        layers: in the order in which they are run.
        parameters: of everything, norms and tables included, each once; statistics of norms are none.
        multiply_adds: of the layers, for one sample; products of two computed tensors (attention) are not counted.
        inputs: input → shape that was fed.
    """

    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int
    inputs: dict[str, tuple[int, ...]]


def layer_table(model: Model, feeds: Feeds) -> LayerTable:
    """Run a network once, operator by operator, and note its layers.

    Args:
        model: of torch, ONNX Runtime or JAX.
        feeds: one set of inputs; the first axis of the first one is the batch.
    Raises:
        Unsupported: the runtime shows no operators, or no strides of its convolutions, or one cannot be run.
    """
    graph = operator_graph(model, feeds)
    reader = reader_of(graph)
    batch = next((value.shape[0] for value in feeds.values() if value.ndim), 1)
    layers: list[Layer] = []
    sizes: dict[str, int] = {}
    for node, shapes in _shapes(graph, feeds):
        reading = reader.read(node)
        if reading.kind != "roles":
            continue
        weights = [(operand, graph.constant(operand.tensor)) for operand in reading.operands]
        held = [(operand, value) for operand, value in weights if value is not None and operand.role != "join"]
        sizes |= {operand.tensor: value.size for operand, value in held if operand.role not in _STATISTICS}
        for layer in _layers(graph, node, held, shapes):
            counted = msgspec.structs.replace(
                layer, multiply_adds=layer.multiply_adds // batch, output=layer.output[1:]
            )
            layers.append(counted)
    total = sum(layer.multiply_adds for layer in layers)
    fed = {name: tuple(value.shape) for name, value in feeds.items()}
    return LayerTable(tuple(layers), sum(sizes.values()), total, fed)


def _shapes(graph: OperatorGraph, feeds: Feeds) -> Iterator[tuple[OperatorNode, Mapping[str, tuple[int, ...]]]]:
    """Every operator with the shapes of the tensors around it; a tensor is dropped after its last use."""
    values: dict[str, Any] = {name: feeds[name] for name in graph.inputs if name in feeds}
    last = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
    kept = set(graph.outputs)
    for number, node in enumerate(graph.nodes):
        made = graph.run(node, values)
        near = {name: values[name] for name in node.inputs if name in values} | made
        yield node, {name: tuple(value.shape) for name, value in near.items() if hasattr(value, "shape")}
        values |= {name: value for name, value in made.items() if last.get(name, -1) > number}
        for name in node.inputs:
            if last[name] == number and name not in kept:
                values.pop(name, None)


def _layers(
    graph: OperatorGraph,
    node: OperatorNode,
    held: Sequence[tuple[Operand, Any]],
    shapes: Mapping[str, tuple[int, ...]],
) -> Iterator[Layer]:
    bias = sum(value.size for operand, value in held if operand.role == "bias")
    made = next((shapes[name] for name in node.outputs if name in shapes), ())
    for operand, value in held:
        if operand.role == "table" and value.ndim == 2:
            rows, width = value.shape
            yield Layer("embedding", rows, width, parameters=value.size, output=made, name=node.name)
        elif operand.role == "contract" and operand.cell:
            yield _recurrent(operand, value, held, made, node.name)
        elif operand.role == "contract" and value.ndim > 1:
            yield _contraction(graph, node, operand, value, bias, shapes, made)


def _contraction(
    graph: OperatorGraph,
    node: OperatorNode,
    operand: Operand,
    value: Any,
    bias: int,
    shapes: Mapping[str, tuple[int, ...]],
    made: tuple[int, ...],
) -> Layer:
    sides = dict.fromkeys((IN, OUT, SPACE), 1)
    for letter, extent in zip(operand.letters, value.shape, strict=False):
        sides[letter] = sides.get(letter, 1) * extent
    kernel = tuple(extent for letter, extent in zip(operand.letters, value.shape, strict=False) if letter == SPACE)
    parameters = value.size + bias
    if not kernel:
        adds = math.prod(made) * sides[IN]
        return Layer("linear", sides[IN], sides[OUT], (), (), (), 1, parameters, adds, made, node.name)
    settings = _settings(graph, node)
    groups = next((int(settings[name]) for name in _GROUPS if name in settings), 1)
    ones = (1,) * len(kernel)
    stride, dilation = (_extents(settings, names, ones) for names in (_STRIDES, _DILATIONS))
    if operand.is_flipped:
        source = next((shapes[name] for name in node.inputs if name in shapes), made)
        adds = math.prod(source) * sides[OUT] * sides[SPACE]
        channels = sides[IN], sides[OUT] * groups
    else:
        adds = math.prod(made) * sides[IN] * sides[SPACE]
        channels = sides[IN] * groups, sides[OUT]
    return Layer("convolution", *channels, kernel, stride, dilation, groups, parameters, adds, made, node.name)


def _settings(graph: OperatorGraph, node: OperatorNode) -> Mapping[str, Any]:
    """Stride, dilation and groups of a convolution by the framework's names.

    Raises:
        Unsupported: the runtime does not tell them. A default in their place would be a claim about the network.
    """
    any_graph: Any = graph
    told: Mapping[str, Any]
    if hasattr(graph, "settings"):
        told = any_graph.settings(node)
    elif hasattr(graph, "equation"):  # of JAX: an operator's parameters are part of its equation
        told = any_graph.equation(node).params
    else:
        raise Unsupported(
            f"the runtime does not tell the stride of {node.name}", where=graph.where, hint="convert it to ONNX"
        )
    return told


def _recurrent(
    operand: Operand, value: Any, held: Sequence[tuple[Operand, Any]], made: tuple[int, ...], name: str
) -> Layer:
    cell = [weight for one, weight in held if one.cell == operand.cell and one.role != "table"]
    matrices = [weight for one, weight in held if one.cell == operand.cell and one.role in ("contract", "recur")]
    width = next((weight.shape[-1] for one, weight in held if one.cell == operand.cell and one.role == "recur"), 0)
    steps = math.prod(made) // max(1, made[-1]) if made else 1
    adds = steps * sum(weight.size for weight in matrices)
    total = sum(weight.size for weight in cell)
    return Layer("recurrent", value.shape[-1], width, parameters=total, multiply_adds=adds, output=made, name=name)


def _extents(settings: Mapping[str, Any], names: Sequence[str], default: tuple[int, ...]) -> tuple[int, ...]:
    found = next((settings[name] for name in names if settings.get(name)), default)
    listed = tuple(int(extent) for extent in found) if isinstance(found, list | tuple) else (int(found),)
    return listed * len(default) if len(listed) == 1 else listed
