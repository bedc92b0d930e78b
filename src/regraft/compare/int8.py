"""int8: what quantisation did to a network, tensor by tensor in decibels, and decision by decision.

Rounding to eight bits has no noise floor to be judged by: how much of it is too much is a question to the task. So the
signal-to-noise ratios say where it hurts, and labelled data decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.binomial import Share, mcnemar, paired_difference, share
from regraft.compare.judge import Judgement
from regraft.errors import UsageError
from regraft.runtime.interface import Tap

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from regraft.compare.matching import Match
    from regraft.runtime.interface import Array, Feeds, Model
    from regraft.runtime.operator_graph import OperatorGraph

MARGIN = 0.01
"""Points of accuracy, as a share, that quantisation may cost when nobody says otherwise."""
_QUANTISED = ("_QuantizeLinear_Output", "_quantized")
"""What onnxruntime's quantiser appends to the name of a tensor, in the QDQ and in the QOperator form."""
_SCALE_AT = {
    "QuantizeLinear": 1, "QGemm": 7, "QLinearConcat": 0, "QLinearSigmoid": 3, "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3, "QLinearAveragePool": 3, "QLinearGlobalAveragePool": 3,
}  # fmt: skip
_KEEPS_SCALE = frozenset({"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Relu"})


class TapNoise(msgspec.Struct, frozen=True):
    """One tensor of both models.

    Attributes:
        name: of the reference's tensor.
        candidate: of the candidate's.
        operator: of the reference, that makes it.
        snr_db: power of the reference's tensor over power of the difference, in decibels; infinite where they are
            equal. Each bit is worth 6.02 dB; eight bits over the full range of a uniform signal give 49.9.
        n: elements, over all feeds.
    """

    name: str
    candidate: str
    operator: str
    snr_db: float
    n: int


class DecisionTest(msgspec.Struct, frozen=True):
    """What quantisation did to decisions.

    Attributes:
        n: decisions.
        flips: share of decisions that differ, with an exact 95 % interval.
        accuracy, candidate_accuracy: of both, with labels.
        drop: accuracy that the candidate lost, with a paired 95 % interval; negative where it gained.
        p_value: McNemar, two-sided and exact: are both equally often right where only one is?
        margin: drop that is accepted.
        judgement: within (the interval lies below the margin), beyond (above it), or undecided, as always
            without labels.
        reason: in words.
    """

    n: int
    flips: Share
    accuracy: Share | None
    candidate_accuracy: Share | None
    drop: Share | None
    p_value: float | None
    margin: float
    judgement: Judgement
    reason: str


def tap_noise(
    reference: Model,
    candidate: Model,
    feeds: Iterable[Feeds],
    *,
    inputs: Mapping[str, str] | None = None,
    pairs: Mapping[str, Match] | None = None,
    graph: OperatorGraph | None = None,
) -> list[TapNoise]:
    """Signal-to-noise ratio of every floating-point tensor that both models have, in the reference's order.

    A tensor of the candidate counts as its consumers see it: in eight bits, times the scale that the graph has for it.
    What the runtime fuses has no tensor of its own and is left out.

    Args:
        reference: in float.
        candidate: quantised; its taps have the reference's names, as `onnxruntime.quantization` leaves them.
        feeds: by the reference's names, one pass each; the power is added up over them.
        inputs: reference's input → candidate's; None where the names are the same.
        pairs: candidate's tensor → the reference's (see `localise.Localisation.pairs`), in place of names.
        graph: of the reference, where it is that of which `pairs` has the names; None where its taps have them.
    Returns:
        empty when no tensor has a counterpart.
    Raises:
        Unsupported: one of the two cannot be traced.
    """
    powers: dict[str, _Power] = {}
    taps = _instrumented(candidate, pairs)
    for one in feeds:
        theirs = {(inputs or {}).get(name, name): value for name, value in one.items()}
        seen = taps(theirs)
        find = (
            _by_pairs(seen, pairs) if pairs is not None else _by_name(seen, _scales(candidate), _rectified(reference))
        )
        for tap in reference.trace(one) if graph is None else _tensors(graph, one):
            found = find(tap.name)
            if found is None or tap.value is None or tap.value.dtype.kind != "f":
                continue
            name, value = found
            if value.shape == tap.value.shape:
                powers.setdefault(tap.name, _Power(name, tap.operator, tap.order)).add(tap.value, value)
    ordered = sorted(powers.items(), key=lambda item: item[1].order)
    return [TapNoise(name, power.candidate, power.operator, power.snr_db, power.n) for name, power in ordered]


