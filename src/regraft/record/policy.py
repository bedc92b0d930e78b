"""A policy: what must be known about a package before it is used, judged on its passport."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import JSON, DigestKind, Finding, Record, Severity, Verdict, Where, combine
from regraft.record.lineage import Ancestor, Ancestry
from regraft.record.passport import Passport
from regraft.record.threshold import Threshold, shown

LICENCE_KINDS = ("audit", "inspect")
"""Evidence that states licences: findings whose data say `field: licence`, with a `value` (an SPDX expression, or
null) and a `provenance`, the list of every claim with its own `value`. Each of them must be allowed."""

_DIGEST_STRENGTH = (DigestKind.PARTIAL, DigestKind.DECLARED, DigestKind.COMPUTED)
_CLOCK_SLACK_S = 300
_INNERMOST = re.compile(r"\(([^()]*)\)")
_GRANTED, _REFUSED = "\0", "\x01"
"""Stand for what was in parentheses; no licence is called so."""


class About(StrEnum):
    """What evidence must be about to meet a demand."""

    PACKAGE = "package"
    """These very bytes."""
    LINEAGE = "lineage"
    """These bytes; where there is no such evidence, the nearest package that they are a conversion of, when verify
    evidence that passed ties each of them to the next."""


OF_BEHAVIOUR = ("adapt", "reproduce", "select")
"""Kinds of evidence about what a network answers: it holds for a conversion that answers alike. What scan, inspect
or bench found out holds for the very bytes alone."""


class Demand(msgspec.Struct, frozen=True):
    """What is demanded of the newest evidence of one kind.

    Attributes:
        about: the package alone, or any package in its lineage that it answers like.
        verdicts: any of these will do.
        digest: the weakest way in which the package digest may be known.
        max_severity: the gravest finding that is tolerated; None: the verdict alone counts.
        max_age_s: None: any age.
    """

    kind: str
    verdicts: tuple[Verdict, ...] = (Verdict.PASS,)
    digest: DigestKind = DigestKind.COMPUTED
    max_severity: Severity | None = None
    max_age_s: float | None = None
    measurements: tuple[Threshold, ...] = ()
    line: int | None = None
    about: About = About.PACKAGE


class Policy(msgspec.Struct, frozen=True):
    """Demands under a name. `digest` is that of the file; `licences` None means that any will do."""

    name: str
    digest: Digest
    demands: tuple[Demand, ...]
    licences: tuple[str, ...] | None = None

    @property
    def looks_up(self) -> bool:
        """Whether a demand may be met by an ancestor."""
        return any(demand.about is About.LINEAGE for demand in self.demands)


class Judgement(msgspec.Struct, frozen=True):
    """What a policy makes of a passport: one finding for each demand that is met, broken or undecided."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    used: tuple[Record, ...]


def evaluate(
    policy: Policy,
    passport: Passport,
    *,
    ancestry: Ancestry | None = None,
    now: datetime | None = None,
    reference: str = "REF",
) -> Judgement:
    """Judge a passport. What is not known is never a pass: it is inconclusive, and says what is missing.

    Args:
        ancestry: of the package, for demands that an ancestor may meet; None: nothing is known about it.
        now: the time against which age is counted; default: the clock.
        reference: by which a command finds the package, for what to do about missing evidence.
    """
    moment = now or datetime.now(UTC)
    ancestry = ancestry or Ancestry()
    looked_at = (passport, *(ancestor.passport for ancestor in ancestry.ancestors))
    findings = [_unreadable(message) for message in dict.fromkeys(m for one in looked_at for m in one.damage)]
    used: dict[Digest, Record] = {}
    for demand in policy.demands:
        answer = _answer(demand, passport, ancestry)
        if answer is None:
            findings.append(_missing(demand, reference))
            findings += _untied(demand, ancestry, reference)
            continue
        used |= {record.digest: record for record in answer.records}
        findings += _judged(demand, answer, moment)
    if policy.licences is not None:
        stating = [record for kind in LICENCE_KINDS if (record := passport.latest(kind))]
        used |= {record.digest: record for record in stating}
        findings += _licences(policy.licences, stating, reference)
    verdict = combine(finding.severity.verdict for finding in findings)
    return Judgement(verdict, tuple(findings), tuple(used.values()))


class _Answer(msgspec.Struct, frozen=True):
    """The evidence that answers a demand.

    Attributes:
        ancestor: that it is about; None where it is about the package itself.
    """

    record: Record
    passport: Passport
    ancestor: Ancestor | None = None

    @property
    def records(self) -> tuple[Record, ...]:
        """All that the answer stands on."""
        hops = self.ancestor.hops if self.ancestor is not None else ()
        return (self.record, *(record for hop in hops for record in (hop.made, hop.verified) if record is not None))


