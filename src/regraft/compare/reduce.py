"""The smallest graph and input that still diverge, as a folder that runs by itself.

Source: the order of steps follows delta debugging (Zeller and Hildebrandt, 2002): try a smaller case, run it, keep it
if it still diverges. Every smaller case is judged against the reference run on the same inputs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.matching import Layout, Match, layouts
from regraft.compare.reproduction import write_reproduction
from regraft.compare.trial import Counterpart, Outcome, Trial, session_of, trial_of
from regraft.errors import RegraftError
from regraft.package.product import new_package
from regraft.runtime.region import Region, region_between

if TYPE_CHECKING:
    from regraft.compare.localise import Origin
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorGraph

_SURE = 4.0
"""A smaller case has to exceed the limits so many times, or by as much as the whole one does: it shall also diverge on
other machines."""
_SIZES = (1, 2, 3, 4, 8, 16, 32)
_PARTS = 256
"""Into how many parts an input is divided at most to find those that may be zero."""


class Reduction(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        folder: where.
        operators: of the candidate that are left.
        elements: of all inputs that are left.
        nonzero: of these, the ones that are not zero.
        max_abs_error: largest absolute difference at the end.
        files: names in the folder.
    """

    folder: Path
    operators: int
    elements: int
    nonzero: int
    max_abs_error: float
    files: tuple[str, ...]


def reduce_origin(
    origin: Origin,
    reference: OperatorGraph,
    candidate: OperatorGraph,
    folder: Path,
    *,
    pairs: Mapping[str, Match] | None = None,
    time_s: float = 30.0,
) -> Reduction:
    """Write the smallest part and input of a candidate that still diverge.

    Args:
        origin: of a localisation of these two graphs.
        reference: any graph; its part is written too where it is ONNX.
        candidate: an ONNX graph.
        folder: to write; it must not exist, or be empty. It appears whole, or not at all.
        pairs: `Localisation.pairs`, which say how tensors correspond; None where the inputs of the origin do in
            order and have the same layout.
        time_s: after which no smaller case is tried.
    Raises:
        UsageError: something is in the folder, or its parent does not exist.
        Unsupported: the candidate is not of ONNX, the origin has no numbers (an operator that stops, an output that
            is returned in place of another), or its operators by themselves do not diverge.
    """
    with new_package(folder) as target:
        trial, outcome = trial_of(origin, reference, candidate, pairs)
        reducer = _Reducer(trial, outcome, deadline=time.monotonic() + time_s)
        reducer.drop_behind()
        reducer.cut_sizes()
        reducer.clear_values()
        region, inputs, outcome = reducer.without_front(origin)
        write_reproduction(target, origin, reducer.trial, region, inputs, outcome)
        files = tuple(sorted(path.name for path in target.iterdir()))
    elements = sum(value.size for value in inputs.values())
    nonzero = sum(int((value != 0).sum()) for value in inputs.values())
    return Reduction(folder, len(region.nodes), elements, nonzero, outcome.max_abs_error, files)