def _tensors(graph: OperatorGraph, feeds: Feeds) -> Iterator[Tap]:
    """What each operator makes in one pass, as taps."""
    values: dict[str, Any] = dict(feeds)
    for order, node in enumerate(graph.nodes):
        found = graph.run(node, values)
        values |= found
        for name, value in found.items():
            if hasattr(value, "dtype"):
                yield Tap(name, node.operator, node.scope, order, value)


def _instrumented(model: Any, pairs: Mapping[str, Match] | None) -> Callable[[Feeds], dict[str, Array]]:
    """From feeds to tensors, in the kernels that the model really runs in.

    onnxruntime replaces a float operator between dequantising and quantising by one of eight bits, but not where a
    float tensor inside is asked for: a trace of everything shows a network that nobody runs. (Products of unsigned and
    signed bytes saturate at 16 bits on CPUs without VNNI; a convolution that has 45 dB in float had 20 dB.) So only
    tensors of eight bits are asked for, and floats that are not part of such an operator.
    """
    if type(model).__name__ != "OnnxRuntimeModel":
        return lambda feeds: {tap.name: tap.value for tap in model.trace(feeds) if tap.value is not None}
    from regraft.runtime.onnx_proto import with_outputs
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    names = list(pairs) if pairs is not None else _undisturbing(model.proto.graph)
    made = {name for node in model.proto.graph.node for name in node.output}
    content = with_outputs(model.proto, [name for name in names if name in made])
    return OnnxRuntimeModel(content, threads=1, where=model.where)


def _undisturbing(graph: onnx.GraphProto) -> list[str]:
    """Tensors that can be returned without keeping the runtime from its operators of eight bits."""
    makers = {name: node for node in graph.node for name in node.output if name}
    quantised = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    found = []
    for name, node in makers.items():
        before = {makers[one].op_type for one in node.input if one in makers}
        is_inside = node.op_type == "DequantizeLinear" or name in quantised or "DequantizeLinear" in before
        if not is_inside or node.op_type == "QuantizeLinear":
            found.append(name)
    return found


class _Power:
    """Sums of squares of one tensor."""

    def __init__(self, candidate: str, operator: str, order: int) -> None:
        self.candidate, self.operator, self.order = candidate, operator, order
        self.n = 0
        self._signal = self._noise = 0.0

    def add(self, ours: Array, theirs: Array) -> None:
        import numpy as np

        wide, other = ours.astype(np.float64), theirs.astype(np.float64)
        usable = np.isfinite(wide) & np.isfinite(other)
        self._signal += float(np.square(wide[usable]).sum())
        self._noise += float(np.square(wide[usable] - other[usable]).sum())
        self.n += int(usable.sum())

    @property
    def snr_db(self) -> float:
        """In decibels; infinite without noise, and minus infinity for noise without a signal."""
        if self._noise == 0.0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf


_Find = Callable[[str], tuple[str, Any] | None]


def _by_pairs(seen: Mapping[str, Array], pairs: Mapping[str, Match]) -> _Find:
    """Candidate's tensors by what they were found to be; of several, the last: the one that was dequantised."""
    chosen = {match.name: (name, match) for name, match in pairs.items() if name in seen}

    def find(name: str) -> tuple[str, Any] | None:
        theirs, match = chosen.get(name, ("", None))
        if match is None:
            return None
        value = seen[theirs]
        shape = _reference_shape(value, match)
        return (theirs, match.layout.to_reference(value, shape)) if shape is not None else None

    return find


def _reference_shape(value: Array, match: Match) -> tuple[int, ...] | None:
    """Shape of the reference's tensor: that of the candidate's with its axes in the reference's order."""
    layout = match.layout
    if value.shape != layout.shape:
        return None
    return layout.shape if layout.block or layout.axes is None else tuple(layout.shape[axis] for axis in layout.axes)