def _answer(demand: Demand, passport: Passport, ancestry: Ancestry) -> _Answer | None:
    """The newest evidence about the package; about the nearest ancestor only where there is none and one will do."""
    if (own := passport.latest(demand.kind)) is not None:
        return _Answer(own, passport)
    if demand.about is About.PACKAGE:
        return None
    for ancestor in ancestry.ancestors:
        if (record := ancestor.passport.latest(demand.kind)) is not None:
            return _Answer(record, ancestor.passport, ancestor)
    return None


def _judged(demand: Demand, answer: _Answer, now: datetime) -> list[Finding]:
    """What is wanting about the evidence, else that it meets the demand; of an ancestor, about whom it is."""
    found = [*_examine(demand, answer.record, now), *_contradicted(demand, answer.passport)]
    if not found:
        met = [
            shown(measurement, digits=4)
            for threshold in demand.measurements
            for measurement in answer.record.evidence.measurements
            if threshold.concerns(measurement)
        ]
        why = "; ".join(dict.fromkeys(met)) or answer.record.evidence.summary
        found = [_met(demand.kind, f"{demand.kind} evidence meets the policy: {why}", demand.line)]
    if answer.ancestor is None:
        return found
    hops = answer.ancestor.hops
    told = f"; it is about {hops[-1].parent.name}, and verify ties this package to it"
    data: dict[str, JSON] = {
        "about": answer.passport.package,
        "tied_by": [hop.verified.digest for hop in hops if hop.verified is not None],
    }
    return [msgspec.structs.replace(one, message=one.message + told, data={**one.data, **data}) for one in found]


def _untied(demand: Demand, ancestry: Ancestry, reference: str) -> Iterator[Finding]:
    """Conversions across which evidence might have come, and why it does not."""
    if demand.about is About.LINEAGE:
        for hop in ancestry.gaps:
            message = f"{demand.kind} evidence about {hop.parent.name} does not count: {hop.gap}"
            where = Where(line=demand.line, field=demand.kind)
            data: dict[str, JSON] = {"child": hop.child, "parent": hop.parent.sha256, "evidence": hop.made.digest}
            fix = f"regraft verify REFERENCE {reference} (REFERENCE: {hop.parent.name})" if not hop.verified else None
            yield Finding("RGP-LIN-001", Severity.UNKNOWN, message, where, data, fix)


def _examine(demand: Demand, record: Record, now: datetime) -> Iterator[Finding]:
    evidence = record.evidence
    if evidence.verdict not in demand.verdicts:
        severity = Severity.HIGH if evidence.verdict is Verdict.FAIL else Severity.UNKNOWN
        wanted = " or ".join(demand.verdicts)
        message = f"{demand.kind} says {evidence.verdict} ({evidence.summary}); the policy wants {wanted}"
        yield _finding("RGP-VRD-001", severity, message, demand, record)
    kind = evidence.subject[0].digest
    if _DIGEST_STRENGTH.index(kind) < _DIGEST_STRENGTH.index(demand.digest):
        message = f"{demand.kind} knew the package by a {kind} digest; the policy wants {demand.digest}"
        yield _finding("RGP-DIG-001", Severity.UNKNOWN, message, demand, record)
    yield from _too_old(demand, record, now)
    yield from _too_severe(demand, record)
    for threshold in demand.measurements:
        yield from _measured(threshold, demand, record)


def _too_old(demand: Demand, record: Record, now: datetime) -> Iterator[Finding]:
    if demand.max_age_s is None:
        return
    try:
        age_s = (now - datetime.fromisoformat(record.evidence.started)).total_seconds()
    except (ValueError, TypeError):
        message = f"the date of the {demand.kind} evidence cannot be read: {record.evidence.started[:40]!r}"
        yield _finding("RGP-AGE-001", Severity.UNKNOWN, message, demand, record)
        return
    if age_s < -_CLOCK_SLACK_S:
        message = f"the {demand.kind} evidence is dated in the future: {record.evidence.started}"
        yield _finding("RGP-AGE-001", Severity.UNKNOWN, message, demand, record)
    elif age_s > demand.max_age_s:
        message = (
            f"the {demand.kind} evidence is {_days(age_s)} old; the policy wants at most {_days(demand.max_age_s)}"
        )
        yield _finding("RGP-AGE-001", Severity.UNKNOWN, message, demand, record)


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days"


def _too_severe(demand: Demand, record: Record) -> Iterator[Finding]:
    if demand.max_severity is None:
        return
    order = list(Severity)
    for found in record.evidence.findings:
        if order.index(found.severity) < order.index(demand.max_severity):
            severity = Severity.UNKNOWN if found.severity is Severity.UNKNOWN else Severity.HIGH
            message = f"{demand.kind} found {found.rule} ({found.severity}): {found.message}"
            yield _finding("RGP-SEV-001", severity, message, demand, record)


