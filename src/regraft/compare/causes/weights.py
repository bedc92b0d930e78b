"""What happened to a weight: transposed, permuted, rounded, scaled, taken from elsewhere."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from regraft.compare.canonical import family_of
from regraft.compare.causes.attributes import cause_of_attribute
from regraft.compare.roles import role
from regraft.runtime.rounding import round_to

if TYPE_CHECKING:
    import numpy as np

    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

_RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
_MAX_ROLLED = 64
_BIAS_AXES = 2
"""Of a recurrent layer's bias: directions, and the two halves of all gates."""
READ_BACK = 2e-6
"""Relative error of a weight that was multiplied by a factor in float32 and divided by it again."""
_NORMS = frozenset({"batch_norm", "layer_norm", "instancenormalization", "groupnormalization"})
_POSITIONS = {
    ("LSTM", 3): "bias_split", ("GRU", 3): "bias_split", ("RNN", 3): "bias_split",
    ("LSTM", 5): "initial_state", ("GRU", 5): "initial_state", ("RNN", 5): "initial_state",
    ("LSTM", 6): "initial_state", ("LSTM", 4): "sequence_lens", ("GRU", 4): "sequence_lens",
    ("Loop", 0): "trip_count", ("If", 0): "branch_fixed",
    ("BatchNormalization", 4): "batchnorm_parameters", ("Range", 0): "position_offset",
    ("PRelu", 1): "activation_alpha", ("aten.prelu.default", 1): "activation_alpha",
    ("aten.batch_norm.default", 4): "batchnorm_parameters",
    ("Clip", 1): "clip_bounds", ("Clip", 2): "clip_bounds", ("Pad", 1): "padding", ("Pad", 2): "pad_value",
    ("Slice", 1): "slice_bounds", ("Slice", 2): "slice_bounds", ("Slice", 3): "slice_axes", ("Slice", 4): "slice_step",
    ("Reshape", 1): "baked_size", ("Expand", 1): "baked_size", ("Gather", 1): "gather_index", ("CumSum", 1): "axis",
    ("TopK", 1): "topk_order", ("Split", 1): "split_sizes", ("Resize", 2): "resize_scales",
    ("Resize", 3): "resize_scales", ("Mod", 1): "constant_value", ("Unsqueeze", 1): "axis",
    ("QuantizeLinear", 1): "quantisation_scale", ("DequantizeLinear", 1): "quantisation_scale",
    ("QuantizeLinear", 2): "zero_point", ("DequantizeLinear", 2): "zero_point", ("OneHot", 2): "onehot_values",
}  # fmt: skip


def cause_of_weight(
    walk: Walk, twin: OperatorNode, node: OperatorNode, position: int, ours: Array, theirs: Array
) -> tuple[str, str]:
    """A word for a constant operand that differs, and how.

    Args:
        walk: of the comparison.
        twin: reference's operator.
        node: candidate's operator.
        position: of the operand.
        ours: reference's value.
        theirs: candidate's value.
    Returns:
        (cause, detail).
    """
    deeper = _makers(walk, twin.inputs[position], node.inputs[position])
    if deeper is not None:
        return _cause_of_maker(walk, *deeper)
    where = f"operand {position} of {node.operator}"
    known = cause_of_operand(node.operator, position)
    if ours.size == 1 and theirs.size == 1:
        word = known or scalar_word(walk.trace.graph, twin, ours)
        return word, f"{where} is {theirs.item():g}, {ours.item():g} in the reference" if _numeric(ours) else where
    if known is not None and ours.dtype.kind in "iub":
        return known, f"{where} is {theirs.tolist()}, {ours.tolist()} in the reference"[:200]
    if known in ("quantisation_scale", "zero_point") and ours.shape != theirs.shape:
        word = "quantisation_granularity" if known == "quantisation_scale" else known
        return word, f"{where} has shape {theirs.shape}, {ours.shape} in the reference"
    changed = change_of(ours, theirs, gates=_RECURRENT.get(node.operator, 0))
    if changed is not None:
        return _special(changed[0], known), f"{where} is {changed[1]}"
    elsewhere = _taken_from(walk, theirs)
    if elsewhere is not None:
        swapped = role(node.operator) in _NORMS and elsewhere in twin.inputs
        return ("batchnorm_parameters" if swapped else "weight_duplicated"), f"{where} is {elsewhere} of the reference"
    return known or _changed_word(node, ours, theirs), f"{where} has other numbers: {_differing(ours, theirs)}"


