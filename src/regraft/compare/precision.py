"""Effective precision: what a model computes in, whatever its file or its runtime's options say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from regraft.compare.noise import UNIT_ROUNDOFF

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.interface import Model
    from regraft.runtime.operator_graph import OperatorGraph

_MIN_ELEMENTS = 256
"""Fewer weights than this can be representable by chance: zeros, ones, powers of two."""
_LOW = ("bfloat16", "float16")


def recognised_precision(model: Model) -> str:
    """The precision that a model works in: its runtime's word, or that of its weights where these are coarser.

    Weights that are stored in float32 and are all numbers of bfloat16 (or float16) were rounded on the way.

    Args:
        model: loaded model.
    """
    stated = model.effective_precision
    if stated != "float32":
        return stated
    candidates = set(_LOW)
    seen = 0
    for weight in float_weights(model):
        seen += weight.size
        candidates = {name for name in candidates if _representable(weight, name)}
        if not candidates:
            return stated
    return next(name for name in _LOW if name in candidates) if seen >= _MIN_ELEMENTS else stated


def lowered_weights(reference: OperatorGraph, candidate: OperatorGraph) -> str | None:
    """The precision to which a candidate's weights were rounded while the reference's were not; None for none."""
    theirs = _representable_in(candidate)
    return next((name for name in _LOW if name in theirs - _representable_in(reference)), None)


def _representable_in(graph: OperatorGraph) -> set[str]:
    """Low precisions in which all weights of a graph are representable; none for a graph without weights."""
    found = set(_LOW)
    seen = 0
    for name in graph.constant_names:
        value: Any = graph.constant(name)
        if value is None or str(value.dtype) != "float32" or value.size < 2:
            continue
        seen += value.size
        found = {precision for precision in found if _representable(value, precision)}
        if not found:
            break
    return found if seen >= _MIN_ELEMENTS else set()


def is_lower(precision: str, than: str) -> bool:
    """Does one precision round more coarsely than the other? False where one of them has no unit roundoff."""
    ours, theirs = UNIT_ROUNDOFF.get(precision), UNIT_ROUNDOFF.get(than)
    return ours is not None and theirs is not None and ours > theirs


def float_weights(model: Any) -> Iterator[NDArray[np.float32]]:
    """Weights with at least one axis, in float32; nothing for a runtime that does not show them."""
    kind = type(model).__name__
    if kind in ("TorchModel", "TorchScriptModel", "TorchExportModel"):
        holder = model.graph if hasattr(model, "graph") else model.module
        for parameter in holder.parameters():
            if parameter.is_floating_point() and parameter.ndim:
                yield parameter.detach().float().numpy()
    elif kind == "OnnxRuntimeModel":
        from onnx import numpy_helper

        for tensor in model.proto.graph.initializer:
            if tensor.data_type == 1 and len(tensor.dims) > 0:
                yield numpy_helper.to_array(tensor)
    elif kind == "OpenVinoModel":
        for node in model.graph.get_ordered_ops():
            if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "f32":
                value = node.data
                if value.ndim:
                    yield value
    elif kind == "StaticEmbeddingModel":
        yield model.matrix.astype("float32")


def _representable(weight: NDArray[np.float32], precision: str) -> bool:
    import numpy as np

    if precision == "float16":
        with np.errstate(over="ignore"):
            return bool(np.array_equal(weight.astype(np.float16).astype(np.float32), weight))
    bits = np.ascontiguousarray(weight, dtype=np.float32).view(np.uint32)
    return not bool(np.any(bits & np.uint32(0xFFFF)))