def _measured(threshold: Threshold, demand: Demand, record: Record) -> Iterator[Finding]:
    matching = [measurement for measurement in record.evidence.measurements if threshold.concerns(measurement)]
    if not matching:
        names = sorted({measurement.name for measurement in record.evidence.measurements})
        message = f"{demand.kind} did not measure {threshold.name}; it has: {', '.join(names) or 'nothing'}"
        yield _finding("RGP-MSR-001", Severity.UNKNOWN, message, demand, record, threshold.line)
    for measurement in matching:
        limit = threshold.limit_in(measurement.unit)
        if limit is None:
            message = f"{threshold.name} is in {measurement.unit or 'no unit'}, which {threshold.text!r} is not"
            yield _finding("RGP-MSR-004", Severity.UNKNOWN, message, demand, record, threshold.line)
            continue
        holds = threshold.holds(measurement, limit)
        if holds is None:
            message = f"{shown(measurement)} does not decide {threshold.text!r}"
            yield _finding("RGP-MSR-003", Severity.UNKNOWN, message, demand, record, threshold.line)
        elif not holds:
            message = f"{shown(measurement)} breaks {threshold.text!r}"
            yield _finding("RGP-MSR-002", Severity.HIGH, message, demand, record, threshold.line)


def _contradicted(demand: Demand, passport: Passport) -> Iterator[Finding]:
    for contradiction in passport.contradictions():
        if contradiction.kind == demand.kind:
            yield Finding(
                "RGP-CON-001",
                Severity.UNKNOWN,
                f"evidence contradicts itself: {contradiction.message}",
                Where(line=demand.line),
                {"evidence": [*contradiction.records]},
            )


def _licences(allowed: Sequence[str], records: Sequence[Record], reference: str) -> list[Finding]:
    stated: dict[str, Finding] = {}
    unknown = 0
    for finding in (finding for record in records for finding in record.evidence.findings):
        if finding.data.get("field") == "licence":
            names = _claimed(finding)
            stated |= dict.fromkeys(names, finding)
            unknown += not names
    known = {name.casefold() for name in allowed}
    refused = [
        Finding("RGP-LIC-001", Severity.HIGH, f"the licence {name} is not among those allowed", finding.where)
        for name, finding in stated.items()
        if not _is_allowed(name, known)
    ]
    if unknown or not stated:
        message = "no evidence about these bytes states the licence" if not records else "the licence is not known"
        fix = None if records else _how_to_know("inspect", reference)
        refused.append(Finding("RGP-LIC-002", Severity.UNKNOWN, message, fix=fix))
    return refused or [_met("licences", f"every licence is allowed: {', '.join(stated)}", None)]


def _claimed(finding: Finding) -> list[str]:
    provenance = finding.data.get("provenance")
    claims = provenance if isinstance(provenance, list) else []
    values = [claim.get("value") for claim in claims if isinstance(claim, dict)] + [finding.data.get("value")]
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))


def _is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression grants an allowed choice: parentheses first, then AND, then OR."""
    if expression.casefold() in allowed:
        return True
    known, nested = {*allowed, _GRANTED}, 1
    expression = expression.replace(_GRANTED, _REFUSED)
    while nested:
        expression, nested = _INNERMOST.subn(
            lambda part: f" {_GRANTED if _grants(part[1], known) else _REFUSED} ", expression
        )
    return _grants(expression, known)


def _grants(expression: str, allowed: set[str]) -> bool:
    """Whether one side of an OR, and there every side of an AND, is allowed."""
    choices = re.split(r"\s+OR\s+", expression)
    return any(all(part.strip().casefold() in allowed for part in re.split(r"\s+AND\s+", choice)) for choice in choices)


def _missing(demand: Demand, reference: str) -> Finding:
    beyond = ", nor about one that verify ties it to" if demand.about is About.LINEAGE else ""
    return Finding(
        "RGP-EVD-001",
        Severity.UNKNOWN,
        f"there is no {demand.kind} evidence about this package{beyond}",
        Where(line=demand.line),
        fix=_how_to_know(demand.kind, reference),
    )


def _how_to_know(kind: str, reference: str) -> str:
    """The command that makes the evidence; inspect alone does not hash unless it is told to."""
    return f"regraft {kind}{' --digest' if kind == 'inspect' else ''} {reference}"


def _met(field: str, message: str, line: int | None) -> Finding:
    return Finding("RGP-MET-001", Severity.INFO, message, Where(field=field, line=line))


def _unreadable(message: str) -> Finding:
    return Finding(
        "RGP-STO-001",
        Severity.UNKNOWN,
        f"evidence that may be about this package cannot be read: {message}",
        fix="regraft doctor checks the store",
    )


def _finding(
    rule: str, severity: Severity, message: str, demand: Demand, record: Record, line: int | None = None
) -> Finding:
    data: dict[str, JSON] = {"evidence": record.digest}
    return Finding(rule, severity, message, Where(line=line or demand.line, field=demand.kind), data)
