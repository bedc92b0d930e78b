"""reproduce: does a published number about a fixed model hold?"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.conceptual.claim import Claim, read_claim
from regraft.conceptual.evaluation import Evaluation, open_evaluation, settled_scoring
from regraft.conceptual.evaluation.interface import DataFiles, Scores
from regraft.conceptual.judgement import BETTER, Margin, Outcome, judge_direct, judge_interval
from regraft.conceptual.loaded import LoadedOnce
from regraft.conceptual.metrics import Interval, baseline, evaluate, resampled
from regraft.errors import BadFeeds, Damaged, NotFound, PermitRefused, Unsupported, UsageError
from regraft.package.package import Package, open_package
from regraft.package.sources.interface import SourceOptions
from regraft.progress import progress
from regraft.record.digest import digest_bytes
from regraft.record.environment import capture_environment
from regraft.record.evidence import JSON, DigestKind, Draft, Evidence, Finding, Severity, Subject, Verdict
from regraft.runtime import model_path, needs_permit
from regraft.runtime.permission import PermitSource, stored_permit

if TYPE_CHECKING:
    from regraft.record.store import Store

_UNDECIDED = Outcome("undecided", Verdict.INCONCLUSIVE, "none")


class _Pass(msgspec.Struct, frozen=True):
    """One evaluation."""

    threads: int
    value: float
    scores: Scores
    runtime: str | None
    precision: str | None


def reproduce(
    claim: str | os.PathLike[str] | Claim,
    *,
    store: Store | None = None,
    offline: bool = False,
    seed: int = 0,
    repeats: int = 2,
    threads: Sequence[int] | None = None,
    margin: float | None = None,
    permit: PermitSource | None = None,
) -> Evidence:
    """Measure what a claim says, and judge it by a margin whose rule stands before the measuring.

    The default margin is half of the last printed digit plus the nondeterminism of the evaluation, which is the
    spread over `repeats` and `threads`: it does not depend on the claimed value. On the very data of the claim the
    numbers are compared directly, because there sampling is no excuse; on another sample the interval decides.
    The model runs in this process: one that crashes ends it.

    Args:
        claim: a claim file of the user's, or a parsed claim.
        store: where packages are looked up.
        offline: no network.
        seed: of resampling.
        repeats: evaluations with the first number of threads, each from a fresh load.
        threads: numbers of threads to evaluate with; None for 1 and all.
        margin: declared by the caller, in the metric's unit, in place of the claim's and the default.
        permit: leave to load what could execute code; None takes it from the scans in the store.
    Returns:
        evidence of kind `reproduce`: reproduced and better pass, not_reproduced fails, undecided is inconclusive.
    Raises:
        UsageError: the claim cannot be understood.
        RegraftError: model or data cannot be opened, or an extra is missing.
    Source: docs/how-to/reproduce.md.
    """
    stated = claim if isinstance(claim, Claim) else read_claim(Path(claim), from_user=True)
    evaluation = open_evaluation(stated.evaluation)
    if stated.metric not in evaluation.metrics:
        known = ", ".join(evaluation.metrics)
        raise UsageError(
            f"{evaluation.name} has no metric {stated.metric!r}", where=stated.name, hint=f"known: {known}"
        )
    scoring = settled_scoring(evaluation, stated.scoring)
    counts = list(dict.fromkeys(threads or (1, capture_environment().threads)))
    if repeats < 1 or min(counts) < 1 or (margin is not None and margin < 0):
        raise UsageError("repeats and threads are at least 1, a margin is at least 0")
    draft = Draft("reproduce", parameters=_parameters(stated, scoring, margin, seed, repeats, counts))
    plan = [counts[0]] * repeats + counts[1:]
    options = SourceOptions(offline=offline, store=store)
    with _opened(stated, options) as (package, data):
        files = DataFiles(data)
        try:
            passes = list(_passes(stated, evaluation, scoring, plan, package, files, store, permit, draft))
            outcome, margin_used, interval = _judged(stated, passes, margin, seed)
        except (Unsupported, BadFeeds, Damaged, PermitRefused) as error:
            draft.materials += [files.subject, Subject(stated.name, stated.digest)]
            draft.find(Finding("RGR-CLM-003", Severity.UNKNOWN, f"not evaluated: {error}", fix=error.hint or None))
            return draft.finish(outcome=_UNDECIDED.word, summary=f"not evaluated: {error}")
        draft.materials += [files.subject, Subject(stated.name, stated.digest)]
    _measure(draft, stated, passes, margin_used, interval)
    _find(draft, stated, outcome, passes, margin_used)
    summary = _summary(stated, outcome, passes[0], margin_used, interval)
    return draft.finish(outcome=outcome.word, summary=summary, verdict=outcome.verdict)


@contextlib.contextmanager
def _opened(claim: Claim, options: SourceOptions) -> Iterator[tuple[Package | None, Package]]:
    """Model and data; no package for code of the user's own."""
    with contextlib.ExitStack() as stack:
        package = None
        if claim.model.scheme != "py":
            package = stack.enter_context(open_package(claim.model, options=options))
        yield package, stack.enter_context(open_package(claim.data, options=options))