def _by_name(
    seen: Mapping[str, Array], scales: Mapping[str, tuple[Array, Array]], rectified: Mapping[str, str]
) -> _Find:
    def in_eight_bits(name: str) -> str | None:
        return next((name + end for end in _QUANTISED if name + end in seen and name + end in scales), None)

    fused = {before: after for after, before in rectified.items() if in_eight_bits(before) and after not in seen}

    def find(name: str) -> tuple[str, Any] | None:
        other = None if name in fused else in_eight_bits(name)
        if other is None and fused.get(rectified.get(name, "")) == name:
            other = in_eight_bits(rectified[name])
        if other is not None:
            scale, zero = scales[other]
            return other, (seen[other].astype("float64") - zero.astype("float64")) * scale.astype("float64")
        return (name, seen[name]) if name in seen and seen[name].dtype.kind == "f" else None

    return find


def _rectified(model: Any) -> dict[str, str]:
    """Result of a Relu or Clip → what it rectifies: in eight bits both are one tensor, under the name of the latter."""
    nodes = model.proto.graph.node if hasattr(model, "proto") else ()
    return {node.output[0]: node.input[0] for node in nodes if node.op_type in ("Relu", "Clip")}


def _scales(model: Any) -> dict[str, tuple[Array, Array]]:
    """Tensor of eight bits → (scale, zero point), where one of each holds for the whole tensor."""
    from onnx import numpy_helper

    if not hasattr(model, "proto"):
        return {}
    graph = model.proto.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    found: dict[str, tuple[Array, Array]] = {}
    for node in graph.node:
        first = _place_of_scale(node.op_type)
        names = node.input[first : first + 2] if first is not None else ()
        if len(names) == 2 and all(name in held for name in names):
            scale, zero = (numpy_helper.to_array(held[name]) for name in names)
            if scale.size == 1:
                found[node.output[0]] = (scale.reshape(()), zero.reshape(()))
        elif node.op_type in _KEEPS_SCALE and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _place_of_scale(operator: str) -> int | None:
    """Operand that is the scale of the result; the zero point follows. None for operators in float."""
    if operator in _SCALE_AT:
        return _SCALE_AT[operator]
    return 6 if operator.startswith("QLinear") else None


def decision_test(
    reference: NDArray[np.floating[Any]],
    candidate: NDArray[np.floating[Any]],
    *,
    labels: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    margin: float = MARGIN,
) -> DecisionTest:
    """Compare the decisions of a quantised model with those of its reference, and with the truth where that is known.

    Args:
        reference: (N, K) scores; N ≥ 1 rows of task data.
        candidate: (N, K) scores for the same rows.
        labels: (N,) true classes; without them nothing can be decided.
        margin: drop in accuracy, as a share, that is accepted; stated before looking.
    Raises:
        UsageError: shapes that do not fit, no rows, or a margin outside of 0 … 1.
    """
    import numpy as np

    if reference.ndim != 2 or reference.shape != candidate.shape or not reference.size:
        raise UsageError(f"scores of shape {reference.shape} and {candidate.shape} are no decisions on the same rows")
    if not 0 <= margin < 1:
        raise UsageError("a margin is a share of decisions, from 0 to below 1", where=f"margin={margin}")
    ours, theirs = reference.argmax(axis=1), candidate.argmax(axis=1)  # (N,)
    n = len(ours)
    flips = share(int((ours != theirs).sum()), n)
    if labels is None:
        reason = (
            f"{flips.value:.1%} of {n} decisions differ ({flips.low:.1%} to {flips.high:.1%}); whether that "
            "costs accuracy, labels would say"
        )
        return DecisionTest(n, flips, None, None, None, None, margin, Judgement.UNDECIDED, reason)
    truth = np.asarray(labels)
    if truth.shape != (n,):
        raise UsageError(f"{truth.shape} labels for {n} rows")
    right, other = ours == truth, theirs == truth
    lost, won = int((right & ~other).sum()), int((other & ~right).sum())
    drop = paired_difference(lost, won, n)
    judgement = _judged(drop, margin)
    reason = (
        f"accuracy {right.mean():.1%} became {other.mean():.1%}: a drop of {drop.value:.2%} ({drop.low:.2%} to "
        f"{drop.high:.2%}) against a margin of {margin:.2%}; {lost} rows lost, {won} won"
    )
    p_value = mcnemar(lost, won)
    accuracies = share(int(right.sum()), n), share(int(other.sum()), n)
    return DecisionTest(n, flips, *accuracies, drop, p_value, margin, judgement, reason)


def _judged(drop: Share, margin: float) -> Judgement:
    """Non-inferiority: the whole interval has to lie on one side of the margin."""
    if drop.high <= margin:
        return Judgement.WITHIN
    return Judgement.BEYOND if drop.low > margin else Judgement.UNDECIDED
