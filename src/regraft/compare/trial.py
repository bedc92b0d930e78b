"""One part of a candidate beside the same part of its reference, to be tried on inputs of one's choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.allowance import Allowance, allowance
from regraft.compare.deviation import HUGE
from regraft.compare.matching import Layout, Match
from regraft.compare.noise import UNIT_ROUNDOFF
from regraft.compare.precision import lowered_weights
from regraft.errors import RegraftError, Unsupported
from regraft.runtime.region import Region, onnx_from_region, region_between

if TYPE_CHECKING:
    from regraft.compare.localise import Origin
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorGraph


class Outcome(msgspec.Struct, frozen=True):
    """What came of one trial.

    Attributes:
        inputs: candidate's tensor → value.
        computed: the candidate's end.
        expected: what the reference has there, in float64 where there are kernels, in the candidate's layout.
        limits: what rounding explains.
        margin: how many times the difference exceeds them; above 1 it is a divergence.
        own: what the reference itself makes of the inputs in its own precision; None where it cannot be run alone.
    """

    inputs: dict[str, Array]
    computed: Array
    expected: Array
    limits: Allowance
    margin: float
    own: Array | None = None

    @property
    def is_finite(self) -> bool:
        """Is there a number wherever one is expected?"""
        return math.isfinite(self.max_abs_error)

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference; infinite where the candidate has no number."""
        return float(self.limits.difference(self.computed, self.expected).max())


