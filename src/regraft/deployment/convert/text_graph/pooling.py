"""Pooling as operators of ONNX, as `runtime.pooling` does it in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.deployment.convert.text_graph.builder import GraphBuilder
from regraft.errors import Unsupported
from regraft.runtime.text import HIDDEN, POOLED
from regraft.runtime.text_model import pools

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.pooling import Pooling

_SMALL_COUNT, _SMALL_LENGTH = 1e-9, 1e-12
"""As in `runtime.pooling`: neither an empty text nor a zero vector is divided by zero."""


def add_pooling(
    graph: GraphBuilder, outputs: Sequence[onnx.ValueInfoProto], mask: str, pooling: Pooling, where: str
) -> list[onnx.ValueInfoProto]:
    """Add what follows the network.

    Args:
        graph: takes the nodes.
        outputs: of the network.
        mask: name of the mask, int64 (B, T).
        pooling: of the package.
        where: how errors name the network.
    Returns:
        what the whole returns: logits and all beside them as they are, or `sentence_embedding` (B, D).
    Raises:
        Unsupported: it cannot be told which output holds the token vectors.
    """
    from onnx import TensorProto, helper

    names = [value.name for value in outputs]
    if not pools(names):
        return list(outputs)
    if POOLED in names:
        if not pooling.normalise:
            return [value for value in outputs if value.name == POOLED]
        raise Unsupported(f"the network returns {POOLED} already, and it is not normalised", where=where)
    hidden = next((name for name in HIDDEN if name in names), None) or _only_vectors(outputs, where)
    kind = TensorProto.FLOAT
    if any(value.name == hidden and value.type.tensor_type.elem_type != kind for value in outputs):
        hidden = graph.Cast(hidden, to=kind)  # of float16, say; it is pooled in float32
    weights = graph.Unsqueeze(graph.Cast(mask, to=kind), graph.integers([2]))  # (B, T, 1)
    parts = [_pooled(graph, mode, hidden, weights) for mode in pooling.modes]
    pooled = parts[0] if len(parts) == 1 else graph.Concat(*parts, axis=1)
    if pooling.normalise:
        square = graph.ReduceSum(graph.Mul(pooled, pooled), graph.integers([1]), keepdims=1)
        pooled = graph.Div(pooled, graph.Max(graph.Sqrt(square), graph.real(_SMALL_LENGTH)))
    graph.nodes.append(helper.make_node("Identity", [pooled], [POOLED]))
    return [helper.make_tensor_value_info(POOLED, kind, ["batch", None])]


def _only_vectors(outputs: Sequence[onnx.ValueInfoProto], where: str) -> str:
    found = [value.name for value in outputs if len(value.type.tensor_type.shape.dim) == 3]
    if len(found) != 1:
        names = ", ".join(value.name for value in outputs)
        raise Unsupported(f"which output holds the token vectors? {names}", where=where)
    return found[0]


def _pooled(graph: GraphBuilder, mode: str, hidden: str, weights: str) -> str:
    """(B, T, D) to (B, D)."""
    along = graph.integers([1])
    if mode == "cls":
        return graph.Gather(hidden, graph.integers(0), axis=1)
    if mode == "max":
        masked = graph.Where(graph.Greater(weights, graph.real(0.0)), hidden, graph.real(float("-inf")))
        largest, _ = graph.several("TopK", 2, masked, graph.integers([1]), axis=1)  # ReduceMax changed in opset 18
        return graph.Squeeze(largest, along)
    total = graph.ReduceSum(graph.Mul(hidden, weights), along, keepdims=0)
    count = graph.Max(graph.ReduceSum(weights, along, keepdims=0), graph.real(_SMALL_COUNT))  # (B, 1)
    return graph.Div(total, graph.Sqrt(count) if mode == "mean_sqrt" else count)