def word_for_weight(walk: Walk, twin: OperatorNode, position: int, ours: Array, theirs: Array) -> tuple[str, str]:
    """A word for a weight that was read back from what it was folded into, so that its numbers are a little off.

    Args:
        walk: of the comparison.
        twin: reference's operator.
        position: of the operand.
        ours: reference's value.
        theirs: what the reference's operator would have to hold.
    Returns:
        (cause, detail).
    """
    quantised = _quantised_word(walk, twin.inputs[position], ours, theirs)
    if quantised is not None:
        return quantised
    changed = change_of(ours, theirs, gates=_RECURRENT.get(twin.operator, 0), rtol=READ_BACK)
    known = _POSITIONS.get((twin.operator, position))
    if changed is not None:
        return _special(changed[0], known), f"is {changed[1]}"
    for name in walk.trace.graph.constant_names:
        other = walk.trace.graph.constant(name)
        if other is not None and other.shape == theirs.shape and is_close(other, theirs, READ_BACK):
            return "weight_duplicated", f"is {name} of the reference"
    return known or _changed_word(twin, ours, theirs), f"has other numbers: {_differing(ours, theirs, READ_BACK)}"


def _makers(walk: Walk, ours: str, theirs: str) -> tuple[OperatorNode, OperatorNode] | None:
    """The operators of one kind that compute two constants, where they are computed."""
    if not (hasattr(walk.trace.graph, "maker") and hasattr(walk.candidate, "maker")):
        return None
    mine, other = walk.trace.graph.maker(ours), walk.candidate.maker(theirs)
    return (mine, other) if mine is not None and other is not None else None


def _cause_of_maker(walk: Walk, twin: OperatorNode, node: OperatorNode) -> tuple[str, str]:
    """What differs in the computation of a constant: an attribute, or a constant before it."""
    if twin.operator != node.operator:
        word = "transpose_perm" if role(twin.operator) == "transpose" else "constant_folding"
        return word, f"the constant is made by {node.operator}, by {twin.operator} in the reference"
    ours, theirs = walk.trace.graph.protos[twin.name], walk.candidate.protos[node.name]  # type: ignore[attr-defined]
    for position, (mine, other) in enumerate(zip(twin.inputs, node.inputs, strict=False)):
        first, second = walk.trace.graph.constant(mine), walk.candidate.constant(other)
        if first is not None and second is not None and family_of(first) != family_of(second):
            return cause_of_weight(walk, twin, node, position, first, second)
    for attribute in theirs.attribute:
        same = [one for one in ours.attribute if one.name == attribute.name]
        if not same or same[0].SerializeToString() != attribute.SerializeToString():
            return cause_of_attribute(ours, theirs, attribute.name)
    return "constant_folding", f"{node.operator} computes another constant from the same"


def cause_of_operand(operator: str, position: int) -> str | None:
    """The word for an operand of an operator that is another tensor, where there is a special one."""
    if operator.startswith("Reduce") and position == 1:
        return "reduce_axes"
    return _POSITIONS.get((operator, position))


def change_of(ours: Array, theirs: Array, *, gates: int = 0, rtol: float = 0.0) -> tuple[str, str] | None:
    """How one array comes from another: (cause, detail), None when no known change explains it.

    Args:
        ours: reference's weight.
        theirs: candidate's.
        gates: of a recurrent layer, whose blocks along the next to last axis may be in another order.
        rtol: relative error up to which numbers count as the same.
    """
    import numpy as np

    if ours.size != theirs.size or not _numeric(ours) or not _numeric(theirs):
        return None
    if ours.shape == theirs.shape and ours.dtype.kind == "f":
        for precision in ("bfloat16", "float16"):
            if np.array_equal(round_to(ours, precision), theirs.astype(np.float32)):
                return "lowered_precision", f"rounded to {precision}"
        if not theirs.any() and ours.any():
            return "bias_missing", "zero"
    if ours.ndim >= 2:
        for axes in itertools.permutations(range(min(ours.ndim, 5))):
            if list(axes) == sorted(axes) or len(axes) != ours.ndim:
                continue
            turned = ours.transpose(axes)
            if is_close(np.ascontiguousarray(turned).ravel(), theirs.ravel(), rtol):
                return "weight_transposed", f"transposed by {axes}"
    if ours.shape != theirs.shape:
        same = is_close(ours.ravel(), theirs.ravel(), rtol)
        return ("weight_reshaped", f"of shape {theirs.shape} in place of {ours.shape}") if same else None
    return _rearranged(ours, theirs, gates, rtol) or _scaled(ours, theirs)


