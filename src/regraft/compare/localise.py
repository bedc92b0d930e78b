"""Where a candidate stops being the reference: every independent origin of a divergence, as small as can be shown.

One teacher-forced walk finds the operators whose results never lead back to the reference. The first of them is
explained, its result is replaced by what it should have been, and the walk goes on behind it, so that several faults
are found in one pass. Source: docs/adr/0021-localisation-by-value.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.canonical import CanonicalTrace
from regraft.compare.explain import Explainer, Explanation
from regraft.compare.matching import Match
from regraft.compare.noise import Ratio
from regraft.compare.precision import lowered_weights
from regraft.compare.walk import Walk

if TYPE_CHECKING:
    from regraft.compare.kept import FloorCache
    from regraft.runtime.interface import Array, Feeds
    from regraft.runtime.operator_graph import OperatorGraph
    from regraft.runtime.spill import Spill

MAX_ORIGINS = 16
TAUGHT_AT_ONCE = 12
"""Suspects that are run on the reference's values in a runtime where single operators are expensive."""


class Sample(msgspec.Struct, frozen=True):
    """The numbers of a region, as the candidate has them.

    Attributes:
        inputs: candidate's tensor → the reference's value in the candidate's layout.
        computed: what the candidate makes of them at the end of the region.
        expected: what the reference has there, in the candidate's layout.
    """

    inputs: dict[str, Array]
    computed: Array
    expected: Array


class Origin(msgspec.Struct, frozen=True):
    """A place where the candidate computes something else than the reference.

    Attributes:
        reference: operators of the reference in the smallest region that contains the fault, in order; empty
            where the candidate has something that the reference has not.
        candidate: operators of the candidate in that region; empty where something is missing.
        tensor: reference's tensor at the end of the region.
        candidate_tensor: candidate's tensor there; empty where it has none.
        cause: a word for what is wrong (`epsilon`, `weight_transposed`, …); None when no hypothesis holds.
        detail: the cause in words, with both values.
        ratio: divergence at the end of the region, in noise floors of its operators; None for integers, shapes
            and operators that stopped.
        residual: what remains of it once the cause is mended; None without a cause.
        by: how sure the place is: `proven` (mending it brings the divergence into the floor), `confirmed` (what
            follows agrees again behind it), `likely`.
        before: tensors of the reference that go into the region.
        sample: what goes in and comes out there; None where nothing does.
    """

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
    sample: Sample | None = None


class Localisation(msgspec.Struct, frozen=True):
    """What a walk found.

    Attributes:
        origins: in the candidate's order; empty when every result leads back to the reference.
        pairs: candidate's tensor → the reference's that it is, with layout and ratio.
        unmatched: tensors of the candidate that are none of the reference's, by themselves no fault.
        islands: operators of the reference whose floor had to be taken from jittered runs.
        stopped: why the reference itself could not be run to its end; empty otherwise.
        complete: False when an origin could not be passed, so that what follows was not looked at.
        lowered: precision to which the candidate's weights were rounded, which is no fault of the place where it
            shows: the reference was given weights of that precision, too. None where they were not.
    """

    origins: tuple[Origin, ...]
    pairs: dict[str, Match]
    unmatched: tuple[str, ...]
    islands: tuple[str, ...]
    stopped: str
    complete: bool
    lowered: str | None = None


