"""An ONNX model with other numbers in its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regraft.errors import Unsupported, UsageError
from regraft.runtime.onnx_graph import OnnxGraph

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel


def with_constants(model: OnnxRuntimeModel, values: Mapping[str, Array]) -> OnnxRuntimeModel:
    """The same graph with other initialisers, in the dtypes that it has.

    What is computed from initialisers alone (a kernel that is transposed in the graph) becomes an initialiser itself.

    Args:
        model: that the names are of.
        values: constant of its graph → array of the constant's shape.
    Raises:
        UsageError: there is no such constant, or it has another shape.
        Unsupported: onnxruntime refuses what comes out.
    """
    from onnx import numpy_helper

    graph = OnnxGraph(model.outline, where=model.where, weights=model.weights)
    typed: dict[str, Array] = {}
    for name, value in values.items():
        known = graph.constant(name)
        if known is None:
            raise UsageError(f"there is no weight {name!r}", where=model.where)
        if known.shape != value.shape:
            raise UsageError(f"the weight {name!r} has shape {known.shape}, not {value.shape}", where=model.where)
        typed[name] = value.astype(known.dtype)
    copy = _without(graph.model, typed, model.where)
    beside = {name for name in typed if model.weights is not None and name in model.weights}
    copy.graph.initializer.extend(numpy_helper.from_array(typed[name], name) for name in typed if name not in beside)
    weights = model.weights
    if weights is not None:
        copy.graph.initializer.extend(one for one in graph.model.graph.initializer if one.name in beside)
        weights = weights.changed(typed.get)
    return model.with_graph(copy.SerializeToString(), weights)


def _without(model: onnx.ModelProto, names: Mapping[str, Array], where: str) -> onnx.ModelProto:
    """A copy in which nothing makes these tensors."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for node in [node for node in graph.node if not names.keys().isdisjoint(node.output)]:
        if not all(name in names for name in node.output if name):
            raise Unsupported(f"{node.op_type} {node.name!r} makes weights that are not all given", where=where)
        graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return copy
