"""A run as its report sees it: the steps by name, each with the evidence in which it ended, or without."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import JSON, Evidence, Finding, Measurement, Verdict

PEAK_MEMORY = "step_peak_memory"
COSTS = ("step_wall", "step_cpu", PEAK_MEMORY)
"""What a step cost (s, s, bytes): measurements that every step's evidence has, whatever its kind."""
PACKAGES = "packages"
"""Folder beside the page, in which copies of what was made lie."""
_T = TypeVar("_T")


class RunStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step.

    Attributes:
        about: the candidate or target that it is about; empty for the whole plan.
        status: kept, done, failed, skipped; unknown when the run does not say.
        verdict: None when nobody knows.
        said: what the run says about it, in a sentence.
        weighs: its verdict is part of that of the run.
        costs: name of COSTS → what it cost when it was done, in this run or an earlier one.
        evidence: None when it has none, or none was given.
    """

    name: str
    verb: str
    about: str = ""
    status: str = "unknown"
    verdict: Verdict | None = None
    outcome: str = ""
    said: str = ""
    fix: str = ""
    seconds: float | None = None
    weighs: bool = True
    costs: dict[str, float] = {}
    evidence: Evidence | None = None


class RunRecord(msgspec.Struct, frozen=True):
    """A run and its steps, in order of dependence."""

    run: Evidence
    steps: tuple[RunStep, ...]

    def of(self, verb: str, about: str | None = None) -> Iterator[RunStep]:
        """Steps of a verb, about one candidate or target, or about any."""
        return (step for step in self.steps if step.verb == verb and about in (None, step.about))

    def step(self, verb: str, about: str | None = None) -> RunStep | None:
        """The first step of a verb, with evidence if one has it; None when there is no such step."""
        several = [*self.of(verb, about)]
        return next((step for step in several if step.evidence is not None), several[0] if several else None)

    def evidence(self, verb: str, about: str | None = None) -> Evidence | None:
        """The evidence of that step."""
        step = self.step(verb, about)
        return None if step is None else step.evidence

    @property
    def targets(self) -> tuple[str, ...]:
        """What the result is made for, by the plan; by the steps where the run does not say."""
        planned = self.run.parameters.get("targets")
        if isinstance(planned, list) and planned:
            return tuple(str(one) for one in planned)
        return tuple(dict.fromkeys(step.about for step in self.of("convert") if step.about))

    def missing(self, verb: str, about: str | None = None) -> str:
        """Why there is no evidence of a verb, in a sentence."""
        name = f"{verb} {about}" if about else verb
        step = self.step(verb, about)
        if step is None:
            return f"unknown: the plan has no step {name}"
        if step.evidence is None:
            return f"unknown: {step.said or f'{name} has no evidence here'}"
        return f"unknown: {name} says {step.evidence.outcome}: {step.evidence.summary}"


def run_record(run: Evidence, steps: Sequence[Evidence]) -> RunRecord:
    """Put each piece of evidence to the step that the run says ended in it.

    Evidence that the run does not name becomes a step of its own: nothing that was given is left out.
    """
    by_digest = {evidence.digest: evidence for evidence in steps}
    found = [_step(finding, by_digest) for finding in run.findings if isinstance(finding.data.get("step"), str)]
    named = {text(finding.data.get("evidence")) for finding in run.findings}
    rest = [_unnamed(evidence) for digest, evidence in by_digest.items() if digest not in named]
    return RunRecord(run, (*found, *rest))


def measured(evidence: Evidence | None, name: str, **of: JSON) -> list[Measurement]:
    """Measurements of a name under conditions."""
    several = evidence.measurements if evidence is not None else ()
    return [one for one in several if one.name == name and all(one.of.get(key) == v for key, v in of.items())]


def first(items: Sequence[_T]) -> _T | None:
    """The first of several, None of none."""
    return items[0] if items else None


def text(value: JSON) -> str:
    """A text out of a record; empty when it is none."""
    return value if isinstance(value, str) else ""


def command_on(record: RunRecord, verb: str, packages: Sequence[Evidence]) -> str:
    """The verb alone, on the copies that lie beside the page."""
    adapted: RunStep | None = record.step("adapt")
    names = [e.subject[0].name for e in packages if e.subject]
    if verb == "verify" and adapted is not None and adapted.evidence is not None and adapted.evidence.subject:
        names = [adapted.evidence.subject[0].name, *names]
    if not names:
        return ""
    return " ".join(["regraft", verb, *(shlex.quote(f"{PACKAGES}/{name}") for name in names)])


def converted(record: RunRecord) -> list[Evidence]:
    """Evidence of the conversions that ended in some, in the order of the targets."""
    return [evidence for target in record.targets if (evidence := record.evidence("convert", target)) is not None]


def _step(finding: Finding, by_digest: Mapping[Digest, Evidence]) -> RunStep:
    data = finding.data
    evidence = by_digest.get(Digest(text(data.get("evidence"))))
    verdict = text(data.get("verdict"))
    seconds = data.get("seconds")
    return RunStep(
        name=text(data.get("step")),
        verb=text(data.get("verb")) or (evidence.kind if evidence else ""),
        about=text(data.get("about")),
        status=text(data.get("status")) or "unknown",
        verdict=Verdict(verdict) if verdict in {*Verdict} else evidence.verdict if evidence else None,
        outcome=text(data.get("outcome")),
        said=finding.message,
        fix=finding.fix or "",
        seconds=seconds if isinstance(seconds, int | float) else None,
        weighs=data.get("weighs") is not False,
        costs=_costs(data.get("cost"), evidence),
        evidence=evidence,
    )


def _costs(said: JSON, evidence: Evidence | None) -> dict[str, float]:
    """What the run says that a step cost; else what its own evidence says."""
    told = said if isinstance(said, dict) else {}
    found = {one.name: one.value for one in (evidence.measurements if evidence is not None else ())}
    both = {**found, **told}
    return {name: value for name in COSTS if isinstance(value := both.get(name), int | float)}


def _unnamed(evidence: Evidence) -> RunStep:
    name = evidence.subject[0].name if evidence.subject else ""
    return RunStep(
        name=f"{evidence.kind} {name}".rstrip(),
        verb=evidence.kind,
        about=name,
        verdict=evidence.verdict,
        outcome=evidence.outcome,
        said=evidence.summary,
        costs=_costs(None, evidence),
        evidence=evidence,
    )
