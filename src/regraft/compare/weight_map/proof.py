"""Functional proof of a weight map: block by block, on the reference's own values, searching only what is open.

The candidate is run operator by operator with the reference's weights in their mapped places. What its operators make
has to be tensors of the reference again; where it is not, the ways that structure leaves open are tried, block by
block. A block that no way mends is passed by giving what follows the reference's values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import deviation
from regraft.compare.matching import Match, layouts
from regraft.compare.walk import Walk
from regraft.compare.weight_map.applying import Applier
from regraft.compare.weight_map.arrangement import Choice
from regraft.compare.weight_map.interface import IN
from regraft.compare.weight_map.sites import Site
from regraft.errors import UsageError

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTrace
    from regraft.compare.weight_map.matching import Matching
    from regraft.runtime.interface import Array
    from regraft.runtime.named_weights import NamedWeight
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

_LOOK_BACK = 4
"""Open choices in front of a contradiction that are tried."""
_MAX_PASSED = 64
_NEAR = 0.5
"""Relative error up to which a tensor of a faulty block is taken for the reference's in the same place."""


class Proof(msgspec.Struct):
    """What the functional part found.

    Attributes:
        proven: weights of the candidate whose every use led back to tensors of the reference.
        evaluations: blocks that were run to choose between ways.
        operators: of the candidate, run in all.
        contradictions: operators of the candidate that no way of mapping explains, region by region.
        settled: choices that had several ways and one of which was shown to be right.
    """

    proven: set[str] = msgspec.field(default_factory=set)
    evaluations: int = 0
    operators: int = 0
    contradictions: list[tuple[str, ...]] = msgspec.field(default_factory=list)
    settled: set[int] = msgspec.field(default_factory=set)


