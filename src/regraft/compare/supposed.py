"""What an open result of the candidate may be: tensors of the reference it is taken for, and whether that holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.relatives import relatives
from regraft.compare.deviation import HUGE
from regraft.compare.matching import Layout, Match, in_blocks, layouts
from regraft.compare.roles import role

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTensor
    from regraft.compare.walk import Walk
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorNode

_MAX_COUNTERPARTS = 24
_MAX_LAYOUTS = 6
_TELLING = -0.5
"""Decades of relative error below which the layout that differs least is taken for the right one."""
_SURE = 3
_MAX_FOLLOWED = 14
"""Operators behind a tensor that are run to see whether a counterpart is the right one."""


class Supposed:
    """Pairs that are tried: an open tensor of the candidate, and one of the reference that it does not agree with.

    Args:
        walk: as far as it went.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._trace = walk.trace
        self._taken = walk.matched_names()

    def returned(self, theirs: str) -> str | None:
        """The reference's output that a candidate's output should be; None for other tensors."""
        return self._walk.output_pairs.get(theirs)

    def counterparts(self, theirs: str, value: Array | None) -> list[CanonicalTensor]:
        """Tensors that may be what an open one should be: as large, made from the same, the nearest first."""
        returned = self.returned(theirs)
        region = self._walk.origin_region([theirs])
        wanted = {self._trace.tensors[match.name].family for match in self._walk.leaves(region)}
        wanted |= self._cast(wanted)
        maker = self._walk.makers[theirs]
        sized = list(self._trace.tensors.values())
        if value is not None:
            index = self._walk.index
            sized = [*index.of_size(value.size), *index.filled_up(value)]
        ranked = []
        for tensor in sized:
            if tensor.maker < 0 or (tensor.name in self._taken and tensor.name != returned):
                continue
            if value is not None and (tensor.own is None) != (value.dtype.kind in "iub"):
                continue
            operators = self._trace.region([tensor.name], self._taken - {tensor.name})
            leaves = self._trace.leaves(operators)
            if not leaves & wanted:
                continue
            ours = self._trace.graph.nodes[tensor.maker]
            unlike = (role(ours.operator) != role(maker.operator)) + (ours.operator != maker.operator)
            unlike -= role(maker.operator) in map(role, relatives(ours.operator))
            rank = (tensor.name != returned, not leaves <= wanted, unlike, _distance(value, tensor), len(operators))
            ranked.append((rank, tensor.maker, tensor))
        ranked.sort(key=lambda one: one[:2])
        return [tensor for _, _, tensor in ranked[:_MAX_COUNTERPARTS]]

    def _cast(self, families: set[str]) -> set[str]:
        """Families of the same numbers in another dtype."""
        found = set()
        for node in self._trace.graph.nodes:
            if role(node.operator) == "cast":
                pair = {
                    self._trace.tensors[n].family for n in (node.inputs[0], node.outputs[0]) if n in self._trace.tensors
                }
                found |= pair if pair & families else set()
        return found

    def is_twin(self, theirs: str, tensor: CanonicalTensor) -> bool:
        """Are both made by operators of one role, or returned in the same place?"""
        maker, ours = self._walk.makers[theirs], self._trace.graph.nodes[tensor.maker]
        return role(maker.operator) == role(ours.operator) or self.returned(theirs) == tensor.name

    def pins_in_layouts(self, theirs: str, tensor: CanonicalTensor) -> Iterator[Match]:
        """The pair in the layout in which it differs least; in others too where it differs too much to tell."""
        best = self.pinned(theirs, tensor)
        yield best
        value = self._walk.computed.get(theirs)
        ways = list(self._layouts(value, tensor))
        if value is None or not ways:
            return
        if _distance(best.layout.to_reference(value, tensor.value.shape), tensor) < _TELLING:
            return
        for layout in ways[:_MAX_LAYOUTS]:
            if layout != best.layout:
                ratio = tensor.ratio(layout.to_reference(value, tensor.value.shape), unit=self._trace.unit)
                yield msgspec.structs.replace(best, layout=layout, ratio=ratio)

    def pinned(self, theirs: str, tensor: CanonicalTensor) -> Match:
        """A pair that corresponds without agreeing, in the layout in which it differs least."""
        value = self._walk.computed.get(theirs)
        ways = list(self._layouts(value, tensor))
        if value is None or not ways:
            return Match(tensor.name, self._layout_as_before(theirs, tensor), None, by="pinned", is_sound=False)
        best, least = ways[0], float("inf")
        for layout in ways:
            distance = _distance(layout.to_reference(value, tensor.value.shape), tensor)
            if distance < least:
                best, least = layout, distance
        ratio = tensor.ratio(best.to_reference(value, tensor.value.shape), unit=self._trace.unit)
        return Match(tensor.name, best, ratio, by="pinned", is_sound=False)

    def _layout_as_before(self, theirs: str, tensor: CanonicalTensor) -> Layout:
        """The layout of what an operator is given, for a result of another size than it should have."""
        matches = self._walk.matches
        block = max((matches[i].layout.block for i in self._walk.makers[theirs].inputs if i in matches), default=0)
        return in_blocks(tensor.value.shape, block) if block else Layout(tensor.value.shape)

    def _layouts(self, value: Array | None, tensor: CanonicalTensor) -> Iterator[Layout]:
        """Ways in which an array may hold a tensor's numbers, filled up to whole blocks or not."""
        index = self._walk.index
        if value is not None and (value.size == tensor.value.size or index.blocked):
            yield from layouts(value.shape, tensor.value.shape, blocked=index.blocked)

    def follow(self, theirs: str, pin: Match) -> bool:
        """Does what follows agree with the reference, once a tensor is replaced by its supposed counterpart?

        An output must agree, or something that depends on that counterpart in the reference, too, and behind it most
        of what follows: one sum with a constant agrees by chance. Where much agrees, another fault behind it may
        spoil the rest.
        """
        walk, trace = self._walk, self._trace
        if theirs in walk.output_pairs and not walk.consumers.get(theirs):
            return walk.output_pairs[theirs] == pin.name
        tensor = trace.tensors[pin.name]
        overlay: dict[str, Any] = {theirs: pin.layout.to_candidate(tensor.value)}
        hits = misses = causes = 0
        missed: set[str] = set()
        for node in walk.after([theirs])[:_MAX_FOLLOWED]:
            doubtful = [n for n in node.inputs if n and n not in overlay and not self._is_known(n)]
            if doubtful or not any(name in overlay for name in node.inputs):
                continue
            found = walk.try_run(node, overlay)
            if found is None:
                continue
            overlay.update(found)
            matches = {name: walk.find(v, node, name) for name, v in found.items() if hasattr(v, "dtype")}
            for name, match in matches.items():
                if match is not None and match.name == walk.output_pairs.get(name):
                    return True
                if match is not None and match.ratio is not None and (hits or self._depends(match.name, pin.name)):
                    hits += 1
                    overlay[name] = match.layout.to_candidate(trace.tensors[match.name].value)
                elif hits and found[name].dtype.kind == "f":
                    misses += 1
                    causes += missed.isdisjoint(node.inputs)
                    missed.add(name)
        return hits > 0 and (hits >= misses or (hits >= _SURE and hits >= causes))

    def heals(self, suspect: OperatorNode, theirs: str, pin: Match) -> bool:
        """Does an operator further on agree with the reference, once a result before it does?"""
        walk = self._walk
        ends = [name for name in suspect.outputs if name]
        overlay: dict[str, Any] = {theirs: pin.layout.to_candidate(self._trace.tensors[pin.name].value)}
        behind = {node.name for node in walk.after([theirs])}
        found: dict[str, Match | None] = {}
        for node in walk.origin_region(ends):
            made = walk.try_run(node, overlay) if node.name in behind else {}
            if made is None:
                return False
            for name, value in made.items():
                found[name] = match = walk.find(value, node, name) if hasattr(value, "dtype") else None
                is_float = match is not None and value.dtype.kind == "f"
                overlay[name] = self._forced(match) if match is not None and is_float else value
        return all(found.get(name) is not None for name in ends)

    def _forced(self, match: Match) -> Array:
        """The reference's value as the candidate has it."""
        return match.layout.to_candidate(self._trace.tensors[match.name].value)

    def _is_known(self, theirs: str) -> bool:
        walk = self._walk
        is_given = theirs in walk.values and (theirs in walk.discrete or theirs in walk.constant)
        return is_given or theirs in walk.matches or walk.candidate.constant(theirs) is not None

    def _depends(self, later: str, earlier: str) -> bool:
        trace = self._trace
        if trace.tensors[later].family == trace.tensors[earlier].family:
            return False
        operators = trace.region([later], [earlier, *self._taken - {later}])
        return trace.tensors[earlier].family in trace.leaves(operators)


def _distance(value: Array | None, tensor: CanonicalTensor) -> float:
    """RMS difference per RMS of the reference's tensor, in steps of a quarter decade; large where incomparable."""
    import numpy as np

    if value is None or object in (value.dtype, tensor.value.dtype) or value.size != tensor.value.size:
        return 1e9
    ours = tensor.value.astype(np.float64).ravel()
    theirs = value.astype(np.float64).ravel()
    usable = np.isfinite(ours) & np.isfinite(theirs) & (np.abs(ours) < HUGE)
    if not usable.any():
        return 1e9
    scale = np.sqrt(np.square(ours[usable]).mean())
    error = np.sqrt(np.square(ours[usable] - theirs[usable]).mean())
    if error == 0:
        return -20.0
    return round(4 * float(np.log10(error / scale if scale > 0 else error))) / 4
