"""Hypotheses that are read off the candidate: its settings and weights, planted in the reference's operator.

A fused operator keeps the settings of what it was made from, and weights that were scaled by the norm behind them.
Scaled back, they are what the reference's operator would have to hold to give what the candidate computes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.attributes import cause_of_attribute, weightiest
from regraft.compare.causes.interface import Hypothesis
from regraft.compare.causes.weights import READ_BACK, is_close, scalar_word, word_for_weight
from regraft.compare.roles import role
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import onnx

    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorNode

OF_FUSION = frozenset({"activation", "activation_params", "activation_alpha", "activation_beta", "activation_gamma"})
"""Attributes that say what was fused behind an operator."""
_MAX_BEHIND = 3
_BLOCKS = (16, 8)
_MAX_PARTS = 4
_AFFINE = frozenset({"BatchNormalization", "Mul", "Div", "Add", "Sub", "Identity"})
_BIASED = {"Conv": 2, "Gemm": 2}


class Behind(msgspec.Struct, frozen=True):
    """What operators behind another one do to each of its channels: y = scale · x + shift.

    Attributes:
        scale, shift: float64, one for each channel.
        last: operator that ends it; None for nothing at all.
    """

    scale: Array
    shift: Array
    last: OperatorNode | None = None


def borrowed_settings(walk: Walk, twin: OperatorNode, node: OperatorNode) -> Iterator[Hypothesis]:
    """The candidate's attributes in the reference's operator, one by one, then together.

    Args:
        walk: both graphs are ONNX.
        twin: of the reference.
        node: of the candidate, of the same role.
    """
    graph: Any = walk.trace.graph
    ours, theirs = graph.protos[twin.name], walk.candidate.protos[node.name]  # type: ignore[attr-defined]
    if ours.op_type != theirs.op_type and role(ours.op_type) != role(theirs.op_type):
        return
    names = [one.name for one in theirs.attribute if one.name not in OF_FUSION and _differs(ours, one)]
    names += [one.name for one in ours.attribute if one.name not in {other.name for other in theirs.attribute}]
    for chosen in ([name] for name in names):
        yield _with_settings(walk, twin, ours, theirs, chosen)
    if len(names) > 1:
        yield _with_settings(walk, twin, ours, theirs, names)


def _differs(ours: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    same = [one for one in ours.attribute if one.name == attribute.name]
    return not same or same[0].SerializeToString(deterministic=True) != attribute.SerializeToString(deterministic=True)


def _with_settings(
    walk: Walk, twin: OperatorNode, ours: onnx.NodeProto, theirs: onnx.NodeProto, names: Sequence[str]
) -> Hypothesis:
    import numpy as np
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(ours)
    del copy.attribute[:]
    copy.attribute.extend(one for one in ours.attribute if one.name not in names)
    copy.attribute.extend(one for one in theirs.attribute if one.name in names)
    name = weightiest(names)
    cause, detail = cause_of_attribute(ours, theirs, name)
    if name in ("alpha", "beta") and role(twin.operator) == "linear":
        cause = scalar_word(walk.trace.graph, twin, np.array(1.0), kind="mul")
    run = functools.partial(walk.trace.graph.run_proto, copy)  # type: ignore[attr-defined]
    return Hypothesis(cause, detail, run)


def borrowed_weights(walk: Walk, twin: OperatorNode, region: Sequence[OperatorNode]) -> Iterator[Hypothesis]:
    """The candidate's weights, scaled back, as the reference's operator would have to hold them.

    Args:
        walk: both graphs are ONNX.
        twin: of the reference, with a weight.
        region: candidate's operators that may hold it.
    """
    graph: Any = walk.trace.graph
    candidates = [(node, value) for node in region for value in _weights(walk.candidate, node)]
    stages = list(_behind(walk, twin))
    for position, name in enumerate(twin.inputs):
        ours = graph.constant(name) if name else None
        if ours is None or ours.dtype.kind != "f" or ours.size < 2:
            continue
        seen: set[bytes] = set()
        for node, value in candidates:
            for theirs in _as_shaped(walk, node, value, ours):
                for stage in reversed(stages):
                    unfolded = _unfolded(twin, position, theirs, stage)
                    if unfolded is None or unfolded.tobytes() in seen:
                        continue
                    seen.add(unfolded.tobytes())
                    if unfolded.shape != ours.shape or not is_close(ours, unfolded, READ_BACK):
                        yield _holding(walk, twin, position, ours, unfolded)


def _holding(walk: Walk, twin: OperatorNode, position: int, ours: Array, theirs: Array) -> Hypothesis:
    import onnx
    from onnx import helper

    graph: Any = walk.trace.graph
    copy = onnx.NodeProto()
    copy.CopyFrom(graph.protos[twin.name])
    if twin.operator == "Conv" and theirs.shape != ours.shape:
        groups = next((one.i for one in copy.attribute if one.name == "group"), 1) * ours.shape[1] // theirs.shape[1]
        kept = [one for one in copy.attribute if one.name != "group"]
        del copy.attribute[:]
        copy.attribute.extend([*kept, helper.make_attribute("group", max(1, groups))])
    copy, given = with_operands(copy, {position: theirs})

    def run(values: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = graph.run_proto(copy, {**values, **given})
        return found

    def word() -> tuple[str, str]:
        cause, detail = word_for_weight(walk, twin, position, ours, theirs)
        if twin.operator == "Conv" and theirs.shape != ours.shape:
            cause = "groups"
        return cause, f"operand {position} of {twin.operator} {detail}"

    return Hypothesis("", "", run, word)


def with_operands(proto: onnx.NodeProto, operands: Mapping[int, Array]) -> tuple[onnx.NodeProto, dict[str, Array]]:
    """An operator and the values to run it on, with other constants for some operands; others may share their names."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    given = {}
    copy.input.extend([""] * (max(operands, default=-1) + 1 - len(copy.input)))
    for position, value in operands.items():
        if not copy.input[position] or list(proto.input).count(copy.input[position]) > 1:
            copy.input[position] = f"operand {position} given"
        given[copy.input[position]] = value
    return copy, given