class Counterpart(msgspec.Struct, frozen=True):
    """The reference's part.

    Attributes:
        region: its operators.
        links: reference's tensor → (candidate's, layout of the candidate's array).
        layout: of the candidate's end.
        is_free: no two tensors of the candidate are the same one of the reference, so that each can be changed.
    """

    region: Region
    links: dict[str, tuple[str, Layout]]
    layout: Layout
    is_free: bool = True

    def inputs(self, theirs: Mapping[str, Array]) -> dict[str, Array]:
        """The reference's inputs, from the candidate's."""
        return {name: _turned(theirs[taken], layout) for name, (taken, layout) in self.links.items()}

    def run(self, theirs: Mapping[str, Array], precision: str) -> dict[str, Any]:
        """All tensors of the region, in the reference's layout."""
        return self.region.run(self.inputs(theirs), precision=precision)

    def as_candidate(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The end as the candidate has it."""
        return msgspec.structs.replace(self.layout, shape=shape).to_candidate(value)


class Trial(msgspec.Struct):
    """Both parts.

    Attributes:
        region: of the candidate.
        counterpart: None where the reference's part cannot be run by itself, or not on these inputs.
        given: the numbers of the origin.
        relative: floor at the end per RMS of the expected values, as the walk had it.
        optimise: let onnxruntime fuse and fold the candidate's part.
        lowered: precision to which the reference's weights were rounded, as the candidate's are; None for none.
        model: session of the candidate's part.
    """

    region: Region
    counterpart: Counterpart | None
    given: Any
    relative: float
    optimise: bool = True
    lowered: str | None = None
    model: Any = None

    def on(self, inputs: dict[str, Array]) -> Outcome | None:
        """Run both; None where one cannot be run, or their shapes differ.

        Args:
            inputs: candidate's tensor → value. Without a counterpart only those of the origin are meaningful.
        """
        try:
            computed = self.computed(inputs)
            if self.counterpart is None:
                return self.outcome(inputs, computed, self.given.expected, None)
            exact = self.counterpart.run(inputs, "float64")[self.counterpart.region.end]
            own = self.counterpart.run(inputs, "float32")[self.counterpart.region.end]
            if exact.size != computed.size:
                return None
            expected = self.counterpart.as_candidate(exact, computed.shape)
            return self.outcome(inputs, computed, expected, self.counterpart.as_candidate(own, computed.shape))
        except (RegraftError, ValueError):
            return None

    def outcome(self, inputs: dict[str, Array], computed: Array, expected: Array, own: Array | None) -> Outcome | None:
        """Judge an end; None where shapes or kinds differ."""
        if computed.shape != expected.shape or (computed.dtype.kind in "fV") != (expected.dtype.kind in "fV"):
            return None
        dtype = "float32" if self.relative else str(computed.dtype)  # a float16 island is no excuse for itself
        unit = UNIT_ROUNDOFF.get(dtype, UNIT_ROUNDOFF["float32"])
        limits = allowance(expected, own, unit=unit, relative=self.relative)
        return Outcome(inputs, computed, expected, limits, limits.margin(computed, expected), own)

    def computed(self, inputs: Mapping[str, Array]) -> Array:
        """The candidate's end, by onnxruntime.

        Raises:
            RegraftError: it does not run.
        """
        if self.model is None:
            self.model = session_of(self.region, inputs, optimise=self.optimise)
        found: Array = self.model(dict(inputs))[self.region.end]
        return found


def session_of(region: Region, inputs: Mapping[str, Array], *, optimise: bool) -> Any:
    """A model of a region that takes inputs of any size.

    Raises:
        Unsupported: the region is not of an ONNX graph, or onnxruntime refuses it.
    """
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    content = onnx_from_region(region, inputs, is_fixed=False).SerializeToString()
    model = OnnxRuntimeModel(content, threads=1, optimise=optimise, where=region.graph.where)
    model.allows_nan = True
    return model


def trial_of(
    origin: Origin, reference: OperatorGraph, candidate: OperatorGraph, pairs: Mapping[str, Match] | None
) -> tuple[Trial, Outcome]:
    """The part of an origin, as it diverges by itself.

    Args:
        origin: with a sample.
        reference, candidate: the graphs that were walked.
        pairs: candidate's tensor → what it is of the reference; None where all of them have the same layout.
    Raises:
        Unsupported: there are no numbers of the origin, the candidate is not of ONNX, or the part does not diverge
            by itself.
    """
    sample = origin.sample
    if sample is None:
        raise Unsupported("this origin has no numbers that could be reduced", where=candidate.where)
    if any(not hasattr(v, "dtype") or v.dtype.kind not in "fiub" for v in (*sample.inputs.values(), sample.expected)):
        raise Unsupported("only numbers can be written to a file of arrays", where=candidate.where)
    region = region_between(candidate, origin.candidate_tensor, sample.inputs)
    lowered = lowered_weights(reference, candidate)
    right = reference
    if lowered is not None:
        right = reference.with_rounded_weights(lowered.precision, kept=lowered.kept)
    relative = _relative(origin)
    inputs = {name: sample.inputs[name] for name in region.inputs}
    for counterpart in (_counterpart(origin, right, inputs, pairs), None):
        for optimise in (True, False):
            trial = Trial(
                region, counterpart, sample, relative, optimise, lowered.precision if lowered is not None else None
            )
            trial.computed(inputs)  # what cannot be run at all is told by its own message
            found = trial.on(inputs)
            if found is not None and found.margin > 1 and _is_as_expected(trial, found):
                return trial, found
    raise Unsupported(
        "the operators of this origin do not diverge by themselves: run alone, they stay within rounding",
        where=candidate.where,
    )


def _is_as_expected(trial: Trial, found: Outcome) -> bool:
    """Does the reference's part by itself give what the reference has at the end?"""
    if trial.counterpart is None:
        return True
    return found.limits.margin(trial.given.expected.reshape(found.expected.shape), found.expected) <= 1


def _relative(origin: Origin) -> float:
    import numpy as np

    assert origin.sample is not None
    expected = origin.sample.expected
    if origin.ratio is None or expected.dtype.kind != "f":
        return 0.0
    usable = expected[np.isfinite(expected) & (np.abs(expected) < HUGE)].astype(np.float64)
    scale = float(np.sqrt(np.square(usable).mean())) if usable.size else 0.0
    return origin.ratio.floor / scale if scale > 0 else 0.0


def _counterpart(
    origin: Origin, reference: OperatorGraph, inputs: Mapping[str, Array], pairs: Mapping[str, Match] | None
) -> Counterpart | None:
    """The reference's part; None where it cannot be cut out so."""
    if pairs is None:
        if len(origin.before) != len(inputs):
            return None
        paired = zip(origin.before, inputs, strict=True)
        links = {ours: (theirs, Layout(inputs[theirs].shape)) for ours, theirs in paired}
        layout = Layout(origin.sample.expected.shape) if origin.sample is not None else Layout(())
    else:
        if not all(name in pairs for name in (*inputs, origin.candidate_tensor)):
            return None
        links = {pairs[name].name: (name, pairs[name].layout) for name in inputs}
        layout = pairs[origin.candidate_tensor].layout
    try:
        is_inserted = origin.tensor in links  # the end is what should have gone through unchanged
        region = (
            Region(reference, (), (origin.tensor,), origin.tensor)
            if is_inserted
            else region_between(reference, origin.tensor, links)
        )
    except Unsupported:
        return None
    is_free = len(links) == len(inputs)
    return Counterpart(region, {name: links[name] for name in region.inputs}, layout, is_free)


def _turned(value: Array, layout: Layout) -> Array:
    """The candidate's array in the reference's order of axes."""
    if layout.block:
        return msgspec.structs.replace(layout, shape=value.shape).to_reference(value, value.shape)
    return value if layout.axes is None else value.transpose(layout.axes)
