"""Try hypotheses on the operators of a region, in the reference and in the candidate, and keep the one that holds."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.canonical import CanonicalTensor
from regraft.compare.causes.borrowed import borrowed_settings, borrowed_weights
from regraft.compare.causes.counterparts import replaced_weights
from regraft.compare.causes.interface import Family, Hypothesis, NamedCause, Run
from regraft.compare.causes.operands import operands
from regraft.compare.causes.scalars import Scalar, fitted, scalars
from regraft.compare.causes.settings import settings
from regraft.compare.causes.structure import replaced_by, sources, structure
from regraft.compare.deviation import deviation
from regraft.compare.matching import Match, is_within
from regraft.compare.roles import role
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.compare.noise import Ratio
    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorNode

_FAMILIES: tuple[Family, ...] = (settings, operands, structure, sources)
_MAX_REGION = 40
_SEEN_FROM_CANDIDATE = {
    "node_missing": "node_inserted",
    "activation_missing": "node_inserted",
    "bias_missing": "node_inserted",
    "node_inserted": "node_missing",
}
"""What mends the candidate when it is left out is what it has too many."""
_FLAT = 1e-6
"""A slope that makes a ReLU of its operator."""
_RANDOM = ("Random", "Bernoulli", "Dropout", "Multinomial", "bernoulli", "rand")
TIME_S = 20.0
"""Hypotheses are tried for at most so long a region."""


def named_cause(
    walk: Walk, region: Sequence[OperatorNode], counterpart: Sequence[OperatorNode], theirs: str, pin: Match
) -> NamedCause | None:
    """The hypothesis that brings the end of a region into the floor.

    In the reference's operators a hypothesis must make what the candidate computes; in the candidate's it must
    make what the reference has. The first names the reference's operator also where the candidate has fused many.

    Args:
        walk: of the comparison.
        region: candidate's operators.
        counterpart: reference's operators.
        theirs: candidate's tensor at the end.
        pin: what it corresponds to.
    """
    value = walk.computed.get(theirs)
    if value is None or not hasattr(value, "shape"):
        return None
    chance = [node for node in region if node.operator.startswith(_RANDOM)]
    if chance:
        return NamedCause("dropout", f"{chance[0].operator} makes the result random", None)
    deadline = time.monotonic() + TIME_S
    tensor = walk.trace.with_segment_floor(pin.name, list(counterpart)) or walk.trace.tensors[pin.name]
    is_comparable = value.size == tensor.value.size or pin.layout.channels > 0
    if hasattr(walk.trace.graph, "run_changed") and len(counterpart) <= _MAX_REGION and is_comparable:
        target = scaled(tensor, pin.layout.to_reference(value, tensor.value.shape))
        instead = region[0].operator if len(region) == 1 else None
        ours = _Side(walk, counterpart, pin.name, target, None, is_reference=True, instead=instead, counterpart=region)
        found = ours.search(deadline)
        if found is not None:
            return found
    if hasattr(walk.candidate, "run_changed") and len(region) <= _MAX_REGION:
        other = _Side(walk, region, theirs, tensor, pin, is_reference=False, counterpart=counterpart)
        return other.search(deadline)
    return None


class _Side:
    """The operators of one graph between matched tensors, and what their last result should become."""

    def __init__(
        self,
        walk: Walk,
        region: Sequence[OperatorNode],
        end: str,
        target: CanonicalTensor,
        pin: Match | None,
        *,
        is_reference: bool,
        instead: str | None = None,
        counterpart: Sequence[OperatorNode] = (),
    ) -> None:
        self._counterpart = counterpart
        self._instead = instead
        self._walk = walk
        self._region = region
        self._end = end
        self._target = target
        self._pin = pin
        self._is_reference = is_reference
        self._graph: Any = walk.trace.graph if is_reference else walk.candidate
        self._values: Mapping[str, Any] = walk.trace.values if is_reference else walk.values

    def search(self, deadline: float) -> NamedCause | None:
        """The first hypothesis that holds, those that are quick to try first."""
        if self._instead is not None and len(self._region) == 1:
            for hypothesis in replaced_by(self._graph, self._region[0], self._instead):
                residual = self._residual(self._region[0], hypothesis.run)
                if residual is not None and is_within(residual):
                    return self._named(self._region[0], hypothesis, residual)
        for family in _FAMILIES:
            for node in reversed(self._region):
                for hypothesis in family(self._graph, node, self._values):
                    if time.monotonic() > deadline:
                        return None
                    residual = self._residual(node, hypothesis.run)
                    if residual is not None and is_within(residual):
                        return self._named(node, hypothesis, residual)
            if family is settings:
                found = self._fit(deadline) or self._borrow(deadline)
                if found is not None:
                    return found
        return None

    def _borrow(self, deadline: float) -> NamedCause | None:
        """What the candidate holds in the operators of the reference; nothing on the candidate's own side."""
        if not self._is_reference:
            return None
        for node in reversed(self._region):
            for hypothesis in self._borrowed(node):
                if time.monotonic() > deadline:
                    return None
                residual = self._residual(node, hypothesis.run)
                if residual is not None and is_within(residual):
                    return self._named(node, hypothesis, residual)
        return None

    def _borrowed(self, node: OperatorNode) -> Iterator[Hypothesis]:
        if not (hasattr(self._graph, "protos") and hasattr(self._walk.candidate, "protos")):
            yield from replaced_weights(self._walk, node, self._counterpart)
            return
        twins = [one for one in self._counterpart if role(one.operator) == role(node.operator)]
        for twin in twins:
            yield from borrowed_settings(self._walk, node, twin)
        yield from borrowed_weights(self._walk, node, self._counterpart)

    def _fit(self, deadline: float) -> NamedCause | None:
        for node in reversed(self._region):
            for scalar in scalars(self._graph, node, self._values):

                def error(number: float, node: Any = node, scalar: Any = scalar) -> float:
                    ratio = self._residual(node, functools.partial(scalar.run, number))
                    return float("inf") if ratio is None else ratio.rms

                for number in fitted(scalar, error):
                    if time.monotonic() > deadline:
                        return None
                    scalar_run = functools.partial(scalar.run, number)
                    residual = self._residual(node, scalar_run)
                    if residual is not None and is_within(residual):
                        is_flat = scalar.cause == "activation_alpha" and abs(number) < _FLAT
                        cause = "activation_kind" if is_flat else scalar.cause
                        detail = f"{scalar.name} of {node.operator} is {number:.4g} in place of {scalar.now:.4g}"
                        named = self._named(node, Hypothesis(cause, detail, scalar_run), residual)
                        return msgspec.structs.replace(named, reference=self._as_well(named, node, scalar, number))
        return None

    def _as_well(self, named: NamedCause, node: OperatorNode, scalar: Scalar, number: float) -> tuple[str, ...]:
        """The operator that is blamed, and others whose like number would explain as much: two factors of a product."""
        others = []
        for other in self._region if self._is_reference else ():
            for same in scalars(self._graph, other, self._values) if other.name != node.name else ():
                if same.cause == scalar.cause and same.now == scalar.now:
                    residual = self._residual(other, functools.partial(same.run, number))
                    others += [other.name] if residual is not None and is_within(residual) else []
        return tuple(one.name for one in self._region if one.name in (*named.reference, *others)) or named.reference

    def _named(self, node: OperatorNode, hypothesis: Hypothesis, residual: Ratio) -> NamedCause:
        cause, detail = hypothesis.told()
        if self._is_reference:
            return NamedCause(cause, detail, residual, (node.name,), ())
        known = [one.name for one in self._counterpart if one.operator == node.operator]
        ours = (known[0],) if len(known) == 1 else ()
        cause = _SEEN_FROM_CANDIDATE.get(cause, cause)
        return NamedCause(cause, f"the candidate would agree if {detail}", residual, ours, (node.name,))

    def _residual(self, node: OperatorNode, run: Run) -> Ratio | None:
        """Divergence at the end when one operator is run under a hypothesis; None where that is not possible."""
        values = dict(self._values)
        try:
            for one in self._region:
                values |= run(values) if one.name == node.name else self._graph.run(one, values)
        except (Unsupported, ValueError, KeyError):
            return None
        value = values.get(self._end)
        if value is None or not hasattr(value, "shape"):
            return None
        if self._pin is not None:
            if value.shape != self._pin.layout.shape or (
                value.size != self._target.value.size and not self._pin.layout.channels
            ):
                return None
            value = self._pin.layout.to_reference(value, self._target.value.shape)
        elif value.shape != self._target.value.shape:
            return None
        return self._ratio(value)

    def _ratio(self, value: Array) -> Ratio | None:
        from regraft.compare.noise import Ratio

        if self._target.own is None:
            return Ratio(0.0, 0.0, 0.0) if bool((value == self._target.value).all()) else None
        return self._target.ratio(value, unit=self._walk.trace.unit)


def scaled(tensor: CanonicalTensor, value: Array) -> CanonicalTensor:
    """The candidate's result as a target, with the reference's relative floor on its own scale."""
    if tensor.own is None:
        return msgspec.structs.replace(tensor, value=value, small=None, floors=None)
    own = deviation(value, value)
    relative = tensor.own.relative
    peak = max((p / s for p, s in zip(tensor.own.peaks, tensor.own.scale_peaks, strict=True) if s > 0), default=0.0)
    floor = msgspec.structs.replace(
        own, rms=relative * own.scale_rms, peaks=tuple(peak * scale for scale in own.scale_peaks)
    )
    return msgspec.structs.replace(tensor, value=value, own=floor, small=None, floors=None)


__all__ = ["NamedCause", "named_cause"]