def _passes(
    claim: Claim,
    evaluation: Evaluation,
    scoring: dict[str, JSON],
    plan: Sequence[int],
    package: Package | None,
    files: DataFiles,
    store: Store | None,
    permit: PermitSource | None,
    draft: Draft,
) -> Iterator[_Pass]:
    """One evaluation for each entry of the plan, each from a fresh load."""
    path, leave, own_code = None, None, None
    if package is None:
        own_code = claim.model.location
        draft.subject.append(_code_subject(claim))
    else:
        manifest = package.manifest()
        draft.subject += package.subjects(manifest)
        path = model_path(package, runtime=claim.runtime)
        if needs_permit(package, path):
            leave = permit(package, claim.runtime) if permit else stored_permit(package, manifest.digest, store)
    with progress("evaluating", total=len(plan), unit="evaluations") as advance:
        for threads in plan:
            model = LoadedOnce(
                package, own_code=own_code, permit=leave, runtime=claim.runtime, path=path, threads=threads
            )
            try:
                scores = evaluation.score(model, files, scoring)
                yield _Pass(threads, evaluate(claim.metric, scores), scores, model.runtime, model.precision)
            finally:
                model.close()
            advance(1)


def _code_subject(claim: Claim) -> Subject:
    """The user's own code, by its name and the file that its module lies in; what that imports is not covered."""
    module = claim.model.location.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise NotFound(f"cannot import {module}: {error}", where=str(claim.model)) from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise NotFound(f"there is no module {module}", where=str(claim.model), hint="is its folder on PYTHONPATH?")
    content = Path(spec.origin).read_bytes()
    return Subject(str(claim.model), digest_bytes(f"{claim.model.location}\n".encode() + content), DigestKind.PARTIAL)


def _judged(
    claim: Claim, passes: Sequence[_Pass], margin: float | None, seed: int
) -> tuple[Outcome, Margin, Interval | None]:
    values = [one.value for one in passes]
    declared = margin if margin is not None else claim.margin
    used = Margin(claim.half_digit, max(values) - min(values), declared)
    if claim.is_same_sample:
        return judge_direct(claim, passes[0].value, used), used, None
    interval = resampled(claim.metric, passes[0].scores, seed=seed)
    return judge_interval(claim, interval, used), used, interval


def _parameters(
    claim: Claim, scoring: dict[str, JSON], margin: float | None, seed: int, repeats: int, threads: Sequence[int]
) -> dict[str, JSON]:
    declared = margin if margin is not None else claim.margin
    by = "the caller" if margin is not None else "the claim" if claim.margin is not None else "default"
    rule: JSON = "half of the last printed digit + spread of the evaluation over repeats and threads"
    comparison = "direct" if claim.is_same_sample else "interval by drawing groups with replacement, 95 %"
    return {
        "reference": str(claim.model),
        "data": str(claim.data),
        "evaluation": claim.evaluation,
        "metric": claim.metric,
        "claimed": claim.printed,
        "margin_rule": rule if declared is None else declared,
        "margin_declared_by": by,
        "half_of_last_digit": claim.half_digit,
        "comparison": comparison,
        "sample": "same" if claim.is_same_sample else "other",
        "scoring": scoring,
        "conditions": claim.conditions,
        "source": claim.source,
        "seed": seed,
        "repeats": repeats,
        "threads": list(threads),
    }


