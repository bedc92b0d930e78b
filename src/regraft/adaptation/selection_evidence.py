"""What a selection amounts to, as evidence: the choice with its reasons, ties, numbers, and what is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from regraft.adaptation.constraints import Judged
from regraft.adaptation.intervals import Interval
from regraft.adaptation.learning_curve import DRAWS
from regraft.adaptation.probe import FOLDS, REPEATS
from regraft.adaptation.ranking import Competitor, Ranking, regret
from regraft.record.digest import digest_bytes
from regraft.record.evidence import JSON, Draft, Evidence, Finding, Severity, Subject, Verdict, Where

if TYPE_CHECKING:
    from regraft.adaptation.select import Comparison, Rejected

CHOSEN, TIES, NOT_JUDGED, REJECTED, NOT_KNOWN, NOT_BEATEN, NOT_COVERED, CURVE = (
    f"RGA-SEL-{number:03}" for number in range(1, 9)
)
_INTERVALS = "Nadeau-Bengio corrected t over repeated stratified folds; Wilson on held-out rows"


def record_selection(draft: Draft, gathered: Comparison) -> Evidence:
    """Freeze what was gathered, into a draft that was begun with the work."""
    draft.parameters |= _parameters(gathered)
    draft.subject += _subjects(gathered)
    draft.materials += gathered.data.materials
    draft.materials += [
        Subject(f"{name} rows", gathered.data.digest(rows))
        for name, rows in (("learning", gathered.split.learn), ("held-out", gathered.split.held_out))
    ]
    draft.findings += [*gathered.data.findings, *gathered.split.findings]
    draft.findings += [_rejection(one) for one in gathered.rejected]
    draft.findings += [
        Finding(
            NOT_KNOWN,
            _severity(one, is_chosen=name == gathered.chosen),
            f"{name}: {one.message}",
            data={"candidate": name, **one.data()},
        )
        for name, judged in gathered.unknown.items()
        for one in judged
    ]
    outcome, summary, verdict = _conclusion(gathered)
    if gathered.ranking is not None:
        draft.findings += _findings(gathered, gathered.ranking, outcome)
        _measure_ranking(draft, gathered, gathered.ranking)
        _measure_curves(draft, gathered)
    return draft.finish(outcome=outcome, summary=summary, verdict=verdict or draft.verdict)


def _severity(judged: Judged, *, is_chosen: bool) -> Severity:
    """What is not known of a candidate that lost anyway changes nothing."""
    if judged.is_for_later:
        return Severity.INFO
    return Severity.UNKNOWN if is_chosen else Severity.LOW


def _parameters(gathered: Comparison) -> dict[str, JSON]:
    limits = gathered.budget.limits if gathered.budget is not None else ()
    device: dict[str, JSON] = {limit.key: f"{limit.amount:g} {limit.unit}" for limit in limits}
    return {
        "candidates": [f"{one.title}={one.ref}" if one.name else one.ref for one in gathered.candidates],
        "data": gathered.data.spec.parameters(),
        "budget": device,
        "policy": gathered.policy.name if gathered.policy else None,
        "seed": gathered.seed,
        "folds": FOLDS,
        "repeats": REPEATS,
        "draws": DRAWS,
        "intervals": _INTERVALS,
    }


def _subjects(gathered: Comparison) -> list[Subject]:
    """The chosen package first, then the others; the reference where nothing could be opened."""
    known = {name: one.subject for name, one in gathered.examined.items()}
    known |= {one.candidate.title: one.examined.subject for one in gathered.rejected if one.examined is not None}
    ordered = sorted(known, key=lambda name: name != gathered.chosen)
    return (
        [known[name] for name in ordered]
        or list(gathered.data.materials[:1])
        or [Subject(gathered.data.name, digest_bytes(gathered.data.name.encode()))]
    )


def _rejection(one: Rejected) -> Finding:
    name = one.candidate.title
    data: dict[str, JSON] = {"candidate": name, "code": one.code, "excess": one.excess}
    if one.is_determined:
        message = f"{name} breaks a constraint: {one.reason}"
        return Finding(REJECTED, Severity.INFO, message, Where(file=one.candidate.ref), data)
    message = f"{name} could not be judged: {one.reason}"
    return Finding(NOT_JUDGED, Severity.UNKNOWN, message, Where(file=one.candidate.ref), data, fix=one.hint or None)


def _conclusion(gathered: Comparison) -> tuple[str, str, Verdict | None]:
    """Outcome, summary, and the verdict where the findings alone do not give it."""
    ranking = gathered.ranking
    if not gathered.data.is_enough:
        why = next(f.message for f in gathered.data.findings if f.severity is Severity.UNKNOWN)
        return "undecided", why, None
    if ranking is None:
        broken = [one for one in gathered.rejected if one.is_determined]
        if len(broken) == len(gathered.candidates):
            closest = min(broken, key=lambda one: float("inf") if one.excess is None else one.excess)
            return (
                "none_fits",
                f"no candidate fits; closest is {closest.candidate.title}: {closest.reason}",
                Verdict.FAIL,
            )
        return "undecided", f"none of {len(gathered.candidates)} candidates could be compared", Verdict.INCONCLUSIVE
    first = ranking.competitors[0]
    said = f"{_said(first)}; {_others(ranking)}{_not_judged(gathered)}"
    if first.is_baseline:
        return "baseline", f"no candidate is better than the baseline {said}", None
    if any(ranking.named(name).is_baseline for name in ranking.groups[0]):
        return "baseline", f"not shown to be better than a trivial baseline: {said}", None
    if len(ranking.groups[0]) > 1:
        return "tied", f"{said}; not told apart from {', '.join(ranking.groups[0][1:])}", None
    return "chosen", said, None


def _not_judged(gathered: Comparison) -> str:
    """Names of the candidates about which nothing is known: they are why a choice may be inconclusive."""
    names = [one.candidate.title for one in gathered.rejected if not one.is_determined]
    return f"; not judged: {', '.join(names)}" if names else ""


def _said(one: Competitor) -> str:
    return f"{one.name}: {_percent(one.accuracy)} in cross-validation"


def _others(ranking: Ranking) -> str:
    rest = [one for one in ranking.competitors[1:] if one.method != "majority class"]
    return ", ".join(f"{one.name} {_share(one.accuracy.value)}" for one in rest) or "nothing to compare with"


def _percent(interval: Interval) -> str:
    return f"{_share(interval.value)} [{_share(interval.low)}, {_share(interval.high)}]"


def _share(value: float) -> str:
    """In percent, of the number as it is measured: of the unrounded one a half could be rounded the other way."""
    return f"{round(value, 6):.1%}"


def _findings(gathered: Comparison, ranking: Ranking, outcome: str) -> Iterator[Finding]:
    chosen = gathered.chosen
    if chosen is not None:
        reasons = list(_reasons(gathered, ranking, chosen))
        data: dict[str, JSON] = {"chosen": chosen, "reasons": [*reasons], "outcome": outcome}
        yield Finding(CHOSEN, Severity.INFO, f"{chosen}: {'; '.join(reasons)}", data=data)
    for number, group in enumerate(ranking.groups, start=1):
        if len(group) > 1:
            message = f"place {number} is a tie: {', '.join(group)} cannot be told apart on these rows"
            yield Finding(TIES, Severity.INFO, message, data={"place": number, "group": [*group]})
    if outcome == "baseline":
        message = "reuse is not shown to be worth it: a trivial baseline is not beaten beyond noise"
        yield Finding(NOT_BEATEN, Severity.MEDIUM, message, fix="Label more rows, or look for other candidates.")
    yield Finding(
        NOT_COVERED,
        Severity.INFO,
        "not known: how the order would be after fine-tuning whole networks; what other data of the task would say",
        data={"adaptation": "probe"},
    )
    if gathered.catch_up is not None and chosen is not None:
        found = gathered.catch_up
        needs = _labels(found.labels, found.most)
        interval = f"[{_labels(found.low, found.most)}, {_labels(found.high, found.most)}]"
        baseline = gathered.curves[0].method
        message = f"{baseline} needs {needs} labels {interval} to reach {chosen} at {found.target_labels:,}"
        data = {"labels": found.labels, "low": found.low, "high": found.high, "most": found.most}
        yield Finding(CURVE, Severity.INFO, message, data=data)


def _labels(count: float | None, most: int) -> str:
    return f"{count:,.0f}" if count is not None else f"more than {most:,}"


def _reasons(gathered: Comparison, ranking: Ranking, chosen: str) -> Iterator[str]:
    yield f"highest mean accuracy in cross-validation, {_percent(ranking.named(chosen).accuracy)}"
    partners = [name for name in ranking.groups[0] if name != chosen]
    if partners:
        yield f"the lead over {', '.join(partners)} is within noise"
    if len(ranking.groups) > 1:
        follower = ranking.groups[1][0]
        gap = ranking.behind[follower]
        yield f"{100 * gap.value:.1f} points [{100 * gap.low:.1f}, {100 * gap.high:.1f}] ahead of {follower}"
    if not gathered.unknown.get(chosen):
        yield "no constraint is broken"


def _measure_ranking(draft: Draft, gathered: Comparison, ranking: Ranking) -> None:
    for one in ranking.competitors:
        of: dict[str, JSON] = {"candidate": one.name, "method": one.method, "group": ranking.group(one.name)}
        of["labels"] = len(gathered.split.learn)
        _measure(draft, "accuracy", one.accuracy, "1", {**of, "split": "cross-validation"})
        _measure(draft, "accuracy", one.held_out, "1", {**of, "split": "held-out"})
        if one.neighbours is not None:
            _measure(draft, "accuracy", one.neighbours, "1", {**of, "method": "k-NN", "split": "cross-validation"})
        if one.name in ranking.behind:
            points = _points(ranking.behind[one.name])
            against: dict[str, JSON] = {"candidate": ranking.competitors[0].name, "against": one.name}
            _measure(draft, "accuracy_lead", points, "points", {**against, "split": "cross-validation"})
    for name, features in gathered.features.items():
        draft.measure("feature_time", features.ms_per_row, "ms", of={"candidate": name, "runtime": features.runtime})
    for name, examined in gathered.examined.items():
        if examined.size_bytes is not None:
            draft.measure("size", examined.size_bytes, "bytes", of={"candidate": name})
    if gathered.chosen is not None:
        best, difference = regret(ranking, gathered.chosen)
        of = {"candidate": gathered.chosen, "best": best, "split": "held-out", "p_value": difference.p_value}
        _measure(draft, "regret", _points(difference.difference), "points", of)


def _points(interval: Interval) -> Interval:
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high, interval.n)


def _measure(draft: Draft, name: str, interval: Interval, unit: str, of: dict[str, JSON]) -> None:
    ends = (round(end, 6) for end in (interval.value, interval.low, interval.high))
    value, low, high = ends
    draft.measure(name, value, unit, low=low, high=high, n=interval.n, of=of)


def _measure_curves(draft: Draft, gathered: Comparison) -> None:
    for curve in gathered.curves:
        for size, accuracies in zip(curve.sizes, curve.accuracies(), strict=True):
            of: dict[str, JSON] = {"method": curve.method, "labels": size, "split": "held-out", "bounds": "extremes"}
            of["draws"] = [round(float(one), 6) for one in accuracies]
            mean, low, high = (float(end) for end in (accuracies.mean(), accuracies.min(), accuracies.max()))
            _measure(draft, "learning_curve", Interval(mean, low, high, len(accuracies)), "1", of)
    found = gathered.catch_up
    if found is not None:
        of = {"method": gathered.curves[0].method, "reaches": gathered.curves[1].method}
        of |= {"at_labels": found.target_labels, "most_tried": found.most}
        one = {"low": found.low, "high": found.high, "n": len(gathered.split.held_out), "of": of}
        draft.measure("labels_to_catch_up", found.labels, "count", **one)  # type: ignore[arg-type]
