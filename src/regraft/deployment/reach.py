"""How far a verification reaches: what its feeds can show, feeds that show more, and the noise of eight bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.compare.coverage import fault_coverage
from regraft.compare.int8 import tap_noise
from regraft.compare.judge import Judgement, Threshold
from regraft.compare.search import Found, worst_feeds
from regraft.deployment.origins import Diagnosis, Pair, returned_tensors
from regraft.errors import BadFeeds, Unsupported
from regraft.progress import progress
from regraft.record.evidence import Draft, Finding, Severity, Where
from regraft.runtime.feeding import feeds_for
from regraft.runtime.graphs import operator_graph

if TYPE_CHECKING:
    from regraft.compare.measure import Yardstick
    from regraft.runtime.feeds import FeedCase

_LISTED = 8


def measure_coverage(
    draft: Draft, pair: Pair, cases: Sequence[FeedCase], yardstick: Yardstick, limits: Threshold, *, seed: int
) -> None:
    """The share of planted faults that these feeds bring to an output, as a measurement; why not, as a finding.

    Faults are planted in whichever of the two is ONNX, the reference first: they were found to be the same.
    """
    ours = type(pair.reference).__name__ == "OnnxRuntimeModel"
    model = pair.reference if ours else pair.candidate
    names = {name: name for name in pair.inputs} if ours else pair.inputs
    given = [_named(model, case, names) for case in cases]
    with progress("planting faults", total=1, unit="passes"):
        graph = operator_graph(model, given[0])
        returned = returned_tensors(model, graph, given[0])
        outputs = {a: returned[a if ours else b] for a, b in pair.outputs.items() if (a if ours else b) in returned}
        answers = list(yardstick.answers([case.feeds for case in cases]))
        found = fault_coverage(graph, given, answers, limits=limits, outputs=outputs, seed=seed)
    if found.share is None:
        message = f"fault coverage is unknown: {found.reason}"
        draft.find(Finding("feeds.coverage", Severity.INFO, message))
        return
    one = found.share
    draft.measure("fault_coverage", one.value, "1", low=one.low, high=one.high, n=one.n)
    if found.blind_operators:
        blind = ", ".join(found.blind_operators[:_LISTED])
        more = len(found.blind_operators) - _LISTED
        draft.find(
            Finding(
                "feeds.coverage",
                Severity.INFO,
                f"no feed would show the faults planted in {blind}" + (f" and {more} more" if more > 0 else ""),
                data={"operators": list(found.blind_operators)},
                fix="give data of your own: --feeds FILE",
            )
        )


def search_feeds(
    draft: Draft, pair: Pair, cases: Sequence[FeedCase], yardstick: Yardstick, limits: Threshold, *, seed: int
) -> Found | None:
    """Look for feeds that bring a divergence inside to an output; what was found is a finding."""
    try:
        found = worst_feeds(
            yardstick, pair.candidate, cases, inputs=pair.inputs, outputs=pair.outputs, limits=limits, seed=seed
        )
    except (Unsupported, BadFeeds) as error:
        draft.find(Finding("feeds.search", Severity.INFO, f"no other feeds could be looked for: {error.what}"))
        return None
    draft.measure("feeds_searched", found.passes, "passes")
    if found.judgement is Judgement.WITHIN or found.case is None or found.ratio is None:
        message = f"no feed of {found.passes} that were looked for brings the divergence inside to an output"
        draft.find(Finding("feeds.search", Severity.INFO, message))
        return found
    severity = Severity.HIGH if found.judgement is Judgement.BEYOND else Severity.UNKNOWN
    draft.find(
        Finding(
            f"divergence.{found.judgement}",
            severity,
            f"output {found.output}: {found.ratio.rms:.3g} noise floors RMS, on feeds that were looked for: "
            f"{found.case.name}",
            Where(field=found.output),
            data={"feeds": found.case.name, "feeds_seed": found.case.seed},
        )
    )
    return found


def measure_noise(draft: Draft, pair: Pair, cases: Sequence[FeedCase], diagnosis: Diagnosis | None) -> None:
    """Signal-to-noise ratio of each tensor that both have, in dB, for a candidate in eight bits."""
    located = diagnosis.localisation if diagnosis is not None else None
    pairs = located.pairs if located is not None else None
    graph = diagnosis.graphs[0] if diagnosis is not None and diagnosis.graphs is not None else None
    try:
        found = tap_noise(
            pair.reference,
            pair.candidate,
            [case.feeds for case in cases],
            inputs=pair.inputs,
            pairs=pairs,
            graph=graph,
        )
    except (Unsupported, BadFeeds) as error:
        draft.find(Finding("divergence.layers", Severity.INFO, f"no noise by layer: {error.what}"))
        return
    for order, tap in enumerate(found):
        if not math.isfinite(tap.snr_db):
            continue  # the two agree in every bit
        of = {"layer": tap.name, "candidate": tap.candidate, "operator": tap.operator, "order": order}
        draft.measure("layer_snr", tap.snr_db, "dB", n=tap.n, of=of)


def _named(model: Any, case: FeedCase, names: Mapping[str, str]) -> dict[str, Any]:
    return feeds_for(model, {names[name]: value for name, value in case.feeds.items() if name in names})
