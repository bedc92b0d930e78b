"""What a verification found, as findings and measurements of its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from regraft.compare.judge import Judgement, OutputJudgement, Threshold
from regraft.compare.layers import Layer
from regraft.compare.measure import OutputSeries, Tolerance
from regraft.compare.reduce import Reduction
from regraft.deployment.origins import Diagnosis
from regraft.errors import Crashed, LimitExceeded, RegraftError
from regraft.record.evidence import Draft, Finding, Severity, Verdict, Where
from regraft.runtime.feeds import FeedCase

_UNIT = "noise floors"
_MAX_SHOWN, _MAX_NAMED = 3, 64
_SEVERITIES = {Judgement.BEYOND: Severity.HIGH, Judgement.UNDECIDED: Severity.UNKNOWN}


def impossible(error: RegraftError | MemoryError, role: str, *, rule: str = "verify.cannot_run") -> Finding:
    """A step that was not possible, which is unknown and no pass."""
    what = error.what if isinstance(error, RegraftError) else "there is not enough memory"
    hint = error.hint if isinstance(error, RegraftError) else ""
    rule = "verify.crashed" if isinstance(error, Crashed) else rule
    rule = "verify.memory" if isinstance(error, LimitExceeded) else rule
    return Finding(rule, Severity.UNKNOWN, f"{role}: {what}" if role else what, fix=hint or None)


def report_refused(
    draft: Draft, refused: Iterable[tuple[FeedCase, str, RegraftError]], *, tried: int, has_own: bool = False
) -> None:
    """Feeds that one of the models does not take.

    Args:
        draft: takes findings and counts.
        refused: feeds, who refused them, how.
        tried: of how many.
        has_own: inputs of the user's own were compared: then sizes that were made up, and that the candidate refuses
            where the reference takes them, are a note; else they are unknown.
    """
    counts = {"reference": 0, "candidate": 0}
    for case, who, error in refused:
        counts[who] += 1
        is_note = who == "reference" or (has_own and case.values != "data")
        if counts[who] == 1:
            draft.find(
                Finding(
                    "verify.crashed" if isinstance(error, Crashed) else f"feeds.refused_by_{who}",
                    Severity.INFO if is_note else Severity.UNKNOWN,
                    f"the {who} does not run on {case.name}: {error.what}",
                    data={"feeds": case.name},
                    fix=error.hint or ("give inputs that both take: --feeds FILE" if who == "candidate" else None),
                )
            )
    draft.measure("feeds_tried", tried, "passes")
    for who, count in counts.items():
        if count:
            draft.measure(f"feeds_refused_by_{who}", count, "passes", n=tried)
    if tried and sum(counts.values()) == tried:
        draft.find(Finding("verify.cannot_run", Severity.UNKNOWN, "there are no feeds on which both models run"))


def report_outputs(
    draft: Draft,
    series: Sequence[OutputSeries],
    judged: Sequence[OutputJudgement],
    cases: Sequence[FeedCase],
    limits: Threshold,
) -> None:
    """Ratios, floors and what exceeds them, output by output."""
    for one, judgement in zip(series, judged, strict=True):
        case = cases[judgement.worst]
        of = {"output": one.name, "feeds": case.name, "floor": limits.method, "precision": limits.precision}
        deviation = one.candidate[judgement.worst]
        if judgement.ratios:
            worst = judgement.ratios[judgement.worst]
            n = sum(part.n for part in one.candidate)
            draft.measure("rms_ratio", worst.rms, _UNIT, n=n, of={**of, "benign_up_to": limits.benign_rms})
            draft.measure("peak_ratio", worst.peak, _UNIT, n=n, of={**of, "benign_up_to": limits.benign_peak})
            draft.measure("noise_floor", worst.floor, "output units", n=deviation.n, of=of)
            draft.measure("relative_error", deviation.relative, "1", n=deviation.n, of=of)
            largest = max(part.peak for part in one.candidate)
            draft.measure("max_abs_error", largest, "output units", n=n, of={"output": one.name})
        own = one.own.get(limits.precision, [])
        if lost := sum(part.incomparable for part in own):
            message = f"output {one.name}: the reference's own run loses {lost} values that float64 has: not compared"
            draft.find(Finding("feeds.lost_by_reference", Severity.INFO, message, Where(field=one.name)))
        if one.cosines:
            draft.measure("cosine_min", min(one.cosines), "1", n=len(one.cosines), of={"output": one.name})
        if judgement.judgement is not Judgement.WITHIN:
            draft.find(
                Finding(
                    f"divergence.{judgement.judgement}",
                    _SEVERITIES[judgement.judgement],
                    f"output {one.name}: {judgement.reason}, on {case.name}",
                    Where(field=one.name),
                    data={"feeds": case.name, "feeds_seed": case.seed},
                )
            )
        elif one.says_nothing:
            draft.find(
                Finding(
                    "feeds.unexercised",
                    Severity.UNKNOWN,
                    f"output {one.name} has one and the same value on all feeds: nothing was compared",
                    Where(field=one.name),
                    fix="give data of your own: --feeds FILE",
                )
            )
    draft.measure(
        "false_alarm_share",
        limits.false_alarms / limits.benign_cases,
        "1",
        high=limits.false_alarm_bound_by_architecture,
        n=limits.benign_cases,
        of={"architectures": limits.architectures, "bound": "one-sided 95 %, by architecture"},
    )


def report_decisions(draft: Draft, series: Sequence[OutputSeries]) -> None:
    """Decisions that differ, with and without those that the floor explains."""
    for one in series:
        if one.decisions:
            n = sum(found.n for found in one.decisions)
            flips = sum(found.flips for found in one.decisions)
            excused = sum(found.excused for found in one.decisions)
            draft.measure("decision_flips", flips, "decisions", n=n, of={"output": one.name})
            draft.measure("decision_flips_beyond_floor", flips - excused, "decisions", n=n, of={"output": one.name})


def undecidable(effective: str, judged: str) -> Finding:
    """That nothing judges a candidate in this precision."""
    return Finding(
        "precision.needs_task_data",
        Severity.UNKNOWN,
        f"rounding to {judged} has no noise floor: whether it still decides as the reference does is a question to "
        "data of the task",
        data={"effective": effective},
        fix="compare the decisions on labelled data: --data REF, or give fixed limits: --atol and --rtol",
    )


def report_tolerance(
    draft: Draft, series: Sequence[OutputSeries], cases: Sequence[FeedCase], tolerance: Tolerance
) -> Verdict:
    """Elements beyond fixed limits, and the verdict that follows."""
    total = 0
    for one in series:
        beyond = sum(one.exceeding)
        total += beyond
        n = sum(part.n for part in one.candidate)
        draft.measure("elements_beyond_tolerance", beyond, "elements", n=n, of={"output": one.name})
        if beyond:
            case = cases[max(range(len(cases)), key=lambda i, one=one: one.exceeding[i])]  # type: ignore[misc]
            draft.find(
                Finding(
                    "divergence.tolerance",
                    Severity.HIGH,
                    f"output {one.name}: {beyond} of {n} elements differ by more than "
                    f"{tolerance.atol:g} + {tolerance.rtol:g} × |reference|, most on {case.name}",
                    Where(field=one.name),
                    data={"feeds": case.name, "feeds_seed": case.seed},
                )
            )
    return Verdict.FAIL if total else Verdict.PASS


def report_origins(draft: Draft, diagnosis: Diagnosis, *, diverges: bool) -> None:
    """One finding an origin, in the candidate's order; the outputs alone decide how grave it is."""
    found = diagnosis.localisation
    if found is None:
        _report_strangers(draft, diagnosis, diverges=diverges)
        return
    severity = Severity.HIGH if diverges else Severity.LOW
    for origin in found.origins:
        ours, theirs = _region(origin.reference), _region(origin.candidate)
        place = ours if ours == theirs else f"{theirs or 'something missing'} in place of {ours or 'nothing'}"
        cause = origin.cause or "unknown cause"
        detail = origin.detail if _begins_with(origin.detail, origin.cause) else f"{cause}: {origin.detail}"
        ratio = f", {origin.ratio.rms:.3g} noise floors there" if origin.ratio is not None else ""
        optimised = " (in the graph that the runtime's optimiser makes)" if diagnosis.of_optimised else ""
        draft.find(
            Finding(
                "divergence.origin",
                severity,
                f"{place}: {detail}{ratio}{optimised}",
                Where(reference=ours or None, candidate=theirs or origin.candidate_tensor or None),
                data={
                    "cause": origin.cause,
                    "ratio": origin.ratio.rms if origin.ratio is not None else None,
                    "peak_ratio": origin.ratio.peak if origin.ratio is not None else None,
                    "residual": origin.residual.rms if origin.residual is not None else None,
                    "certainty": origin.by,
                    "reference_operators": list(origin.reference[:_MAX_NAMED]),
                    "candidate_operators": list(origin.candidate[:_MAX_NAMED]),
                    "reference_tensor": origin.tensor,
                    "candidate_tensor": origin.candidate_tensor,
                    "feeds": diagnosis.case.name,
                },
            )
        )
    if not found.origins and diverges:
        message = (
            "each operator by itself agrees with the reference; the divergence arises in how the runtime runs them"
        )
        draft.find(Finding("divergence.unlocated", Severity.INFO, message))
    if not found.complete:
        message = "behind the last origin nothing corresponds, so that other origins may follow"
        draft.find(Finding("divergence.unlocated", Severity.INFO, message))
    if found.stopped:
        draft.find(
            Finding("divergence.unlocated", Severity.INFO, f"the reference could be followed up to {found.stopped}")
        )
    draft.parameters["localised_on"] = diagnosis.case.name
    draft.measure("tensors_paired", len(found.pairs), "tensors", n=len(found.pairs) + len(found.unmatched))


