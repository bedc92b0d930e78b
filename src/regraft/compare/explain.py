"""What the first operators that lead nowhere have in place of what the reference has: the smallest region, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.grafting import Graft, grafted, pin_of
from regraft.compare.matching import Match
from regraft.compare.noise import Ratio
from regraft.compare.rewiring import Rewiring, bypassed, first_turned, rewired
from regraft.compare.roles import moves_only, role
from regraft.compare.supposed import Supposed
from regraft.compare.transplant import Transplant, transplanted

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTensor
    from regraft.compare.walk import Walk
    from regraft.runtime.operator_graph import OperatorNode

MANY = 3
"""Operands beyond which one that differs does not make another operator of it: states and lengths of sequences."""
_MAX_SUSPECTS = 10
_MAX_ENDS = 24
"""A norm that is written out has 16 operators in JAX, a tanh GELU 12."""
_MAX_HEALING = 3
"""Tensors of the reference that an open result before the suspects is taken for, one after the other."""
_MAX_CONFIRMED = 3
"""Ends of a region that are tried for a cause, when the nearest has none."""


class Explanation(msgspec.Struct):
    """An origin (see `localise.Origin`), and what to take as corresponding so that the walk can go on behind it."""

    reference: tuple[str, ...]
    candidate: tuple[str, ...]
    tensor: str
    candidate_tensor: str
    cause: str | None
    detail: str
    ratio: Ratio | None
    residual: Ratio | None
    by: str
    before: tuple[str, ...] = ()
    pins: dict[str, Match] = {}


class Explainer:
    """Explains the first of several suspects.

    Args:
        walk: as far as it went.
        suspects: operators of the candidate whose results lead nowhere, in order.
    """

    def __init__(self, walk: Walk, suspects: Sequence[OperatorNode]) -> None:
        self._walk = walk
        self._trace = walk.trace
        self._suspects = suspects
        self._taken = walk.matched_names()
        self._supposed = Supposed(walk)

    def explain(self) -> Explanation:
        """The simplest explanation that holds: a changed setting, a changed connection, a region, or none."""
        frontier = [node for node in self._suspects[:_MAX_SUSPECTS] if self._is_grounded(node)]
        frontier += self._vouched_by_chance()
        for attempt in (self._changed, self._grafted, self._inserted, self._rewired, self._changed_elsewhere):
            for node in frontier:
                found = attempt(node)
                if found is not None:
                    return found
        return self._healed() or self._region() or self._nothing()

    def _healed(self) -> Explanation | None:
        """An open result before the suspects that mends the first of them, once it is what it should be.

        A small fault can sink into the rounding of one branch, or of numbers that mostly vanish behind it.
        """
        from regraft.compare.causes import named_cause

        for node in self._open_before()[:_MAX_SUSPECTS]:
            for theirs in filter(None, node.outputs):
                for tensor in self._supposed.counterparts(theirs, self._walk.computed.get(theirs))[:_MAX_HEALING]:
                    pin = self._supposed.pinned(theirs, tensor)
                    if self._supposed.follow(theirs, pin) and self._supposed.heals(self._suspects[0], theirs, pin):
                        return self._with_cause(named_cause, theirs, pin, "confirmed")
        return None

    def _vouched_by_chance(self) -> list[OperatorNode]:
        """Open operators before the suspects: a small fault can sink into the rounding of one branch alone."""
        return [node for node in self._open_before() if self._is_grounded(node)][:_MAX_SUSPECTS]

    def _open_before(self) -> list[OperatorNode]:
        """Operators with open results on which the first suspect depends, in order."""
        ends = [name for name in self._suspects[0].outputs if name]
        return [node for node in self._walk.origin_region(ends) if node not in self._suspects]

    def _is_grounded(self, node: OperatorNode) -> bool:
        """Does the operator take nothing but what corresponds?"""
        constant = self._walk.candidate.constant
        return all(not name or name in self._walk.matches or constant(name) is not None for name in node.inputs)

    def _changed_elsewhere(self, node: OperatorNode) -> Explanation | None:
        """An operator of the same kind on the same numbers in another shape, further on in the reference."""
        return self._changed(node, elsewhere=True)

    def _takes_the_same_shape(self, node: OperatorNode, twin: OperatorNode) -> bool:
        """Do both take the same numbers in the same shape, as far as they lie alike?"""
        for theirs, ours in zip(node.inputs, twin.inputs, strict=False):
            match, tensor = self._walk.matches.get(theirs), self._trace.tensors.get(ours)
            if match is None or tensor is None or match.layout.axes is not None or match.layout.block:
                continue
            is_same = self._trace.tensors[match.name].family == tensor.family
            if is_same and match.layout.shape != tensor.value.shape:
                return False
        return True

    def _changed(self, node: OperatorNode, *, elsewhere: bool = False) -> Explanation | None:
        """The same operator on the same inputs, with another setting, weight or order of operands."""
        if not (hasattr(self._walk.candidate, "protos") and hasattr(self._trace.graph, "protos")):
            return None
        for twin in (twin for twin in self._twins(node) if self._takes_the_same_shape(node, twin) != elsewhere):
            found = transplanted(self._walk, node, twin)
            if found is not None:
                return self._from_transplant(node, twin, found)
        return None

    def _twins(self, node: OperatorNode) -> list[OperatorNode]:
        """Operators of the reference of the same kind that take the same tensors and have no counterpart yet."""
        graph = self._trace.graph
        taken = sorted(f for f in map(self._walk.family, node.inputs) if f is not None)
        elsewhere = {match.name for name, match in self._walk.matches.items() if name not in node.outputs}
        found = []
        for twin in graph.nodes:
            if twin.operator != node.operator or any(name in elsewhere for name in twin.outputs if name):
                continue
            families = sorted(self._trace.tensors[name].family for name in twin.inputs if name in self._trace.tensors)
            if families == taken or self._shares_first(node, twin) or self._has_baked(node, taken, families):
                found.append(twin)
        return sorted(found, key=self._distance(node))

    def _has_baked(self, node: OperatorNode, taken: list[str], families: list[str]) -> bool:
        """Does the candidate's operator have constants where the reference's takes what is computed?"""
        constants = sum(self._walk.candidate.constant(name) is not None for name in node.inputs if name)
        missing = list(families)
        for family in taken:
            if family not in missing:
                return False
            missing.remove(family)
        return 0 < len(missing) <= constants

    def _shares_first(self, node: OperatorNode, twin: OperatorNode) -> bool:
        """Do both work on the same tensor, whatever else they take? Only of operators with many operands."""
        tensor = self._trace.tensors.get(twin.inputs[0])
        return len(twin.inputs) > MANY and tensor is not None and self._walk.family(node.inputs[0]) == tensor.family

    def _distance(self, node: OperatorNode) -> Any:
        walk = self._walk
        share = len(self._trace.graph.nodes) / max(1, len(walk.candidate.nodes))
        place = walk.order[node.name] * share
        order = {one.name: i for i, one in enumerate(self._trace.graph.nodes)}
        return lambda twin: (twin.name != node.name, abs(order[twin.name] - place))

    def _from_transplant(self, node: OperatorNode, twin: OperatorNode, found: Transplant) -> Explanation:
        pins = self._pins(node, twin)
        first = next(iter(pins), "")
        return Explanation(
            reference=found.reference or (twin.name,),
            candidate=(node.name,),
            tensor=pins[first].name if first else "",
            candidate_tensor=first,
            cause=found.cause,
            detail=found.detail,
            ratio=pins[first].ratio if first else None,
            residual=found.residual,
            by="proven",
            before=self._before([node]),
            pins=pins,
        )

    def _pins(self, node: OperatorNode, twin: OperatorNode) -> dict[str, Match]:
        pins = {}
        for theirs, ours in zip(node.outputs, twin.outputs, strict=False):
            tensor = self._trace.tensors.get(ours)
            if theirs and tensor is not None:
                pins[theirs] = self._supposed.pinned(theirs, tensor)
        return pins

    def _grafted(self, node: OperatorNode) -> Explanation | None:
        """The reference's operator with a setting or weight of the candidate's, which gives what the candidate has."""
        if not (hasattr(self._walk.candidate, "protos") and hasattr(self._trace.graph, "protos")):
            return None
        found = grafted(self._walk, node)
        return self._from_graft(node, found) if found is not None else None

    def _from_graft(self, node: OperatorNode, found: Graft) -> Explanation:
        theirs = node.outputs[0]
        pin = self._supposed.pinned(theirs, self._trace.tensors[found.tensor])
        is_as_large = self._walk.computed[theirs].size == self._trace.tensors[found.tensor].value.size
        return Explanation(
            reference=(found.twin.name,),
            candidate=(node.name,),
            tensor=found.tensor,
            candidate_tensor=theirs,
            cause=found.cause,
            detail=found.detail,
            ratio=pin.ratio if is_as_large else None,
            residual=found.residual,
            by="proven",
            before=self._before([node]),
            pins={theirs: pin_of(found)},
        )

    def _inserted(self, node: OperatorNode) -> Explanation | None:
        """An operator without which everything behind it agrees."""
        for theirs in node.outputs:
            found = bypassed(self._walk, node, theirs, self._supposed.follow) if theirs else None
            if found is not None:
                return self._from_rewiring(node, theirs, found)
        return None

    def _rewired(self, node: OperatorNode) -> Explanation | None:
        """The right operator on the wrong tensor: something is missing before it, or it is connected elsewhere."""
        found = rewired(self._walk, node)
        return self._from_rewiring(node, node.outputs[0], found) if found is not None else None

    def _from_rewiring(self, node: OperatorNode, theirs: str, found: Rewiring) -> Explanation:
        tensor = self._trace.tensors[found.tensor]
        pin = self._supposed.pinned(theirs, tensor)
        return Explanation(
            reference=found.reference,
            candidate=(node.name,) if found.is_of_candidate else (),
            tensor=found.tensor,
            candidate_tensor=theirs,
            cause=found.cause,
            detail=found.detail,
            ratio=pin.ratio,
            residual=found.residual,
            by="proven",
            before=self._before([node]),
            pins={theirs: pin},
        )

    def _region(self) -> Explanation | None:
        """A region behind which everything agrees again, and the hypothesis that mends it, if any does."""
        from regraft.compare.causes import named_cause

        likely: tuple[str, CanonicalTensor] | None = None
        confirmed: list[Explanation] = []
        for theirs in self._ends():
            value = self._walk.computed.get(theirs)
            for tensor in self._supposed.counterparts(theirs, value):
                if likely is None and self._supposed.is_twin(theirs, tensor):
                    likely = (theirs, tensor)
                for pin in self._supposed.pins_in_layouts(theirs, tensor):
                    if self._supposed.follow(theirs, pin):
                        found = self._with_cause(named_cause, theirs, pin, "confirmed")
                        confirmed.append(found)
                        if found.cause is not None or len(confirmed) == _MAX_CONFIRMED:
                            return found if found.cause is not None else confirmed[0]
                        break
        if confirmed:
            return confirmed[0]
        if likely is not None:
            return self._with_cause(named_cause, likely[0], self._supposed.pinned(*likely), "likely")
        return None

    def _with_cause(self, named_cause: Any, theirs: str, pin: Match, by: str) -> Explanation:
        from regraft.compare.causes import NamedCause

        walk = self._walk
        region = walk.origin_region([theirs])
        cuts = self._taken - {pin.name}
        counterpart = self._trace.region([pin.name], cuts)
        turned = None
        if all(moves_only(node.operator) for node in (*region, *counterpart)):
            turned = next((t for m in walk.leaves(region) if (t := first_turned(walk, m.name)) is not None), None)
        if turned is not None:
            found: NamedCause | None = NamedCause("layout", "the numbers lie in another order", None, (turned,))
        else:
            found = named_cause(walk, region, counterpart, theirs, pin)
        explanation = Explanation(
            reference=tuple(node.name for node in counterpart),
            candidate=tuple(node.name for node in region),
            tensor=pin.name,
            candidate_tensor=theirs,
            cause=None,
            detail="no hypothesis mends it",
            ratio=pin.ratio,
            residual=None,
            by=by,
            before=self._before(region),
            pins={theirs: pin, **self._siblings(theirs, pin)},
        )
        if found is not None:
            explanation.cause, explanation.detail, explanation.residual = found.cause, found.detail, found.residual
            explanation.by = "proven"
            if found.reference:
                explanation.reference = found.reference
            if found.candidate:
                explanation.candidate = found.candidate
        return explanation

    def _siblings(self, theirs: str, pin: Match) -> dict[str, Match]:
        """The other results of operators that correspond as a whole (the states of a recurrent layer)."""
        maker, twin = self._walk.makers[theirs], self._trace.tensors[pin.name].maker
        ours = self._trace.graph.nodes[twin] if twin >= 0 else None
        if ours is None or role(ours.operator) != role(maker.operator):
            return {}
        return {name: match for name, match in self._pins(maker, ours).items() if name != theirs}

    def _ends(self) -> Iterator[str]:
        """Tensors at which a region may end: results of the suspects, in order; sizes and masks are ends of nothing."""
        open_ones = [name for node in self._suspects for name in node.outputs if name and self._may_end(name)]
        carrying = [name for name in open_ones if name not in self._walk.discrete]
        yield from (carrying or open_ones)[:_MAX_ENDS]

    def _may_end(self, theirs: str) -> bool:
        is_used = theirs in self._walk.consumers or self._supposed.returned(theirs) is not None
        return theirs not in self._walk.matches and is_used

    def _before(self, region: Sequence[OperatorNode]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(match.name for match in self._walk.leaves(region)))

    def _nothing(self) -> Explanation:
        """Nothing corresponds behind the first suspect: all that is open may contain the fault."""
        walk = self._walk
        first = self._suspects[0]
        ends = [name for name in walk.output_pairs if name not in walk.matches]
        counterpart = self._trace.region([walk.output_pairs[name] for name in ends], self._taken)
        stopped = walk.failed.get(first.name)
        return Explanation(
            reference=tuple(node.name for node in counterpart),
            candidate=tuple(node.name for node in self._suspects),
            tensor=walk.output_pairs[ends[0]] if ends else "",
            candidate_tensor=ends[0] if ends else "",
            cause=None,
            detail=f"the operator stops: {stopped}" if stopped else "nothing behind it corresponds to the reference",
            ratio=None,
            residual=None,
            by="likely",
            before=self._before([first]),
        )


__all__ = ["Explainer", "Explanation"]