def _weights(graph: Any, node: OperatorNode) -> Iterator[Array]:
    for name in dict.fromkeys(node.inputs):
        value = graph.constant(name) if name else None
        if value is not None and value.dtype.kind == "f" and value.size > 1:
            yield value
    yield from _dequantised(graph, node)


def _dequantised(graph: Any, node: OperatorNode) -> Iterator[Array]:
    """Weights of operators that keep them as 8-bit integers beside scale and zero point, in float32."""
    import numpy as np

    held = [graph.constant(name) for name in node.inputs if name and graph.constant(name) is not None]
    weights = [value for value in held if value.dtype in (np.int8, np.uint8) and value.ndim > 1]
    for weight in weights:
        last = (1, weight.shape[-1])
        zeros = [zero for zero in held if zero.dtype == weight.dtype and zero.size in last]
        scales = [scale for scale in held if scale.dtype == np.float32 and scale.size in last]
        for scale in scales:
            for zero in zeros or [np.zeros((), weight.dtype)]:
                yield (weight.astype(np.float32) - zero.astype(np.float32)) * scale


def _as_shaped(walk: Walk, node: OperatorNode, value: Array, ours: Array) -> Iterator[Array]:
    """Ways to read a candidate's weight as one of the reference's: as it is, turned, a part of it, out of blocks."""
    import numpy as np

    proto = walk.candidate.protos[node.name]  # type: ignore[attr-defined]
    if proto.domain == "com.microsoft.nchwc":
        yield from _out_of_blocks(value, ours)
        return
    if value.size == ours.size:
        if value.shape != ours.shape and value.shape == ours.shape[::-1]:
            yield np.ascontiguousarray(value.T)
        yield value.reshape(ours.shape)
        return
    if value.ndim == ours.ndim == 4 and value.shape[:1] + value.shape[2:] == ours.shape[:1] + ours.shape[2:]:
        yield value  # another number of groups
    for axis, extent in enumerate(value.shape):
        count = value.size // ours.size
        if value.size == count * ours.size and 1 < count <= _MAX_PARTS and extent % count == 0:
            for part in np.split(value, count, axis=axis):
                if part.shape in (ours.shape, ours.shape[::-1]):
                    yield np.ascontiguousarray(part if part.shape == ours.shape else part.T)


