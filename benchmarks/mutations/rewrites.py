"""Other writings of the same network: what differs afterwards is rounding alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from benchmarks.mutations.graph import Graph, attribute, set_attribute
from benchmarks.mutations.renaming import renamed
from benchmarks.mutations.variants import optimised
from onnx import helper

Values = Mapping[str, np.ndarray]
Rewrite = Callable[[onnx.ModelProto, Values], onnx.ModelProto | None]
"""From a network, and its tensors on the example feeds, to another writing; None where there is none."""


def _edited(edit: Callable[[Graph], int]) -> Rewrite:
    """A rewrite from a function that edits a graph and says how many places it changed."""

    def rewrite(proto: onnx.ModelProto, values: Values) -> onnx.ModelProto | None:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        del copy.graph.value_info[:]
        return copy if edit(Graph(copy, values)) else None

    return rewrite


def _outer(graph: Graph, *operators: str) -> list[onnx.NodeProto]:
    """Nodes of the outer graph with one of these operators, all when none is given."""
    return [node for node in list(graph.proto.graph.node) if not operators or node.op_type in operators]


def _optimised(level: str, *, is_blocked: bool = True) -> Rewrite:
    def rewrite(proto: onnx.ModelProto, values: Values) -> onnx.ModelProto | None:
        return optimised(proto, level=level, is_blocked=is_blocked)

    return rewrite


def _renamed(proto: onnx.ModelProto, values: Values) -> onnx.ModelProto | None:
    return renamed(proto, seed=1)


def _fused(proto: onnx.ModelProto, values: Values) -> onnx.ModelProto | None:
    return optimised(renamed(proto, seed=1), level="all")


def _newer_opset(proto: onnx.ModelProto, values: Values) -> onnx.ModelProto | None:
    """Three opsets further, where onnx has a converter for all operators."""
    from onnx import version_converter

    now = next(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx"))
    try:
        made: onnx.ModelProto = version_converter.convert_version(proto, min(now + 3, 22))
    except Exception:  # noqa: BLE001  the converter's own errors have no base; what it cannot convert is no pair
        return None
    return made


def _constants_folded(graph: Graph) -> int:
    count = 0
    for node in _outer(graph):
        if (
            len(node.output) == 1
            and node.input
            and all(graph.constant(name) is not None for name in node.input if name)
        ):
            count += graph.fold(node, graph.values[node.output[0]])
    return count


def _constants_as_nodes(graph: Graph) -> int:
    """Every initialiser becomes a Constant node at the front."""
    outer = graph.proto.graph
    tensors = list(outer.initializer)
    for tensor in reversed(tensors):
        value = helper.make_node("Constant", [], [tensor.name], name=f"constant/{tensor.name}", value=tensor)
        outer.node.insert(0, value)
    del outer.initializer[:]
    return len(tensors)


def _gemm_as_matmul(graph: Graph) -> int:
    count = 0
    for node in _outer(graph, "Gemm"):
        weight = graph.constant(node.input[1])
        if weight is None or attribute(node, "transA", 0) or len(node.input) < 3:
            continue
        matrix = graph.weight(weight.T if attribute(node, "transB", 0) else weight, node.input[1])
        product = graph.before(node, "MatMul", node.input[0], matrix)
        node.op_type = "Add"
        node.input[:] = [product, node.input[2]]
        del node.attribute[:]
        count += 1
    return count


def _matmul_as_gemm(graph: Graph) -> int:
    """A product and its bias as one Gemm over rows, between two reshapes."""
    count = 0
    for node in _outer(graph, "MatMul"):
        weight, readers = graph.constant(node.input[1]), graph.consumers(node.output[0])
        if weight is None or weight.ndim != 2 or len(readers) != 1 or readers[0].op_type != "Add":
            continue
        add = readers[0]
        bias = [name for name in add.input if name != node.output[0]]
        if len(bias) != 1 or graph.constant(bias[0]) is None or graph.is_returned(node.output[0]):
            continue
        if graph.constant(bias[0]).ndim != 1 or graph.owner(add) is not graph.owner(node):
            continue
        rows = graph.before(node, "Reshape", node.input[0], graph.weight(np.array([-1, weight.shape[0]], np.int64)))
        sizes = graph.before(node, "Shape", node.input[0], start=0, end=-1)
        ends = graph.weight(np.array([weight.shape[1]], np.int64))
        node.op_type = "Gemm"
        node.input[:] = [rows, node.input[1], bias[0]]
        add.op_type = "Reshape"
        add.input[:] = [node.output[0], graph.before(add, "Concat", sizes, ends, axis=0)]
        count += 1
    return count


def _batchnorm_folded(graph: Graph) -> int:
    count = 0
    for node in _outer(graph, "BatchNormalization"):
        conv = graph.producer(node.input[0])
        if conv is None or conv.op_type != "Conv" or len(graph.consumers(node.input[0])) != 1:
            continue
        scale, shift, mean, variance = (graph.constant(name).astype(np.float64) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        weight = graph.constant(conv.input[1])
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 else np.zeros_like(mean)
        graph.set_input(conv, 1, (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32))
        del conv.input[2:]
        conv.input.append(graph.weight(((bias - mean) * factor + shift).astype(np.float32)))
        count += graph.bypass(node)
    return count


def _layernorm_decomposed(graph: Graph) -> int:
    count = 0
    for node in _outer(graph, "LayerNormalization"):
        x = node.input[0]
        centred = graph.before(node, "Sub", x, graph.reduce(node, "ReduceMean", x, [-1], keepdims=1))
        square = graph.before(node, "Mul", centred, centred)
        variance = graph.reduce(node, "ReduceMean", square, [-1], keepdims=1)
        safe = graph.before(node, "Add", variance, graph.scalar(attribute(node, "epsilon", 1e-5)))
        scaled = graph.before(node, "Div", centred, graph.before(node, "Sqrt", safe))
        node.op_type = "Add"
        node.input[:] = [graph.before(node, "Mul", scaled, node.input[1]), node.input[2]]
        del node.attribute[:]
        count += 1
    return count


def _gelu_decomposed(graph: Graph) -> int:
    count = 0
    for node in _outer(graph, "Gelu"):
        x = node.input[0]
        error = graph.before(node, "Erf", graph.before(node, "Mul", x, graph.scalar(0.5**0.5)))
        half = graph.before(node, "Mul", x, graph.scalar(0.5))
        node.op_type = "Mul"
        node.input[:] = [half, graph.before(node, "Add", error, graph.scalar(1.0))]
        del node.attribute[:]
        count += 1
    return count


def _softmax_decomposed(graph: Graph) -> int:
    count = 0
    for node in _outer(graph, "Softmax"):
        x, axis = node.input[0], attribute(node, "axis", -1)
        power = graph.before(
            node, "Exp", graph.before(node, "Sub", x, graph.reduce(node, "ReduceMax", x, [axis], keepdims=1))
        )
        total = graph.reduce(node, "ReduceSum", power, [axis], keepdims=1)
        node.op_type = "Div"
        node.input[:] = [power, total]
        del node.attribute[:]
        count += 1
    return count


def _transposes_inserted(graph: Graph) -> int:
    """There and back in front of every fifth node."""
    count = 0
    for node in [node for node in list(graph.proto.graph.node) if node.input][::5]:
        shape = graph.shape(node.input[0])
        if len(shape) < 2 or not graph.is_float(node.input[0]) or graph.constant(node.input[0]) is not None:
            continue
        perm = [*range(1, len(shape)), 0]
        graph.wrap_input(node, 0, "Transpose", perm=perm)
        graph.wrap_input(node, 0, "Transpose", perm=np.argsort(perm).tolist())
        count += 1
    return count


def _identities_inserted(graph: Graph) -> int:
    nodes = [node for node in list(graph.proto.graph.node) if node.output[0]][::3]
    for node in nodes:
        graph.wrap_output(node, "Identity")
    return len(nodes)


def _reordered(graph: Graph) -> int:
    """Another order in which everything is made before it is read."""
    outer = graph.proto.graph
    waiting, done = [onnx.NodeProto.FromString(node.SerializeToString()) for node in outer.node], set()
    made = {name for node in waiting for name in node.output}
    random, order = np.random.default_rng(0), []
    while waiting:
        ready = [i for i, node in enumerate(waiting) if not (_read(node) & made) - done]
        node = waiting.pop(ready[random.integers(len(ready))])
        done |= set(node.output)
        order.append(node)
    del outer.node[:]
    outer.node.extend(order)
    return len(order)


def _read(node: onnx.NodeProto) -> set[str]:
    """Everything that a node reads, from inside of its subgraphs too."""
    inner = [other for one in node.attribute if one.HasField("g") for other in one.g.node]
    return set(node.input).union(*(_read(other) for other in inner))


def _duplicated(graph: Graph) -> int:
    """A node of its own for each reader of a tensor: common subexpressions written out again."""
    count = 0
    for node in _outer(graph):
        readers = [one for one in graph.consumers(node.output[0]) if not graph.enclosing(one)] if node.input else []
        if len(node.output) != 1 or len(readers) < 2 or node.op_type in ("Conv", "LSTM", "GRU", "If", "Loop", "Scan"):
            continue
        for reader in readers[1:]:
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            again = graph.before(reader, node.op_type, *node.input, **attributes)
            reader.input[:] = [again if name == node.output[0] else name for name in reader.input]
            count += 1
    return count


def _products_joined(graph: Graph) -> int:
    """Query, key and value as one product that is split afterwards."""
    by_input: dict[str, list[onnx.NodeProto]] = {}
    for node in _outer(graph, "MatMul"):
        weight = graph.constant(node.input[1])
        if weight is not None and weight.ndim == 2 and weight.dtype == np.float32:
            by_input.setdefault(node.input[0], []).append(node)
    groups = [nodes for nodes in by_input.values() if len(nodes) > 1]
    for nodes in groups:
        weights = [graph.constant(node.input[1]) for node in nodes]
        joined = graph.before(nodes[0], "MatMul", nodes[0].input[0], graph.weight(np.concatenate(weights, 1)))
        sizes = graph.weight(np.array([weight.shape[1] for weight in weights], np.int64))
        graph.before(nodes[0], "Split", joined, sizes, axis=-1)
        split = graph.node(graph.made[-1])
        split.output[:] = [node.output[0] for node in nodes]
        for node in nodes:
            graph.owner(node).node.remove(node)
    return len(groups)


def _products_split(graph: Graph) -> int:
    """A product as two of half the width, put side by side."""
    count = 0
    for node in _outer(graph, "MatMul"):
        weight = graph.constant(node.input[1])
        if weight is None or weight.ndim != 2 or weight.shape[1] % 2 or weight.dtype != np.float32:
            continue
        halves = [graph.before(node, "MatMul", node.input[0], graph.weight(part)) for part in np.split(weight, 2, 1)]
        node.op_type = "Concat"
        node.input[:] = halves
        set_attribute(node, "axis", -1)
        count += 1
    return count


def _pads_as_nodes(graph: Graph) -> int:
    count = 0
    for node in _outer(graph, "Conv"):
        pads = attribute(node, "pads")
        if not pads or not any(pads):
            continue
        half = len(pads) // 2
        full = [0, 0, *pads[:half], 0, 0, *pads[half:]]
        graph.wrap_input(node, 0, "Pad", graph.weight(np.array(full, np.int64)))
        set_attribute(node, "pads", [0] * len(pads))
        count += 1
    return count


def _algebra(graph: Graph) -> int:
    """x - c as x + (-c), x / c as x · (1 / c), max(x, 0) for a ReLU."""
    count = 0
    for node in _outer(graph, "Sub", "Div", "Relu"):
        if node.op_type == "Relu":
            node.op_type = "Max"
            node.input.append(graph.scalar(0.0))
            count += 1
            continue
        value = graph.constant(node.input[1])
        if value is None or value.dtype != np.float32:
            continue
        graph.set_input(node, 1, -value if node.op_type == "Sub" else (1 / value.astype(np.float64)).astype(np.float32))
        node.op_type = "Add" if node.op_type == "Sub" else "Mul"
        count += 1
    return count


def _slimmed(proto: onnx.ModelProto, values: Values) -> onnx.ModelProto | None:
    """Through onnxslim, in an environment of its own."""
    from benchmarks.mutations.peers import slimmed

    return slimmed(proto)


REWRITES: dict[str, Rewrite] = {
    "renamed": _renamed,
    "ort_basic": _optimised("basic"),
    "ort_extended": _optimised("extended"),
    "ort_all": _optimised("all"),
    "ort_all_unblocked": _optimised("all", is_blocked=False),
    "renamed_ort_all": _fused,
    "newer_opset": _newer_opset,
    "onnxslim": _slimmed,
    "constants_folded": _edited(_constants_folded),
    "constants_as_nodes": _edited(_constants_as_nodes),
    "gemm_as_matmul": _edited(_gemm_as_matmul),
    "matmul_as_gemm": _edited(_matmul_as_gemm),
    "batchnorm_folded": _edited(_batchnorm_folded),
    "layernorm_decomposed": _edited(_layernorm_decomposed),
    "gelu_decomposed": _edited(_gelu_decomposed),
    "softmax_decomposed": _edited(_softmax_decomposed),
    "transposes_inserted": _edited(_transposes_inserted),
    "identities_inserted": _edited(_identities_inserted),
    "reordered": _edited(_reordered),
    "duplicated": _edited(_duplicated),
    "products_joined": _edited(_products_joined),
    "products_split": _edited(_products_split),
    "pads_as_nodes": _edited(_pads_as_nodes),
    "algebra": _edited(_algebra),
}
"""Every rewrite by its name."""
