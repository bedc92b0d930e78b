"""The teacher-forced walk: every operator of the candidate on the reference's own values, as far as they correspond."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.compare.canonical import PLAUSIBLE
from regraft.compare.deviation import deviation
from regraft.compare.exact import array_dtype
from regraft.compare.matching import Layout, Match
from regraft.compare.roles import REDUCTIONS, SIZES, moves_only, role
from regraft.errors import Unsupported
from regraft.runtime.operator_graph import is_passing

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTensor, CanonicalTrace
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

_BLOCKED_DOMAIN = "com.microsoft.nchwc"
SHIFT_OF_UINT8 = 128
"""onnxruntime quantises to uint8 what is quantised to int8, with another zero point."""
_MAX_SEGMENT = 12
"""Operators that a fusion may span: in longer segments a small fault would sink into their common noise."""


class Walk:
    """Runs the candidate operator by operator and replaces what it computes by what it corresponds to.

    A tensor that agrees with one of the reference is replaced by the reference's value, so that errors do not
    propagate. One that does not stays *open*: it is computed from what came before, until something agrees again
    (a fused, split or rearranged part of the network), or nothing does (a fault).

    Args:
        trace: canonical trace of the reference.
        candidate: graph of the candidate.
        inputs: reference's input → candidate's.
        outputs: reference's output → candidate's.
    """

    def __init__(
        self,
        trace: CanonicalTrace,
        candidate: OperatorGraph,
        *,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        dtypes: Mapping[str, str] | None = None,
    ) -> None:
        self.trace = trace
        self.candidate = candidate
        self.index = trace.index(blocked=_has_blocks(candidate))
        self.values: dict[str, Any] = {}
        self.computed: dict[str, Any] = {}
        """Open or pinned candidate tensor → what the candidate made of the values that it was given."""
        self._made: set[str] = set()
        self.matches: dict[str, Match] = {}
        self.failed: dict[str, str] = {}
        """Candidate operator that cannot be run → why."""
        self.output_pairs = {theirs: ours for ours, theirs in outputs.items()}
        self.consumers: dict[str, list[OperatorNode]] = {}
        for node in candidate.nodes:
            for name in dict.fromkeys(node.inputs):
                self.consumers.setdefault(name, []).append(node)
        self.makers = {name: node for node in candidate.nodes for name in node.outputs if name}
        self.order = {node.name: position for position, node in enumerate(candidate.nodes)}
        self._pending: list[str] = []
        self._makers = trace.graph.nodes
        self._floors: dict[tuple[str, int], CanonicalTensor | None] = {}
        for ours, theirs in inputs.items():
            value = trace.values[ours]
            self.values[theirs] = array_dtype(value, (dtypes or {}).get(theirs))
            self.matches[theirs] = Match(ours, Layout(value.shape), None, by="input")

    def run(self, nodes: Iterable[OperatorNode] | None = None) -> None:
        """Walk over these operators, in order; None for all of them."""
        chosen = list(nodes if nodes is not None else self.candidate.nodes)
        passing = self.candidate
        if not is_passing(passing):
            for node in chosen:
                self._step(node)
            return
        starts = [*self.candidate.inputs, *(name for name, match in self.matches.items() if match.by == "pinned")]
        found = passing.plain({name: self.values[name] for name in starts if name in self.values})
        self._made.update(name for node in chosen for name in _made(node) if name in found)
        self._pending = [node.name for node in chosen]
        for node in chosen:
            for name in _made(node):
                if name in found and not self._is_pinned(name):
                    self._note(node, name, found[name])

    def teach(self, nodes: Sequence[OperatorNode]) -> bool:
        """Run on the reference's values those of some operators that were only run in a pass; False if none was."""
        waiting = [node for node in nodes if node.name in self._pending]
        for node in waiting:
            self._pending.remove(node.name)
            self._step(node)
        return bool(waiting)

    def _is_blurred(self, name: str, node: OperatorNode) -> bool:
        """Does the operator say little of this operand, while others that take it say more?

        A mean or a maximum does not see that its operand was permuted.
        """
        if role(node.operator) not in REDUCTIONS:
            return False
        return any(role(user.operator) not in REDUCTIONS for user in self.consumers.get(name, ()))

    def _is_pinned(self, name: str) -> bool:
        return name in self.matches and self.matches[name].by == "pinned"

    def pin(self, theirs: str, match: Match) -> None:
        """Say that a candidate's tensor corresponds to one of the reference although it does not agree."""
        self.matches[theirs] = match
        tensor = self.trace.tensors[match.name]
        like = self.computed.get(theirs)
        dtype = str(like.dtype) if like is not None else None
        value = match.layout.to_candidate(tensor.value)
        if dtype == "uint8" and str(value.dtype) == "int8":
            value = (value.astype("int16") + SHIFT_OF_UINT8).astype("uint8")
        self.values[theirs] = array_dtype(value, dtype)

    def after(self, theirs: Iterable[str]) -> list[OperatorNode]:
        """Operators that depend on these tensors, in order, as far as no sound match lies in between."""
        found: set[str] = set()
        waiting = list(theirs)
        while waiting:
            for node in self.consumers.get(waiting.pop(), ()):
                if node.name not in found:
                    found.add(node.name)
                    waiting.extend(name for name in node.outputs if name)
        return [node for node in self.candidate.nodes if node.name in found]

    def unexplained(self) -> list[OperatorNode]:
        """Operators with an open result that never leads to a tensor of the reference, in order.

        An integer that agrees says nothing of the floating-point numbers that it came from: shapes, and most
        comparisons, stay the same when those are wrong. Only where these came from integers themselves it does: a
        division that is rounded.
        """
        vouched = set(self.matches)
        found: list[OperatorNode] = []
        for node in reversed(self.candidate.nodes):
            made = _made(node)
            good = [name for name in made if name in vouched and not self._is_wrong_end(name)]
            if any(_is_float(self.values.get(name)) for name in good):
                vouched.update(name for name in node.inputs if not self._is_blurred(name, node))
            elif good:
                vouched.update(
                    name for name in node.inputs if not _is_float(self.values.get(name)) or name in self.discrete
                )
            used = [name for name in made if self.consumers.get(name) or name in self.output_pairs]
            has_run = node.name in self.failed or all(name in self._made for name in made)
            is_size = node.name not in self.failed and not any(map(_is_array, map(self.values.get, made)))
            is_half_good = bool(good) and any(self._is_far(name) for name in used if name not in good)
            if used and has_run and not is_size and (not good or is_half_good):
                found.append(node)
        return found[::-1]

    def _is_wrong_end(self, name: str) -> bool:
        """Is this what the candidate returns, and far from what it should be? What else takes it does not vouch."""
        return name in self.output_pairs and name not in self.matches and self._is_far(name)

    def _is_far(self, name: str) -> bool:
        """Is an open result further from every tensor of the reference than rounding could bring it?"""
        value = self.computed.get(name)
        if value is None or not _is_float(value):
            return False
        ours = self.trace.tensors.get(self.output_pairs.get(name, ""))
        near = [ours] if ours is not None else self.index.of_size(value.size)
        return not any(_is_near(value, tensor.value) for tensor in near)

    @functools.cached_property
    def discrete(self) -> set[str]:
        """Tensors of the candidate that are made of integers, sizes and lone numbers alone: no weight goes in."""
        found = {name for name in self.candidate.inputs if not _is_float(self.values.get(name))}
        for node in self.candidate.nodes:
            is_size = role(node.operator) in SIZES
            if is_size or all(not name or name in found or self._is_setting(name) for name in node.inputs):
                found.update(_made(node))
        return found

    @functools.cached_property
    def constant(self) -> set[str]:
        """Tensors of the candidate that are made of weights and settings alone: the factor of a norm, spelt out."""
        found: set[str] = set()
        for node in self.candidate.nodes:
            given = [name for name in node.inputs if name]
            if given and all(name in found or self.candidate.constant(name) is not None for name in given):
                found.update(_made(node))
        return found

    def _is_setting(self, name: str) -> bool:
        value = self.candidate.constant(name)
        return value is not None and (value.size == 1 or not _is_float(value))

    def origin_region(self, ends: Sequence[str]) -> list[OperatorNode]:
        """Operators of the candidate on which tensors depend, up to matched ones, in order."""
        found: set[str] = set()
        waiting = list(ends)
        while waiting:
            node = self.makers.get(waiting.pop())
            if node is None or node.name in found:
                continue
            found.add(node.name)
            waiting.extend(name for name in node.inputs if name not in self.matches)
        return [node for node in self.candidate.nodes if node.name in found]

    def leaves(self, region: Iterable[OperatorNode]) -> list[Match]:
        """Matches of the tensors that a region takes from outside."""
        nodes = list(region)
        inside = {name for node in nodes for name in node.outputs}
        names = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in inside)
        return [self.matches[name] for name in names if name in self.matches]

    def family(self, theirs: str) -> str | None:
        """Family of the reference's tensor that a candidate's tensor is; None for open ones and constants."""
        match = self.matches.get(theirs)
        return self.trace.tensors[match.name].family if match is not None else None

    def try_run(self, node: OperatorNode, overlay: Mapping[str, Any]) -> dict[str, Any] | None:
        """One operator with some values replaced; None where it cannot be run."""
        try:
            return self.candidate.run(node, {**self.values, **overlay})
        except Unsupported:
            return None

    def find(self, value: Array, node: OperatorNode | None = None, name: str = "") -> Match | None:
        """The reference's tensor that an array agrees with, one of a similar operator first."""

        def prefer(tensor: CanonicalTensor) -> tuple[int, ...]:
            return self._preference(tensor, node, name)

        found = self.index.find(value, prefer=prefer, segment=self._floor, name=name)
        if found is None and hasattr(value, "dtype") and str(value.dtype) == "uint8":
            import numpy as np

            found = self.index.find((value.astype(np.int16) - SHIFT_OF_UINT8).astype(np.int8), prefer=prefer)
        return found

    def matched_names(self) -> set[str]:
        """Tensors of the reference that some tensor of the candidate agrees with or is pinned to."""
        return {match.name for match in self.matches.values()}

    def _step(self, node: OperatorNode) -> None:
        self.failed.pop(node.name, None)
        if all(map(self._is_pinned, _made(node))):
            return
        needed = [name for name in node.inputs if name and self.candidate.constant(name) is None]
        if any(name not in self.values for name in needed):
            for name in _made(node):
                self.values.pop(name, None)
                self.computed.pop(name, None)
                self._made.discard(name)
            return
        try:
            found = self.candidate.run(node, self.values)
        except Unsupported as error:
            self.failed[node.name] = error.what
            return
        for name, value in found.items():
            if not self._is_pinned(name):
                self._note(node, name, value)

    def _note(self, node: OperatorNode, name: str, value: Any) -> None:
        self._made.add(name)
        self.computed[name] = self.values[name] = value
        self.matches.pop(name, None)
        if not hasattr(value, "dtype"):
            return
        match = self.find(value, node, name)
        if self.trace.spill is not None:
            self.trace.spill.breathe()
        if match is None or self._is_near_miss(node, match):
            self.computed[name] = self.values[name] = self._held(value)
            return
        self.matches[name] = match
        if value.dtype.kind == "f":
            kept = match.layout.to_candidate(self.trace.tensors[match.name].value)
            moved = match.layout.axes is not None or match.layout.block > 0
            kept = self._held(kept) if moved else kept
            self.values[name] = kept if kept.dtype == value.dtype else array_dtype(kept, str(value.dtype))
        if len(node.outputs) == 1:  # of several results, one that agrees helps to pair the others
            del self.computed[name]

    def _held(self, value: Array) -> Array:
        """An array where the trace's values are, in memory or not."""
        spill = self.trace.spill
        return value if spill is None else spill.put(value)

    def _is_near_miss(self, node: OperatorNode, match: Match) -> bool:
        """Does the result agree with nothing but the operator's own input, and not as if it were the same?

        What is added to a variance may be within its noise; an operator that does nothing returns what it was given.
        """
        if match.ratio is None or match.ratio.rms <= 1.0 or moves_only(node.operator):
            return False
        return self.trace.tensors[match.name].family in {self.family(name) for name in node.inputs}

    def _preference(self, tensor: CanonicalTensor, node: OperatorNode | None, name: str) -> tuple[int, ...]:
        if node is None or tensor.maker < 0:
            return (1, 1, tensor.maker)
        maker = self._makers[tensor.maker]
        return (tensor.name != name, role(maker.operator) != role(node.operator), tensor.maker)

    def _floor(self, name: str) -> CanonicalTensor | None:
        """A tensor with the floor of the operators between it and those that are matched already."""
        key = (name, len(self.matches))
        if key not in self._floors:
            region = self.trace.region([name], self.matched_names() - {name})
            usable = 1 < len(region) <= _MAX_SEGMENT
            self._floors[key] = self.trace.with_segment_floor(name, region) if usable else None
        return self._floors[key]


def _made(node: OperatorNode) -> list[str]:
    return [name for name in node.outputs if name]


def _is_near(value: Array, other: Array) -> bool:
    """Do two arrays differ by so little that rounding in many operators could explain it?"""
    if value.size != other.size or other.dtype.kind != "f":
        return False
    error = deviation(value.reshape(other.shape), other)
    return error.incomparable == 0 and error.relative <= PLAUSIBLE


def _has_blocks(graph: Any) -> bool:
    """Are there operators of onnxruntime that keep channels in blocks?"""
    return any(proto.domain == _BLOCKED_DOMAIN for proto in getattr(graph, "protos", {}).values())


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype")  # torch passes sizes between operators, too


def _is_float(value: Any) -> bool:
    return _is_array(value) and value.dtype.kind in "fV"