class _Reducer:
    """A trial that becomes smaller.

    Args:
        trial, outcome: the whole part, and that it diverges.
        deadline: of `time.monotonic`.
    """

    def __init__(self, trial: Trial, outcome: Outcome, *, deadline: float) -> None:
        self.trial = trial
        self.outcome = outcome
        self._deadline = deadline
        self._wanted = min(_SURE, outcome.margin)
        self._is_finite = outcome.is_finite

    def drop_behind(self) -> None:
        """End earlier: at a tensor with which, set right, everything behind it comes out right."""
        whole, counterpart = self.trial.region, self.trial.counterpart
        if counterpart is None:
            return
        try:
            theirs = whole.run(self.outcome.inputs)
            exact = counterpart.run(self.outcome.inputs, "float64")
        except RegraftError:
            return
        inner = [name for node in whole.nodes for name in node.outputs if name and name != whole.end]
        ours = [name for node in counterpart.region.nodes for name in node.outputs if name]
        for name, other in itertools.product(inner, ours):
            if self._is_late() or self._end_at(name, other, theirs, exact[other]):
                return

    def cut_sizes(self) -> None:
        """Cut axes of the inputs, all of one extent together, to the smallest extent that does."""
        counterpart = self.trial.counterpart
        if counterpart is None or not counterpart.is_free:
            return
        for places in list(_axes_by_extent(self.outcome.inputs)):
            first = [place for place in places if place[1] == 0]
            for chosen in (places, first) if first and first != places else (places,):
                if self._cut(chosen):
                    break

    def clear_values(self) -> None:
        """Set numbers of the inputs to zero, in ever smaller parts."""
        if self.trial.counterpart is None or not self.trial.counterpart.is_free:
            return
        for name in sorted(self.outcome.inputs, key=lambda one: -self.outcome.inputs[one].size):
            size = self.outcome.inputs[name].size
            part = size
            while part >= max(1, size // _PARTS) and not self._is_late():
                for start in range(0, size, part):
                    self._clear(name, start, part)
                part = part // 2

    def without_front(self, origin: Origin) -> tuple[Region, dict[str, Array], Outcome]:
        """Without the operators before those that are proven to be at fault; their results become inputs."""
        region, outcome = self.trial.region, self.outcome
        guilty = {name for node in region.nodes if node.name in origin.candidate for name in node.outputs}
        if origin.by != "proven" or not guilty:
            return region, outcome.inputs, outcome
        first = [node for node in region.nodes if node.name in origin.candidate]
        kept = {node.name for node in (*first, *region.behind(guilty))}
        dropped = [node for node in region.nodes if node.name not in kept]
        if not dropped:
            return region, outcome.inputs, outcome
        try:
            values = region.run(outcome.inputs)
            starts = {name for node in dropped for name in node.outputs if name} | set(outcome.inputs)
            smaller = region_between(region.graph, region.end, starts)
            inputs = {name: values[name] for name in smaller.inputs}
            if any(not hasattr(value, "dtype") or value.dtype.kind not in "fiub" for value in inputs.values()):
                return region, outcome.inputs, outcome
            computed = session_of(smaller, inputs, optimise=self.trial.optimise)(inputs)[region.end]
        except RegraftError:
            return region, outcome.inputs, outcome
        found = self.trial.outcome(outcome.inputs, computed, outcome.expected, outcome.own)
        if found is None or found.margin < self._wanted:
            return region, outcome.inputs, outcome
        return smaller, inputs, found

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _try(self, trial: Trial, inputs: dict[str, Array]) -> bool:
        """Keep a smaller case if it still diverges."""
        if self._is_late():
            return False
        found = trial.on(inputs)
        if found is None or not found.margin >= self._wanted or (self._is_finite and not found.is_finite):
            return False
        self.trial, self.outcome = trial, found
        return True

    def _end_at(self, name: str, other: str, theirs: Mapping[str, Any], exact: Any) -> bool:
        value = theirs[name]
        if not _is_alike(value, exact):
            return False
        for layout in layouts(value.shape, exact.shape):
            if self._is_mended_by(name, layout.to_candidate(exact).astype(value.dtype), theirs):
                return self._shortened(name, other, layout)
        return False

    def _is_mended_by(self, name: str, right: Any, theirs: Mapping[str, Any]) -> bool:
        """Does the end come out right once a tensor before it is?"""
        region = self.trial.region
        behind = region.behind([name])
        made = {output for node in behind for output in node.outputs}
        known = {known: value for known, value in theirs.items() if known not in made} | {name: right}
        try:
            end = Region(region.graph, tuple(behind), (), region.end).run(known)[region.end]
        except RegraftError:
            return False
        return self.outcome.limits.margin(end, self.outcome.expected) <= 1

    def _shortened(self, theirs: str, ours: str, layout: Layout) -> bool:
        trial, counterpart, inputs = self.trial, self.trial.counterpart, self.outcome.inputs
        assert counterpart is not None
        part = region_between(counterpart.region.graph, ours, counterpart.links)
        links = {name: counterpart.links[name] for name in part.inputs}
        region = region_between(trial.region.graph, theirs, inputs)
        beside = Counterpart(part, links, layout, counterpart.is_free)
        shorter = msgspec.structs.replace(trial, region=region, counterpart=beside, model=None)
        return self._try(shorter, {name: inputs[name] for name in region.inputs})

    def _cut(self, places: list[tuple[str, int]]) -> bool:
        name, axis = places[0]
        extent = self.outcome.inputs[name].shape[axis]
        for size in (one for one in _SIZES if one < extent):
            for start in dict.fromkeys((self._worst(extent, size), 0)):
                inputs = dict(self.outcome.inputs)
                for taken, position in places:
                    index = [slice(None)] * inputs[taken].ndim
                    index[position] = slice(start, start + size)
                    inputs[taken] = inputs[taken][tuple(index)].copy()
                if self._try(self.trial, inputs):
                    return True
        return False

    def _worst(self, extent: int, size: int) -> int:
        """Where to cut so that what differs most stays inside."""
        import numpy as np

        error = self.outcome.limits.difference(self.outcome.computed, self.outcome.expected)
        for axis, other in enumerate(error.shape):
            if other == extent:
                return min(int(np.unravel_index(int(error.argmax()), error.shape)[axis]), extent - size)
        return 0

    def _clear(self, name: str, start: int, count: int) -> None:
        value = self.outcome.inputs[name]
        flat = value.ravel()
        if not flat[start : start + count].any():
            return
        cleared = flat.copy()
        cleared[start : start + count] = 0
        self._try(self.trial, {**self.outcome.inputs, name: cleared.reshape(value.shape)})


def _axes_by_extent(inputs: Mapping[str, Array]) -> Iterator[list[tuple[str, int]]]:
    """Axes of the inputs with the same extent, leading axes first; extents of 1 cannot be cut."""
    found: dict[int, list[tuple[str, int]]] = {}
    deepest = max((value.ndim for value in inputs.values()), default=0)
    for axis in range(deepest):
        for name, value in inputs.items():
            if axis < value.ndim and value.shape[axis] > 1:
                found.setdefault(value.shape[axis], []).append((name, axis))
    yield from found.values()


def _is_alike(value: Any, exact: Any) -> bool:
    """Numbers, as many, and of the same kind?"""
    if not hasattr(value, "dtype") or value.dtype.kind not in "fiub" or exact.size != value.size:
        return False
    return bool((value.dtype.kind == "f") == (exact.dtype.kind == "f"))