def report_reduction(draft: Draft, reduction: Reduction) -> None:
    """Where the small case lies, and how small it is."""
    files = ", ".join(reduction.files)
    message = (
        f"the first origin, reduced to {reduction.operators} operators and {reduction.elements} numbers, "
        f"is in {reduction.folder.name}: {files}"
    )
    draft.find(Finding("divergence.reduced", Severity.INFO, message, fix="run run.py there; ISSUE.md can be filed"))
    draft.measure("reduced_operators", reduction.operators, "operators")
    draft.measure("reduced_max_abs_error", reduction.max_abs_error, "output units", n=reduction.elements)


def _report_strangers(draft: Draft, diagnosis: Diagnosis, *, diverges: bool) -> None:
    """A recording cannot be run again: what agrees in it is told, and from where on nothing does."""
    if diverges and diagnosis.strangers:
        last = max(diagnosis.layers, key=lambda layer: layer.order, default=None)
        since = (
            f"{last.candidate} is the last that agrees with the reference ({last.name})" if last else "nothing agrees"
        )
        draft.find(
            Finding(
                "divergence.origin",
                Severity.HIGH,
                f"{since}; {diagnosis.strangers[0]} is the first that is no tensor of the reference. "
                f"Operators were not run one by one: {diagnosis.reason}",
                Where(reference=last.name if last else None, candidate=diagnosis.strangers[0]),
                data={"cause": None, "certainty": "likely", "feeds": diagnosis.case.name},
            )
        )
    else:
        draft.find(
            Finding("divergence.unlocated", Severity.INFO, f"operators were not run one by one: {diagnosis.reason}")
        )