def _measure(draft: Draft, claim: Claim, passes: Sequence[_Pass], margin: Margin, interval: Interval | None) -> None:
    first = passes[0]
    of: dict[str, JSON] = {"runtime": first.runtime, "precision": first.precision, "threads": first.threads}
    items = len(first.scores.targets)
    ends = {"low": interval.low, "high": interval.high} if interval else {}
    draft.measure(claim.metric, first.value, "ratio", n=items, of=of, **ends)
    draft.measure("claimed", claim.value, "ratio", of={"printed": claim.printed})
    draft.measure("difference", first.value - claim.value, "ratio", of={"of": f"{claim.metric} − claimed"})
    draft.measure("margin", margin.size, "ratio")
    draft.measure("nondeterminism", margin.nondeterminism, "ratio", n=len(passes), of={"of": "spread of evaluations"})
    draft.measure("trivial_baseline", baseline(claim.metric, first.scores), "ratio", n=items)
    draft.parameters["items"] = first.scores.unit
    draft.parameters["facts"] = first.scores.facts
    draft.parameters["repeatability"] = _repeatability(passes)
    if interval is not None:
        draft.parameters["independent_units"] = interval.n


def _repeatability(passes: Sequence[_Pass]) -> str:
    """How alike repeated evaluations are: bitwise, the same predictions, or neither."""
    import numpy as np

    first = passes[0].scores
    if len(passes) < 2:
        return "one evaluation only"
    if all(np.array_equal(first.scores, one.scores.scores) for one in passes[1:]):
        return "bitwise"
    if first.decisions is not None and all(np.array_equal(first.decisions, one.scores.decisions) for one in passes[1:]):  # type: ignore[arg-type]
        return "prediction-identical"
    worst = max(float(np.abs(first.scores - one.scores.scores).max()) for one in passes[1:])
    return f"scores differ by up to {worst:.2g}"


def _find(draft: Draft, claim: Claim, outcome: Outcome, passes: Sequence[_Pass], margin: Margin) -> None:
    value = passes[0].value
    data: dict[str, JSON] = {"agreement": outcome.agreement, "claimed": claim.value, "margin": margin.size}
    if outcome.verdict is Verdict.FAIL:
        distance = abs(value - claim.value)
        message = (
            f"claimed {claim.printed}, measured {value:.6g}: off by {distance:.4g}, the margin is {margin.size:.2g}"
        )
        fix = "check scoring and conditions of the claim: another preprocessing gives another number"
        draft.find(Finding("RGR-CLM-001", Severity.HIGH, message, data=data, fix=fix))
    elif outcome.verdict is Verdict.INCONCLUSIVE:
        message = "the interval of this sample holds values within the margin and beyond it"
        draft.find(Finding("RGR-CLM-002", Severity.UNKNOWN, message, data=data, fix="evaluate on more data"))
    else:
        draft.find(Finding("RGR-CLM-000", Severity.INFO, f"level of agreement: {outcome.agreement}", data=data))
    if statistics.pstdev([one.value for one in passes]) > 0:
        message = f"repeated evaluations differ by {margin.nondeterminism:.2g}; the margin allows for it"
        draft.find(Finding("RGR-CLM-004", Severity.INFO, message))


def _summary(claim: Claim, outcome: Outcome, first: _Pass, margin: Margin, interval: Interval | None) -> str:
    measured = f"{first.value:.6g}"
    if interval is not None:
        measured += f" [{interval.low:.4g}, {interval.high:.4g}]"
    items = f"{len(first.scores.targets)} {first.scores.unit}"
    word = {"reproduced": "holds", BETTER: "is exceeded", "not_reproduced": "does not hold"}.get(
        outcome.word, "is open"
    )
    sample = "" if claim.is_same_sample else " of another sample"
    return (
        f"{claim.metric} {claim.printed} {word}: measured {measured} on {items}{sample}, margin {margin.size:.2g}, "
        f"agreement: {outcome.agreement}"
    )
