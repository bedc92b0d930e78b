"""Pooling over more axes than runtimes have kernels for: axes on which a window does nothing are taken out of it.

jax2onnx 0.17 writes a window of JAX over all axes of its tensor, batch and channels included, as `MaxPool` or
`AveragePool` over that many axes behind two new ones; ONNX Runtime stops at three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_KERNELS = 3
"""Axes of a window that runtimes compute."""


def drop_idle_axes(proto: onnx.ModelProto) -> None:
    """Rewrite every pooling whose window has more than three axes: Transpose, the same over fewer axes, Transpose.

    Args:
        proto: changed in place. What cannot be brought to three axes stays as it is.
    """
    from onnx import numpy_helper

    graph = proto.graph
    made = {name: node for node in graph.node for name in node.output}
    known = {
        tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer if len(tensor.dims) == 1
    }
    for node in reversed(list(graph.node)):
        if node.op_type not in _POOLS or len(node.output) != 1:
            continue
        settings = _settings(node)
        squeeze = [user for user in graph.node if node.output[0] in user.input]
        source = _before_two_new_axes(node.input[0], made, known)
        idle = [axis for axis in range(len(settings["kernel_shape"])) if _is_idle(settings, axis)]
        busy = [axis for axis in range(len(settings["kernel_shape"])) if axis not in idle]
        if len(settings["kernel_shape"]) <= _KERNELS or len(idle) != 2 or len(busy) > _KERNELS or not source:
            continue
        if len(squeeze) != 1 or squeeze[0].op_type != "Squeeze" or known.get(squeeze[0].input[1]) != [0, 1]:
            continue
        _replace(graph, node, squeeze[0], source, _narrowed(settings, busy), [*idle, *busy])


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _is_idle(settings: Mapping[str, Any], axis: int) -> bool:
    count = len(settings["kernel_shape"])
    pads = settings.get("pads", [0] * 2 * count)
    ones = (settings["kernel_shape"], settings.get("strides", [1] * count))
    return all(values[axis] == 1 for values in ones) and pads[axis] == pads[axis + count] == 0


def _before_two_new_axes(name: str, made: Mapping[str, onnx.NodeProto], known: Mapping[str, Any]) -> str:
    """The tensor that got two new axes in front to become this one; empty when that is not how it was made."""
    for axis in ([1], [0]):
        node = made.get(name)
        if node is None or node.op_type != "Unsqueeze" or known.get(node.input[1]) != axis:
            return ""
        name = node.input[0]
    return name


def _narrowed(settings: Mapping[str, Any], busy: list[int]) -> dict[str, Any]:
    count = len(settings["kernel_shape"])
    found = dict(settings)
    for name in ("kernel_shape", "strides", "dilations"):
        if name in found:
            found[name] = [found[name][axis] for axis in busy]
    if "pads" in found:
        found["pads"] = [found["pads"][axis + shift] for shift in (0, count) for axis in busy]
    return found


def _replace(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    squeeze: onnx.NodeProto,
    source: str,
    settings: Mapping[str, Any],
    order: list[int],
) -> None:
    """Put the three nodes where the pooling was; the squeeze behind it goes, its new axes are left to nobody."""
    from onnx import helper

    inside, pooled = f"{node.output[0]}_axes_last", f"{node.output[0]}_pooled"
    back = [order.index(axis) for axis in range(len(order))]
    nodes = [
        helper.make_node("Transpose", [source], [inside], f"{node.name}_in", perm=order),
        helper.make_node(node.op_type, [inside], [pooled], node.name, **settings),
        helper.make_node("Transpose", [pooled], [squeeze.output[0]], f"{node.name}_out", perm=back),
    ]
    graph.node.remove(squeeze)
    position = next(i for i, one in enumerate(graph.node) if one.output[:1] == node.output[:1])
    del graph.node[position]
    for added in reversed(nodes):
        graph.node.insert(position, added)
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Take away nodes whose results nobody wants any more, and what is said of their tensors."""
    wanted = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if not wanted & set(node.output):
            graph.node.remove(node)
            continue
        wanted |= set(node.input) | {name for inner in _inner(node) for name in inner}
    for described in (graph.initializer, graph.value_info):
        for one in [one for one in described if one.name not in wanted]:
            described.remove(one)


def _inner(node: onnx.NodeProto) -> list[set[str]]:
    """Names that graphs inside of an operator take from outside, or make themselves."""
    found = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                found += [set(inner.input), *_inner(inner)]
            found.append({value.name for value in attribute.g.output})
    return found