def _out_of_blocks(value: Array, ours: Array) -> Iterator[Array]:
    """A weight of a blocked convolution as (O, I, kh, kw), a bias as (O,): onnxruntime's OIHWBiBo and OIHWBo."""
    if value.ndim == 1 and ours.ndim == 1 and value.size >= ours.size:
        yield value[: ours.size]
    if value.ndim != 4 or ours.ndim != 4 or value.shape[2:] != ours.shape[2:] or value.shape[0] < ours.shape[0]:
        return
    for block in _BLOCKS:
        o, i, kh, kw = value.shape
        if o % block:
            continue
        plain = value.reshape(o // block, i, kh, kw, block).transpose(0, 4, 1, 2, 3).reshape(value.shape)
        yield _cut(plain, ours)
        if i % block == 0:
            both = value.reshape(o // block, i // block, kh, kw, block, block).transpose(0, 5, 1, 4, 2, 3)
            yield _cut(both.reshape(value.shape), ours)


def _cut(value: Array, ours: Array) -> Array:
    """Without the channels that fill up a block."""
    import numpy as np

    width = ours.shape[1] if value.shape[1] < 2 * ours.shape[1] else value.shape[1]
    return np.ascontiguousarray(value[: ours.shape[0], :width])


def _behind(walk: Walk, twin: OperatorNode) -> Iterator[Behind]:
    """What is behind an operator, after nothing, one, two … operators that work channel by channel."""
    import numpy as np

    now = walk.trace.values.get(twin.outputs[0])
    if now is None or not hasattr(now, "shape") or now.ndim < 2:
        return
    axis = 1 if role(twin.operator) == "convolution" else now.ndim - 1
    shape = tuple(extent if i == axis else 1 for i, extent in enumerate(now.shape))
    one = np.ones(now.shape[axis])
    yield Behind(one, 0 * one)
    name = twin.outputs[0]
    points = [np.full(shape, x) for x in (0.0, 1.0, 2.0)]
    for _ in range(_MAX_BEHIND):
        users = [node for node in walk.trace.graph.nodes if name in node.inputs]
        if len(users) != 1 or users[0].operator not in _AFFINE or name in walk.trace.graph.outputs:
            return
        found = _through(walk.trace.graph, users[0], name, points)
        if found is None or any(value.shape != shape for value in found):
            return
        points, name = found, users[0].outputs[0]
        shift, ends, twice = (np.asarray(value, np.float64).ravel() for value in points)
        if not np.allclose(twice - ends, ends - shift, rtol=1e-9, atol=0):
            return
        yield Behind(ends - shift, shift, users[0])


def _through(graph: Any, node: OperatorNode, name: str, points: Sequence[Array]) -> list[Array] | None:
    if any(other != name and other and graph.constant(other) is None for other in node.inputs):
        return None
    try:
        return [graph.run(node, {name: point}, precision="float64")[node.outputs[0]] for point in points]
    except Unsupported:
        return None


def _unfolded(twin: OperatorNode, position: int, theirs: Any, stage: Behind) -> Any:
    """A weight or bias of a fused operator without what is behind in the reference; None where nobody knows."""
    import numpy as np

    scale = np.where(stage.scale == 0, np.inf, stage.scale)
    if twin.operator == "Add" or _BIASED.get(twin.operator) == position:
        made = (theirs.ravel() - stage.shift) / scale if theirs.size == scale.size else None
        return None if made is None else made.reshape(theirs.shape).astype(theirs.dtype)
    if stage.last is None:
        return theirs
    if twin.operator == "Conv" and position == 1 and theirs.shape[0] == scale.size:
        made = theirs / scale.reshape(-1, *[1] * (theirs.ndim - 1))
    elif role(twin.operator) == "linear" and position == 1 and theirs.ndim == 2:
        axis = next((i for i in (1, 0) if theirs.shape[i] == scale.size), None)
        if axis is None:
            return None
        made = theirs / (scale if axis == 1 else scale[:, None])
    elif twin.operator == "Mul" and theirs.size == scale.size:
        made = theirs / scale.reshape(theirs.shape)
    else:
        return None
    return np.asarray(made).astype(theirs.dtype)