def _quantised_word(walk: Walk, name: str, ours: Any, theirs: Any) -> tuple[str, str] | None:
    """What of the quantisation of a weight differs, where the reference keeps integers; None for other weights."""
    import numpy as np

    maker = getattr(walk.trace.graph, "maker", lambda name: None)(name)
    if maker is None or maker.operator != "DequantizeLinear" or ours.shape != theirs.shape:
        return None
    for axis in range(ours.ndim):
        rest = tuple(i for i in range(ours.ndim) if i != axis)
        shift = (theirs - ours).mean(axis=rest, keepdims=True)
        if is_close(ours + shift, theirs, READ_BACK) and np.abs(shift).max() > READ_BACK * np.abs(ours).max():
            return "zero_point", "has another zero point"
        used = np.abs(ours).max(axis=rest, keepdims=True)
        factor = np.abs(theirs).max(axis=rest, keepdims=True) / np.where(used > 0, used, 1)
        if is_close(ours * factor, theirs, READ_BACK):
            is_one = float(np.ptp(factor)) < READ_BACK * float(factor.max())
            return "quantisation_scale" if is_one else "quantisation_granularity", "has other scales"
    return None


def is_close(ours: Array, theirs: Array, rtol: float) -> bool:
    """Are these the same numbers, within a relative error?"""
    import numpy as np

    if not rtol or ours.dtype.kind != "f" or ours.shape != theirs.shape:
        return bool(np.array_equal(ours, theirs))
    return bool(np.allclose(theirs, ours, rtol=rtol, atol=1e-2 * rtol * float(np.abs(ours).max(initial=0.0))))


def _rearranged(ours: Array, theirs: Array, gates: int, rtol: float) -> tuple[str, str] | None:
    import numpy as np

    if not is_close(np.sort(ours, axis=None), np.sort(theirs, axis=None), rtol):
        return None
    if ours.ndim > 2 and is_close(np.flip(ours, tuple(range(2, ours.ndim))), theirs, rtol):
        return "kernel_flipped", "flipped along the axes of the kernel"
    half = ours.shape[-1] // 2
    if gates and ours.ndim == _BIAS_AXES and is_close(np.roll(ours, half, axis=-1), theirs, rtol):
        return "bias_split", "its halves in another order"
    for axis in range(ours.ndim):
        moved, other = np.moveaxis(ours, axis, 0), np.moveaxis(theirs, axis, 0)
        order = _row_order(moved, other, rtol)
        if order is None:
            continue
        if gates > 1 and _by_blocks(order, gates):
            return "gate_order", f"its {gates} gates in another order"
        if gates > 1 and axis == 0 and ours.shape[0] == 2:
            return "rnn_direction", "its directions in another order"
        if order == list(range(len(order)))[::-1]:
            return "channel_order", f"reversed along axis {axis}"
        return "weight_permuted", f"permuted along axis {axis}"
    return "weight_permuted", "the same numbers in another order"


def _row_order(ours: np.ndarray, theirs: np.ndarray, rtol: float) -> list[int] | None:
    """The order of the reference's rows in which the candidate has them; None where they are not the same rows."""
    if rtol:
        import numpy as np

        direction = np.random.default_rng(0).standard_normal(ours[0].size)
        marks, places = (np.argsort(rows.reshape(len(rows), -1) @ direction) for rows in (ours, theirs))
        nearest = marks[np.argsort(places)]  # the row with the same rank along a random direction
        return nearest.tolist() if is_close(ours[nearest], theirs, rtol) and (np.diff(nearest) < 0).any() else None
    rows: dict[bytes, list[int]] = {}
    for position, row in enumerate(ours):
        rows.setdefault(row.tobytes(), []).append(position)
    order = []
    for row in theirs:
        found = rows.get(row.tobytes())
        if not found:
            return None
        order.append(found.pop(0))
    return order if order != sorted(order) else None