class Prover:
    """Proves one matching.

    Args:
        trace: canonical trace of the reference, with the weights that `values` says.
        candidate: graph of the candidate.
        weights: of the candidate.
        sites: of the reference, of the candidate.
        matching: what structure says; the ways that are taken are changed.
        values: weight of the reference → array.
        inputs, outputs: reference's tensor → candidate's.
    """

    def __init__(
        self,
        trace: CanonicalTrace,
        candidate: OperatorGraph,
        weights: Mapping[str, NamedWeight],
        sites: tuple[Sequence[Site], Sequence[Site]],
        matching: Matching,
        values: Mapping[str, Array],
        *,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
    ) -> None:
        self._sites = sites
        self._matching = matching
        self._candidate = candidate
        self._weights = weights
        self._applier = Applier(weights, values)
        self._walk = Walk(trace, candidate, inputs=inputs, outputs=outputs)
        self._trace = trace
        self._nodes = list(candidate.nodes)
        self._consumers = _consumers(self._nodes)
        self._live = live(self._nodes, candidate.outputs)
        self.proof = Proof()
        self._tainted: set[str] = set()

    def run(self) -> Proof:
        """Walk, choose, and say what is proven."""
        for choice in self._matching.choices:
            self._put(choice)
        self._rerun(self._nodes)
        for _ in range(_MAX_PASSED):
            suspects = self._suspects()
            if not suspects:
                break
            if not self._mended(suspects[0]) and not self._passed(suspects):
                self.proof.contradictions.append(tuple(node.name for node in suspects))
                break
        self._conclude()
        return self.proof

    def _suspects(self) -> list[OperatorNode]:
        """Operators whose results lead to no tensor of the reference, although they lead to an output."""
        found = self._walk.unexplained()
        return [node for node in found if node.name in self._live and node.name not in self._tainted]

    def _mended(self, suspect: OperatorNode) -> bool:
        """Does one of the ways of a choice in front of a contradiction take it away?"""
        place = self._walk.order[suspect.name]
        near = self._near(place)
        groups = [[i] for i in near]
        groups += [alike for i in near[:1] if len(alike := self._alike(i)) > 1]
        return any(self._chosen(group, place, suspect) for group in groups)

    def _chosen(self, group: Sequence[int], place: int, suspect: OperatorNode) -> bool:
        """Try all ways of a choice, or of several that go the same way, until a contradiction is gone."""
        choices = [self._matching.choices[i] for i in group]
        before = [choice.taken for choice in choices]
        block = self._block(choices, max(place, self._start(choices[0])))
        reached = {way: self._reached(choices, way, block) for way in [before[0]]} if len(set(before)) == 1 else {}
        for way in range(len(choices[0].ways)):
            if way not in reached:
                reached[way] = self._reached(choices, way, block)
            if reached[way] == len(self._nodes):
                break
        best = max(reached, key=lambda way: reached[way])
        if reached[best] > reached.get(before[0], self._walk.order[suspect.name]):
            self._settle(group, best, block)
            return True
        for choice, taken in zip(choices, before, strict=True):
            choice.taken = taken
            self._put(choice)
        self._rerun(block)
        return False

    def _alike(self, i: int) -> list[int]:
        """Choices of one kind that are open, this one among them: layers inside of one operator of the reference."""
        choices = self._matching.choices
        return [
            j for j, other in enumerate(choices)
            if j not in self.proof.settled and other.kind and other.kind == choices[i].kind
        ]  # fmt: skip

    def _near(self, place: int) -> list[int]:
        """Open choices around a contradiction: those in front of it, the nearest first, then the next behind it.

        What only moves numbers in front of the weights is not explained either, as long as these are wrong.
        """
        waiting = [
            (self._start(choice), i)
            for i, choice in enumerate(self._matching.choices)
            if len(choice.ways) > 1 and i not in self.proof.settled
        ]
        waiting.sort()
        before = [one for one in waiting if one[0] <= place][::-1][:_LOOK_BACK]
        behind = [one for one in waiting if one[0] > place][:1]
        return [i for _, i in before + behind]

    def _settle(self, group: Sequence[int], way: int, block: Sequence[OperatorNode]) -> None:
        """What holds for one choice is taken for all later ones of its kind, and everything behind is run again."""
        choices = self._matching.choices
        self.proof.settled.update(group)
        for i in group:
            choices[i].taken = way
            self._put(choices[i])
        start = self._walk.order[block[0].name]
        for j in self._alike(group[0]):
            if self._start(choices[j]) > start:
                choices[j].taken = way
                self._put(choices[j])
        self._rerun(self._nodes[start:])

    def _reached(self, choices: Sequence[Choice], way: int, block: Sequence[OperatorNode]) -> int:
        """Position up to which a block is explained when choices go a way; behind all operators when all of it is."""
        self.proof.evaluations += 1
        try:
            for choice in choices:
                choice.taken = way
                self._put(choice)
        except UsageError:
            return -1
        self._rerun(block)
        inside = {node.name for node in block}
        return next((self._walk.order[one.name] for one in self._suspects() if one.name in inside), len(self._nodes))

    def _put(self, choice: Choice) -> None:
        """Give the candidate the weights that a choice says."""
        for weight, value in self._applier.of_pairs(choice.pairs).items():
            for tensor in self._weights[weight].tensors:
                self._walk.values[tensor] = value

    def _rerun(self, nodes: Sequence[OperatorNode]) -> None:
        self.proof.operators += len(nodes)
        self._walk.run(nodes)

    def _start(self, choice: Choice) -> int:
        """Position of the first operator that takes one of its weights."""
        names = {tensor for pair in choice.pairs for tensor in self._weights[pair.candidate.weight].tensors}
        return min((position for name in names for position in self._consumers.get(name, ())), default=len(self._nodes))

    def _block(self, choices: Sequence[Choice], place: int) -> list[OperatorNode]:
        """Operators behind the weights of choices, up to the end of the heavy use that takes what they make."""
        sites = {index for choice in choices for index in choice.sites}
        mask = sum(1 << index for index in sites)
        heavy = [site for site in self._sites[1] if site.is_heavy and site.index not in sites]
        takers = [self._place(site) for site in heavy if site.anchors & mask and self._place(site) >= place]
        first = min(takers, default=len(self._nodes))
        stop = min((at for site in heavy if (at := self._place(site)) > first), default=len(self._nodes))
        pairs = [pair for choice in choices for pair in choice.pairs]
        names = {tensor for pair in pairs for tensor in self._weights[pair.candidate.weight].tensors}
        found = []
        for node in self._nodes[min(map(self._start, choices)) : stop]:
            if not names.isdisjoint(node.inputs):
                found.append(node)
                names.update(name for name in node.outputs if name)
        return found

    def _place(self, site: Site) -> int:
        """Position of its operator; of the loop, where that is inside of one."""
        order = self._walk.order
        return order.get(site.node, order.get(site.cell, 0))

    def _passed(self, suspects: Sequence[OperatorNode]) -> bool:
        """Give the next use of weights behind a contradiction the reference's value."""
        place = self._walk.order[suspects[0].name]
        for ours, theirs in self._site_pairs():
            position = self._place(theirs)
            if position < place or not theirs.is_heavy or theirs.node not in self._walk.order:
                continue
            node = self._nodes[position]
            names = [name for name in node.inputs if name in self._walk.computed and name not in self._walk.matches]
            if len(names) != 1:
                continue
            match = self._nearest(self._walk.values[names[0]], self._data_of(ours))
            if match is None:
                continue
            region = [one.name for one in suspects if self._walk.order[one.name] < position]
            if not region:
                continue
            self.proof.contradictions.append(tuple(region))
            self._tainted.update(region)
            self._walk.pin(names[0], match)
            self._rerun(self._walk.after([names[0]]))
            return True
        return False

    def _site_pairs(self) -> Iterable[tuple[Site, Site]]:
        ours = {(site.piece.weight, site.piece.part): site for site in reversed(self._sites[0])}
        theirs = {(site.piece.weight, site.piece.part): site for site in reversed(self._sites[1])}
        for choice in self._matching.choices:
            for pair in choice.pairs:
                if pair.sources:
                    mine = ours.get((pair.sources[0].piece.weight, pair.sources[0].piece.part))
                    other = theirs.get((pair.candidate.weight, pair.candidate.part))
                    if mine is not None and other is not None:
                        yield mine, other

    def _data_of(self, site: Site) -> list[str]:
        """Tensors of the reference that a use of a weight takes beside it."""
        node = next((one for one in self._trace.graph.nodes if one.name == site.node), None)
        return [name for name in node.inputs if name in self._trace.tensors] if node is not None else []

    def _nearest(self, value: Array, names: Sequence[str]) -> Match | None:
        best: tuple[float, Match] | None = None
        for name in names:
            tensor = self._trace.tensors[name]
            if tensor.value.size != value.size or tensor.value.dtype.kind != "f" or value.dtype.kind != "f":
                continue
            for layout in layouts(value.shape, tensor.value.shape):
                error = deviation(layout.to_reference(value, tensor.value.shape), tensor.value).relative
                if error <= _NEAR and (best is None or error < best[0]):
                    best = error, Match(name, layout, None, by="pinned", is_sound=False)
        return best[1] if best is not None else None

    def _conclude(self) -> None:
        """A weight is proven when everything that takes it is led back to the reference, and was run."""
        bad = {node.name for node in self._suspects()} | self._tainted
        bad |= {
            node.name for node in self._nodes if not all(name in self._walk.values for name in node.outputs if name)
        }
        for name, weight in self._weights.items():
            takers = [self._nodes[at] for tensor in weight.tensors for at in self._consumers.get(tensor, ())]
            if takers and not any(node.name in bad for node in takers) and self._reaches_data(takers):
                self.proof.proven.add(name)
        self._leave_silent()

    def _leave_silent(self) -> None:
        """What starts from zeros is not proven; it goes the way of what is proven of the same layer."""
        silent = self._silent()
        self.proof.proven -= silent
        for i, choice in enumerate(self._matching.choices):
            names = {pair.candidate.weight for pair in choice.pairs if pair.candidate.size(IN) > 1}
            if names & silent and names & self.proof.proven:
                self.proof.settled.add(i)

    def _silent(self) -> set[str]:
        """Weights of single recurrent steps that start from zeros: whatever these weights are, nothing changes."""
        silent: set[str] = set()
        telling: set[str] = set()
        for site in self._sites[1]:
            (silent if self._starts_from_zeros(site) else telling).add(site.piece.weight)
        return silent - telling

    def _starts_from_zeros(self, site: Site) -> bool:
        if site.role != "recur" or site.cell or site.node not in self._walk.order:
            return False
        node = self._nodes[self._walk.order[site.node]]
        made: list[Any] = [self._walk.values.get(name) for name in node.inputs if name in self._walk.makers]
        return any(hasattr(one, "dtype") and one.dtype.kind == "f" and not one.any() for one in made)

    def _reaches_data(self, takers: Sequence[OperatorNode]) -> bool:
        """Is there a matched floating-point tensor behind? What is computed of weights alone is no evidence."""
        waiting, seen = list(takers), set()
        while waiting:
            node = waiting.pop()
            if node.name in seen:
                continue
            seen.add(node.name)
            for name in node.outputs:
                match = self._walk.matches.get(name)
                if match is not None and match.is_sound and self._is_fed(node):
                    return True
                waiting += [self._nodes[at] for at in self._consumers.get(name, ())]
        return False

    def _is_fed(self, node: OperatorNode) -> bool:
        return any(name in self._walk.makers or name in self._candidate.inputs for name in node.inputs)


