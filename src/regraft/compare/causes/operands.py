"""Hypotheses about constant operands: weights that were turned, permuted, rounded or mixed up."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.compare.causes.interface import Hypothesis
from regraft.compare.causes.knobs import ends
from regraft.compare.roles import CONTROL_FLOW, role
from regraft.runtime.rounding import round_to

if TYPE_CHECKING:
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import EditableGraph, OperatorNode

_MAX_OTHERS = 24
GATES = {"lstm": 4, "gru": 3}
"""Recurrent layer → blocks of its weights."""
_WITH_DIRECTION = ("LSTM", "GRU")
"""Operators of ONNX whose weights have the direction as their first axis."""


def operands(graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """Variants of an operator's constants; see `Family`."""
    held: dict[str, Any] = {name: graph.constant(name) for name in node.inputs if name}
    for name, value in held.items():
        if value is None or value.dtype.kind != "f" or value.size < 2:
            continue
        for cause, detail, other in _variants(value, GATES.get(role(node.operator), 0)):
            yield _with(graph, node, {name: other}, cause, f"{name} is {detail}")
    for first, second in itertools.combinations(held, 2):
        one, other = held[first], held[second]
        if one is not None and other is not None and one.shape == other.shape and one.dtype.kind == "f":
            detail = f"{first} and {second} are swapped"
            yield _with(graph, node, {first: other, second: one}, "batchnorm_parameters", detail)
    for name, value in held.items():
        if value is not None and value.dtype.kind == "f" and value.size > 1:
            for elsewhere, other in _others(graph, name, value):
                yield _with(graph, node, {name: other}, "weight_duplicated", f"{name} is {elsewhere}")
    yield from _orders(graph, node)
    yield from _directions(graph, node, held)
    yield from _gate_orders(graph, node, held)
    yield from _pads(graph, node, held)


def _variants(value: Any, gates: int) -> Iterator[tuple[str, str, Array]]:
    import numpy as np

    if value.ndim >= 2:
        for axes in itertools.permutations(range(value.ndim)) if value.ndim <= 4 else ():
            turned = value.transpose(axes)
            if turned.shape == value.shape and list(axes) != sorted(axes):
                yield "weight_transposed", f"transposed by {axes}", np.ascontiguousarray(turned)
        transposed = value.swapaxes(-1, -2)
        if transposed.shape != value.shape:
            yield "weight_transposed", "transposed and read in the old shape", transposed.reshape(value.shape)
    for axis in range(value.ndim):
        if value.shape[axis] > 1:
            yield "channel_order", f"reversed along axis {axis}", np.ascontiguousarray(np.flip(value, axis))
    for axis in range(value.ndim):
        for blocks in {gates, 2, 3, 4} - {0}:
            if value.shape[axis] % blocks == 0 and value.shape[axis] > blocks:
                word = "gate_order" if blocks == gates else "weight_permuted"
                yield from _blocks(value, axis, blocks, word)
    if (value > 0).all():
        yield "batchnorm_parameters", "its square root", np.sqrt(value)
        yield "batchnorm_parameters", "its square", np.square(value)
    yield "weight_changed", "one more", value + 1
    yield "bias_missing", "zero", np.zeros_like(value)
    if gates and value.ndim == 2 and value.shape[1] % (2 * gates) == 0:  # ONNX has both biases in one
        half = value.shape[1] // 2
        yield "bias_missing", "zero in its second half", np.concatenate([value[:, :half], 0 * value[:, half:]], 1)
        yield "bias_missing", "zero in its first half", np.concatenate([0 * value[:, :half], value[:, half:]], 1)
    for precision in ("bfloat16", "float16"):
        yield "lowered_precision", f"rounded to {precision}", round_to(value, precision).astype(value.dtype)
    yield "weight_changed", "negated", -value


def _blocks(value: Array, axis: int, count: int, word: str) -> Iterator[tuple[str, str, Array]]:
    import numpy as np

    parts = np.split(value, count, axis=axis)
    for order in itertools.permutations(range(count)):
        if list(order) != sorted(order):
            yield word, f"in blocks {order} along axis {axis}", np.concatenate([parts[i] for i in order], axis=axis)


def _others(graph: EditableGraph, name: str, value: Array) -> Iterator[tuple[str, Array]]:
    count = 0
    for other in graph.constant_names:
        found = graph.constant(other) if other != name else None
        if found is not None and found.shape == value.shape and found.dtype == value.dtype:
            count += 1
            if count > _MAX_OTHERS:
                return
            yield other, found


def _orders(graph: EditableGraph, node: OperatorNode) -> Iterator[Hypothesis]:
    if len(node.inputs) in (2, 3) and node.operator not in CONTROL_FLOW:
        for order in itertools.permutations(range(len(node.inputs))):
            if list(order) != sorted(order):
                run = functools.partial(graph.run_changed, node, inputs=[node.inputs[i] for i in order])
                yield Hypothesis("operands_swapped", f"the operands of {node.operator} in the order {order}", run)


def _directions(graph: EditableGraph, node: OperatorNode, held: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """The weights of the two directions of a recurrent layer swapped."""
    import numpy as np

    if role(node.operator) not in GATES:
        return
    weights = {name: value for name, value in held.items() if value is not None and value.dtype.kind == "f"}
    names, half = list(weights), len(weights) // 2
    if node.operator in _WITH_DIRECTION and all(value.shape[0] == 2 for value in weights.values()):
        swapped = {name: np.ascontiguousarray(value[::-1]) for name, value in weights.items()}
    elif [weights[name].shape for name in names[:half]] == [weights[name].shape for name in names[half:]]:
        swapped = {name: weights[other] for name, other in zip(names, names[half:] + names[:half], strict=True)}
    else:
        return
    yield _with(graph, node, swapped, "rnn_direction", f"the directions of {node.operator} are swapped")


def _pads(graph: EditableGraph, node: OperatorNode, held: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """As much padding in all, elsewhere: the operand of ONNX's Pad."""
    import numpy as np

    if node.operator != "Pad" or held.get(node.inputs[1]) is None:
        return
    pads = held[node.inputs[1]]
    for other in ends(pads.tolist()):
        if other != pads.tolist():
            changed = {node.inputs[1]: np.array(other, dtype=pads.dtype)}
            yield _with(graph, node, changed, "padding", f"pads of Pad is {other}")


def _gate_orders(graph: EditableGraph, node: OperatorNode, held: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """All weights of a recurrent layer with their gates in one other order."""
    import numpy as np

    count = GATES.get(role(node.operator), 0)
    axis = 1 if node.operator in _WITH_DIRECTION else 0
    weights = {name: value for name, value in held.items() if value is not None and value.dtype.kind == "f"}
    if not count or any(value.shape[axis] % count for value in weights.values()):
        return
    size = min(value.shape[axis] for value in weights.values()) // count
    for order in itertools.permutations(range(count)):
        if list(order) == sorted(order):
            continue
        other = {}
        for name, value in weights.items():
            blocks = np.split(value, value.shape[axis] // size, axis=axis)
            places = [start + gate for start in range(0, len(blocks), count) for gate in order]
            other[name] = np.concatenate([blocks[place] for place in places], axis=axis)
        yield _with(graph, node, other, "gate_order", f"the gates of {node.operator} are in the order {order}")


def _with(graph: EditableGraph, node: OperatorNode, replaced: Mapping[str, Any], cause: str, detail: str) -> Hypothesis:
    return Hypothesis(cause, detail, lambda values: graph.run(node, {**values, **replaced}))