def _by_blocks(order: list[int], count: int) -> bool:
    if len(order) % count:
        return False
    size = len(order) // count
    return all(order[start + i] == order[start] + i for start in range(0, len(order), size) for i in range(size))


def _scaled(ours: Array, theirs: Array) -> tuple[str, str] | None:
    import numpy as np

    if ours.dtype.kind != "f":
        return None
    used = np.abs(ours) > 1e-6 * np.abs(ours).max(initial=0.0)
    if not used.any():
        return None
    quotients = theirs[used].astype(np.float64) / ours[used].astype(np.float64)
    factor = float(np.median(quotients))
    if factor not in (0.0, 1.0) and np.allclose(quotients, factor, rtol=1e-4):
        return "weight_changed", f"multiplied by {factor:g}"
    for shift in range(1, min(_MAX_ROLLED, ours.shape[-1]) if ours.ndim else 0):
        if np.array_equal(np.roll(ours, shift, axis=-1), theirs):
            return "weight_permuted", f"rolled by {shift}"
    return None


def _taken_from(walk: Walk, theirs: Array) -> str | None:
    """Another constant of the reference that has these numbers."""
    family = family_of(theirs)
    for name in getattr(walk.trace.graph, "constant_names", ()):
        value = walk.trace.graph.constant(name)
        if value is None or value.size != theirs.size or value.dtype != theirs.dtype:
            continue
        if family_of(value) == family:
            return str(name)
    return None


def scalar_word(graph: OperatorGraph, node: OperatorNode, value: Array, *, kind: str | None = None) -> str:
    """What a lone number of an operator is, from where its result is used.

    Args:
        graph: that the operator is of.
        node: the operator.
        value: the number.
        kind: role of the operator that would hold the number, where that was fused into this one.
    """
    is_weighted = kind is not None and any(graph.constant(name) is not None for name in node.inputs if name)
    kind = kind or role(node.operator)
    users = [user for user in graph.nodes if any(name in user.inputs for name in node.outputs if name)]
    followed = {role(user.operator) for user in users}
    if kind in ("add", "max") and followed & {"sqrt", "rsqrt", "reciprocal", "pow"}:
        return "epsilon"
    number = float(value.item()) if _numeric(value) else 0.0
    if number < -1e3 or kind == "where":
        return "mask_value"
    if kind in ("mul", "div") and not is_weighted and _leads_to_softmax(graph, node):
        return "attention_scale"
    return {"min": "clip_bounds", "max": "clip_bounds"}.get(kind, "constant_value")


def _leads_to_softmax(graph: OperatorGraph, node: OperatorNode, steps: int = 3) -> bool:
    names = set(node.outputs)
    for _ in range(steps):
        users = [user for user in graph.nodes if names & set(user.inputs)]
        if any(role(user.operator) == "softmax" for user in users):
            return True
        names = {name for user in users for name in user.outputs if name}
    return False


def _special(cause: str, known: str | None) -> str:
    return known if known in ("quantisation_scale", "zero_point", "onehot_values", "initial_state") else cause


def _changed_word(node: OperatorNode, ours: Array, theirs: Array) -> str:
    if ours.shape != theirs.shape and ours.ndim == theirs.ndim and role(node.operator) == "convolution":
        return "groups"
    return "constant_folding" if ours.shape != theirs.shape else "weight_changed"


def _numeric(value: Array) -> bool:
    return value.dtype.kind in "fiub"


def _differing(ours: Array, theirs: Array, rtol: float = 0.0) -> str:
    import numpy as np

    if ours.shape != theirs.shape:
        return f"shape {theirs.shape} in place of {ours.shape}"
    return f"{int(np.count_nonzero(~np.isclose(theirs, ours, rtol=rtol, atol=0)))} of {ours.size}"