def _consumers(nodes: Sequence[OperatorNode]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for position, node in enumerate(nodes):
        for name in dict.fromkeys(node.inputs):
            found.setdefault(name, []).append(position)
    return found


def live(nodes: Sequence[OperatorNode], outputs: Sequence[str]) -> set[str]:
    """Operators that an output depends on; frameworks leave others behind when they trace."""
    needed, found = set(outputs), set()
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            found.add(node.name)
            needed.update(node.inputs)
    return found


def generic(values: Mapping[str, Array], sites: Sequence[Site], *, seed: int = 0) -> dict[str, Array]:
    """Weights in which no two numbers are alike where they were: a bias of zeros says nothing of where it belongs.

    Args:
        values: weight → array of the reference.
        sites: its uses, which say what must stay positive.
        seed: of the numbers.
    Returns:
        those weights that had to be changed: constant ones, and those that equal another one.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    roles = {site.piece.weight: site.role for site in sites}
    seen: set[tuple[tuple[int, ...], bytes]] = set()
    changed: dict[str, Any] = {}
    for name, value in values.items():
        key = (value.shape, value.reshape(-1)[:64].tobytes())
        is_constant = value.size > 0 and float(value.min()) == float(value.max())
        if is_constant or key in seen:
            spread: Any = random.uniform(0.7, 1.3, value.shape)
            moved = value * spread if float(value.max(initial=0.0)) > 0 else random.normal(0.0, 0.1, value.shape)
            moved = np.abs(moved) if roles.get(name) == "variance" else moved
            changed[name] = moved.astype(value.dtype)
        seen.add(key)
    return changed