def localise(
    reference: OperatorGraph,
    candidate: OperatorGraph,
    feeds: Feeds,
    *,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    precision: str = "float32",
    trace: CanonicalTrace | None = None,
    floors: FloorCache | None = None,
    spill: Spill | None = None,
) -> Localisation:
    """Find every origin of a divergence between two graphs.

    Args:
        reference: what counts as right.
        candidate: what is in question.
        feeds: one set of inputs by the reference's names; sizes that differ between axes make layouts findable.
        inputs: reference's input → candidate's; None where the names are the same.
        outputs: reference's output → candidate's; None where the names or positions are the same.
        precision: whose rounding counts as noise.
        trace: canonical trace of the reference on these feeds, where it is known already.
        floors: where canonical traces of this reference are kept.
        spill: where values of the trace are put, so that few of them are in memory; None to hold them.
    Raises:
        Unsupported: the reference does not run on these feeds at all.
    """
    lowered = lowered_weights(reference, candidate)
    weights = ""
    if lowered is not None:
        reference, trace = reference.with_rounded_weights(lowered.precision, kept=lowered.kept), None
        weights = f"{lowered.precision} {sorted(lowered.kept)}"
    if floors is not None:
        known = trace or floors.canonical(reference, feeds, precision=precision, weights=weights, spill=spill)
    else:
        known = trace or CanonicalTrace(reference, feeds, precision=precision, spill=spill)
    pairs = inputs or {name: name for name in feeds if name in candidate.inputs}
    returned = outputs or dict(zip(reference.outputs, candidate.outputs, strict=False))
    walk = Walk(known, candidate, inputs=pairs, outputs=returned)
    walk.run()
    origins, complete = _origins(walk)
    origins += misplaced_outputs(walk)
    unmatched = tuple(name for name in walk.computed if name not in walk.matches)
    return Localisation(
        _merged(origins),
        dict(walk.matches),
        unmatched,
        tuple(known.islands),
        known.stopped,
        complete,
        lowered.precision if lowered is not None else None,
    )


def _origins(walk: Walk) -> tuple[list[Origin], bool]:
    """One origin after the other, each mended before what is behind it is looked at; whether all could be passed."""
    origins: list[Origin] = []
    while len(origins) < MAX_ORIGINS:
        suspects = walk.unexplained()
        if not suspects:
            break
        if walk.teach(
            walk.origin_region([name for node in suspects[:TAUGHT_AT_ONCE] for name in node.outputs if name])
        ):
            continue
        explanation = Explainer(walk, suspects).explain()
        fields = {name: getattr(explanation, name) for name in Explanation.__struct_fields__ if name != "pins"}
        origins.append(Origin(**fields, sample=_sample(walk, explanation)))
        if not explanation.pins:
            return origins, False
        for theirs, match in explanation.pins.items():
            walk.pin(theirs, match)
        walk.run(walk.after(explanation.pins))
    return origins, True


def _sample(walk: Walk, explanation: Explanation) -> Sample | None:
    theirs = explanation.candidate_tensor
    computed = walk.computed.get(theirs)
    match = explanation.pins.get(theirs)
    if computed is None or match is None or computed.size != walk.trace.tensors[match.name].value.size:
        return None
    region = walk.origin_region([theirs])
    names = [name for node in region for name in node.inputs if name in walk.matches and name in walk.values]
    inputs = {name: walk.values[name] for name in dict.fromkeys(names)}
    return Sample(inputs, computed, match.layout.to_candidate(walk.trace.tensors[match.name].value))


def misplaced_outputs(walk: Walk) -> list[Origin]:
    """Outputs that are some other tensor of the reference than the one that is returned there."""
    trace = walk.trace
    found = []
    for theirs, ours in walk.output_pairs.items():
        match, tensor = walk.matches.get(theirs), trace.tensors.get(ours)
        if match is None or tensor is None or match.by == "pinned" or trace.tensors[match.name].family == tensor.family:
            continue
        if match.layout.axes is None and walk.index.agrees(walk.values[theirs], tensor) is not None:
            continue
        missing = trace.region([ours], [match.name, *walk.matched_names() - {ours}])
        is_behind = trace.tensors[match.name].family in trace.leaves(missing)
        cause, detail = ("node_missing", "is missing at the end") if is_behind else ("output_order", "is returned")
        maker = trace.graph.nodes[tensor.maker].name if tensor.maker >= 0 else ""
        names = tuple(node.name for node in missing) if is_behind else (maker,)
        said = " and ".join(node.operator for node in missing) if is_behind else f"{match.name} in place of {ours}"
        found.append(Origin(names, (), ours, theirs, cause, f"{said} {detail}", None, None, "proven", (match.name,)))
    return found


def _merged(origins: Sequence[Origin]) -> tuple[Origin, ...]:
    """Origins with one region and cause are one: a weight that two layers share."""
    found: dict[tuple[object, ...], Origin] = {}
    for origin in origins:
        key = (origin.reference, origin.cause) if origin.reference else (origin.candidate, origin.tensor)
        same = found.get(key)
        together = same.candidate + origin.candidate if same is not None else origin.candidate
        found[key] = msgspec.structs.replace(same or origin, candidate=tuple(dict.fromkeys(together)))
    return tuple(found.values())