def _begins_with(detail: str, cause: str | None) -> bool:
    return cause is not None and detail.startswith(f"{cause} ")


def _region(names: Sequence[str]) -> str:
    """Names of operators, shortened in the middle."""
    if len(names) <= _MAX_SHOWN:
        return " + ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names)} operators)"


def report_layers(draft: Draft, layers: Sequence[Layer], case: FeedCase) -> None:
    """One measurement a layer, in the reference's order of execution."""
    if not layers:
        draft.find(Finding("divergence.layers", Severity.INFO, "no tensor inside of one is one of the other"))
    for layer in layers:
        of = {"layer": layer.name, "operator": layer.operator, "scope": layer.scope, "order": layer.order,
              "candidate": layer.candidate}  # fmt: skip
        peak = float(f"{layer.peak_ratio:.4g}")
        draft.measure("layer_rms_ratio", layer.rms_ratio, _UNIT, of={**of, "peak_ratio": peak})
    if layers:
        draft.parameters["layers_on"] = case.name


def summary_of(verdict: Verdict, findings: Sequence[Finding], judged: Sequence[OutputJudgement]) -> str:
    """One sentence."""
    if verdict is Verdict.PASS:
        worst = max((max(r.rms for r in one.ratios) for one in judged if one.ratios), default=None)
        if worst is None:
            decided = [finding.message for finding in findings if finding.rule == "decisions.compared"]
            return decided[0] if decided else "the candidate answers as the reference does"
        return f"rounding explains every difference: at most {worst:.2g} noise floors RMS"
    wanted = [finding for finding in findings if finding.severity.verdict is verdict]
    return wanted[0].message if wanted else "it could not be decided"
