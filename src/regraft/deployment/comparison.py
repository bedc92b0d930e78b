"""One verification, step by step: feeds, floors, judgement, diagnosis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.judge import Judgement, OutputJudgement, Threshold, judge, threshold
from regraft.compare.measure import Answer, OutputSeries, Tolerance, Yardstick, is_repeated, measured, plain_answers
from regraft.compare.noise import UNIT_ROUNDOFF
from regraft.compare.pairing import Pairing, pair_inputs, pair_outputs
from regraft.compare.precision import is_lower, recognised_precision
from regraft.compare.recall import recalled
from regraft.compare.reduce import reduce_origin
from regraft.deployment.floors import kept_floors
from regraft.deployment.loading import Opened
from regraft.deployment.origins import DIAGNOSIS_ERRORS, Diagnosis, Pair, diagnose
from regraft.deployment.reach import measure_coverage, measure_noise, search_feeds
from regraft.deployment.task import TaskData, compare_decisions
from regraft.deployment.trial import accepted_feeds
from regraft.deployment.verify_evidence import (
    impossible,
    report_decisions,
    report_layers,
    report_origins,
    report_outputs,
    report_reduction,
    report_refused,
    report_tolerance,
    summary_of,
    undecidable,
)
from regraft.errors import BadFeeds, LimitExceeded, RegraftError, Unsupported
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Verdict
from regraft.runtime.feeding import feeds_for
from regraft.runtime.feeds import FeedCase

if TYPE_CHECKING:
    from regraft.compare.kept import FloorCache
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.spill import Spill

_NAMED = 3
_OUTCOMES = {Verdict.PASS: "equivalent", Verdict.FAIL: "diverges", Verdict.INCONCLUSIVE: "undecided"}


class Precisions(msgspec.Struct, frozen=True):
    """What was wanted, and what is.

    Attributes:
        expected: asked for, else that of the reference.
        effective: what the candidate works in.
        judged: the precision whose floor the candidate is judged by.
    """

    expected: str
    effective: str
    judged: str

    @property
    def is_lowered(self) -> bool:
        """The candidate is less precise than expected."""
        return is_lower(self.effective, self.expected)


class Comparison:
    """One verification: what was found so far, and what it amounts to."""

    def __init__(
        self,
        draft: Draft,
        tolerance: Tolerance | None,
        precision: str | None,
        seed: int,
        spill: Spill | None,
        task: TaskData | None,
    ) -> None:
        self._draft = draft
        self._tolerance = tolerance
        self._asked = precision
        self._seed = seed
        self._spill = spill
        self._task = task
        self._judged: list[OutputJudgement] = []
        self._verdict = Verdict.INCONCLUSIVE
        self._outputs: Pairing | None = None
        self._yardstick: Yardstick | None = None
        self._thresholds: Threshold | None = None
        self._floors: FloorCache | None = None
        self.diagnosis: Diagnosis | None = None

    def run(
        self,
        ours: Opened,
        theirs: Opened,
        given: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
        *,
        localise: bool,
        layers: bool,
        coverage: bool,
        threads: int | None,
    ) -> None:
        """Load, feed, measure, judge; a step that is not possible ends it with a finding."""
        for role, one in (("reference", ours), ("candidate", theirs)):
            if one.error is not None:
                self._draft.find(impossible(one.error, role))
        if ours.model is None or theirs.model is None:
            return
        reference, candidate = ours.model, theirs.model
        if self._spill is not None:
            self._spill.breathe()
        inputs = pair_inputs(reference.signature.inputs, candidate.signature.inputs, candidate.where)
        self._floors = kept_floors(ours, threads=threads, has_own_code=self._draft.parameters["factory"] is not None)
        precisions = self._precisions(reference, candidate)
        cases, refused = accepted_feeds(
            ours, candidate, given, inputs=inputs.names, precision=precisions.judged, seed=self._seed
        )
        has_own = given is not None and any(case.values == "data" for case in cases)
        report_refused(self._draft, refused, tried=len(cases) + len(refused), has_own=has_own)
        if not cases:
            return
        series = self._measured(reference, candidate, cases, inputs, precisions)
        report_decisions(self._draft, series)
        if self._tolerance is not None:
            self._verdict = report_tolerance(self._draft, series, cases, self._tolerance)
        elif self._judged:
            self._verdict = self._conclude(precisions)
        self._decide(ours, candidate, inputs, precisions)
        if localise and self._outputs is not None:
            names = (inputs.names, self._outputs.names)
            pair = Pair(reference, candidate, *names, precisions.judged, threads, self._floors, self._spill)
            self._diagnose(pair, cases, layers=layers)
            self._reach_further(pair, cases, coverage=coverage)

    def finish(self) -> Evidence:
        """Freeze what was found."""
        unknown = any(finding.severity is Severity.UNKNOWN for finding in self._draft.findings)
        verdict = self._verdict
        if unknown and verdict is Verdict.PASS:
            verdict = Verdict.INCONCLUSIVE
        summary = summary_of(verdict, self._draft.findings, self._judged)
        return self._draft.finish(outcome=_OUTCOMES[verdict], summary=summary, verdict=verdict)

    def _precisions(self, reference: Model, candidate: Model) -> Precisions:
        ours, theirs = recognised_precision(reference), recognised_precision(candidate)
        stated = candidate.effective_precision
        effective = theirs if is_lower(theirs, ours) else stated
        expected = self._asked or reference.effective_precision
        judged = "float32" if effective == "float64" else effective
        found = Precisions(expected, effective, judged)
        self._draft.parameters |= {"effective_precision": effective, "reference_precision": ours}
        if found.is_lowered:
            how = "its runtime computes in it" if effective == stated else "all its weights are numbers of it"
            self._draft.find(
                Finding(
                    "precision.lowered",
                    Severity.UNKNOWN,
                    f"the candidate works in {effective}, {expected} was expected: {how}",
                    data={"expected": expected, "effective": effective, "stated": stated},
                    fix=f"--precision {expected} to demand it, or --precision {effective} to accept and judge it",
                )
            )
        return found

    def _measured(
        self, reference: Model, candidate: Model, cases: Sequence[FeedCase], inputs: Pairing, precisions: Precisions
    ) -> list[OutputSeries]:
        first = cases[0].feeds
        others = recalled(candidate, inputs.renamed(first))
        outputs = self._outputs = pair_outputs(recalled(reference, first), others, candidate.where)
        least = min((case for case in cases if _is_ordinary(case)), key=_elements, default=cases[0]).feeds
        self._repeated("reference", reference, least)
        self._repeated("candidate", candidate, inputs.renamed(least))
        feeds = [case.feeds for case in cases]
        yardstick, answers = self._answers(reference, feeds, precisions)
        self._yardstick = yardstick
        limits = self._thresholds = self._limits(yardstick, precisions)
        series = measured(
            answers,
            candidate,
            feeds,
            inputs=inputs.names,
            outputs=outputs.names,
            tolerance=self._tolerance,
        )
        self._draft.parameters |= {
            "floor": yardstick.method if yardstick is not None else None,
            "floor_reason": yardstick.reason if yardstick is not None else "", "judged_precision": precisions.judged,
            "inputs_matched_by": inputs.by, "outputs_matched_by": outputs.by, "feeds": [case.name for case in cases],
        }  # fmt: skip
        if limits is not None:
            self._judged = [judge(one, limits) for one in series]
            report_outputs(self._draft, series, self._judged, cases, limits)
        return series

    def _repeated(self, role: str, model: Model, feeds: Feeds) -> None:
        """A model that answers otherwise to the same feeds has random numbers inside: nothing can be said of it."""
        once, again = recalled(model, feeds), model(feeds_for(model, feeds))
        differing = [name for name, value in once.items() if not is_repeated(value, again[name])]
        if differing:
            self._draft.find(
                Finding(
                    "verify.not_deterministic",
                    Severity.UNKNOWN,
                    f"the {role} answers otherwise to the same inputs in {', '.join(differing[:_NAMED])}",
                    fix="fix its random numbers: a seed, evaluation mode, no dropout",
                )
            )

    def _answers(
        self, reference: Model, feeds: Sequence[Feeds], precisions: Precisions
    ) -> tuple[Yardstick | None, Iterable[Answer]]:
        """The yardstick and what it says to these feeds, from the disk where it was measured before.

        Fixed limits need none: they are about the reference's own answers.
        """
        if self._tolerance is not None:
            return None, plain_answers(reference, feeds)
        judged = precisions.judged if precisions.judged in UNIT_ROUNDOFF else "float32"
        if self._floors is None:
            yardstick = Yardstick(reference, feeds[0], precisions=(judged,), seed=self._seed)
            return yardstick, yardstick.answers(feeds)
        yardstick, answers = self._floors.yardstick(reference, feeds, precision=judged, seed=self._seed)
        if answers is None:
            answers = list(yardstick.answers(feeds))
            self._floors.keep_answers(yardstick, feeds, answers)
        return yardstick, answers

    def _limits(self, yardstick: Yardstick | None, precisions: Precisions) -> Threshold | None:
        """The thresholds for a yardstick; None where only fixed tolerances or decisions can judge."""
        if yardstick is None:
            return None
        if precisions.judged not in UNIT_ROUNDOFF:
            if self._task is None:
                self._draft.find(undecidable(precisions.effective, precisions.judged))
            return None
        try:
            return threshold(yardstick.method, precisions.judged)
        except Unsupported as error:
            self._draft.find(impossible(error, "", rule="precision.uncalibrated"))
            return None

    def _decide(self, ours: Opened, candidate: Model, inputs: Pairing, precisions: Precisions) -> None:
        """Compare decisions on labelled rows; they are the verdict where neither floors nor limits give one."""
        if self._task is None or self._outputs is None:
            return
        decides = self._tolerance is None and precisions.judged not in UNIT_ROUNDOFF
        names = (inputs.names, self._outputs.names)
        found = compare_decisions(self._draft, ours, candidate, self._task, *names, decides=decides)
        self._verdict = found if decides else self._verdict

    def _conclude(self, precisions: Precisions) -> Verdict:
        found = {one.judgement for one in self._judged}
        if Judgement.BEYOND in found:
            return Verdict.FAIL
        if Judgement.UNDECIDED in found or precisions.is_lowered:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS

    def _diagnose(self, pair: Pair, cases: Sequence[FeedCase], *, layers: bool) -> None:
        """Where the two part; a diagnosis that is not possible costs nothing but itself."""
        diverges = self._verdict is Verdict.FAIL
        try:
            self.diagnosis = diagnose(pair, cases, self._telling(cases), diverges=diverges, layers=layers)
        except LimitExceeded as error:
            self._draft.find(impossible(error, ""))
            return
        except DIAGNOSIS_ERRORS as error:
            what = error.what if isinstance(error, RegraftError) else f"{type(error).__name__}: {error}"
            self._draft.find(Finding("divergence.layers", Severity.INFO, f"no divergence by layer: {what}"))
            return
        report_origins(self._draft, self.diagnosis, diverges=diverges)
        if layers or self.diagnosis.layers:
            report_layers(self._draft, self.diagnosis.layers, self.diagnosis.case)

    def _reach_further(self, pair: Pair, cases: Sequence[FeedCase], *, coverage: bool) -> None:
        """Look for feeds that show what is wrong inside, and measure what these feeds can show."""
        if pair.precision == "int8":
            measure_noise(self._draft, pair, cases, self.diagnosis)
        if self._verdict is not Verdict.PASS or self._yardstick is None or self._thresholds is None:
            return
        links = (self._draft, pair, cases, self._yardstick, self._thresholds)
        if any(finding.rule == "divergence.origin" for finding in self._draft.findings):
            found = search_feeds(*links, seed=self._seed)
            if found is not None and found.judgement is not Judgement.WITHIN:
                self._verdict = Verdict.FAIL if found.judgement is Judgement.BEYOND else Verdict.INCONCLUSIVE
        if coverage:
            try:
                measure_coverage(*links, seed=self._seed)
            except (Unsupported, BadFeeds, ValueError) as error:
                self._draft.find(Finding("feeds.coverage", Severity.INFO, f"fault coverage is unknown: {error}"))

    def reduce(self, folder: Path) -> None:
        """Write the first origin down as a folder that shows it; why not, where that is not possible."""
        diagnosis = self.diagnosis
        located = diagnosis.localisation if diagnosis is not None else None
        if diagnosis is None or located is None or diagnosis.graphs is None or not located.origins:
            message = "there is no origin to reduce: nothing was written"
            self._draft.find(Finding("divergence.reduced", Severity.INFO, message))
            return
        try:
            found = reduce_origin(located.origins[0], *diagnosis.graphs, folder, pairs=located.pairs)
        except (Unsupported, LimitExceeded) as error:
            self._draft.find(Finding("divergence.reduced", Severity.INFO, f"it could not be reduced: {error.what}"))
            return
        report_reduction(self._draft, found)

    def _telling(self, cases: Sequence[FeedCase]) -> int:
        """The lightest feeds that show the divergence; the lightest of all where there is none.

        Feeds of one row or token say little of layouts, so that they come last.
        """
        limits = self._thresholds
        beyond = {
            i
            for one in self._judged
            for i, ratio in enumerate(one.ratios)
            if limits is not None and limits.judgement(ratio) is Judgement.BEYOND
        }
        beyond |= {one.worst for one in self._judged if one.judgement is not Judgement.WITHIN and not beyond}
        return min(beyond or range(len(cases)), key=lambda i: _weight(cases[i]))


def _weight(case: FeedCase) -> tuple[bool, bool, int]:
    arrays = list(case.feeds.values())
    is_single = any(extent == 1 for value in arrays for extent in value.shape[:2])
    return (is_single, not _is_ordinary(case), _elements(case))


def _is_ordinary(case: FeedCase) -> bool:
    return case.values in ("data", "normal", "uniform")


def _elements(case: FeedCase) -> int:
    return sum(value.size for value in case.feeds.values())
