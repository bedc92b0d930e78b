"""check: may this package be used? A policy, judged on the evidence in the store."""

from __future__ import annotations

import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.record.digest import Digest, parse_digest
from regraft.record.evidence import DigestKind, Draft, Evidence, Severity, Subject, Verdict
from regraft.record.lineage import trace_ancestry
from regraft.record.passport import Passport, read_passport
from regraft.record.policy import Judgement, Policy, evaluate
from regraft.record.policy_file import read_policy
from regraft.record.store import Store, open_store

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.package.reference import ModelRef
    from regraft.package.sources.interface import SourceOptions

_OUTCOMES = {Verdict.PASS: "allowed", Verdict.FAIL: "refused", Verdict.INCONCLUSIVE: "undecided"}


def check(
    package: str | os.PathLike[str] | ModelRef | Package | Passport,
    policy: str | os.PathLike[str] | Policy,
    *,
    store: Store | None = None,
    options: SourceOptions | None = None,
    now: datetime | None = None,
) -> Evidence:
    """Judge a package by a policy, on the evidence that the store has about it, and about what it is converted from.

    Args:
        package: a reference or an open package (its bytes are hashed), a package digest of 64 hexadecimal
            characters, or a passport.
        policy: a policy, or the path of a policy file.
        store: default: the user's.
        options: how the package is opened.
        now: the time against which the age of evidence is counted; default: the clock.
    Returns:
        evidence of kind `check`, outcome allowed, refused or undecided. Its materials are the policy and the
        evidence that it stands on.
    Raises:
        PolicyError: the policy cannot be understood.
        NotFound, AccessDenied, StoreError and what opening the package raises.
    """
    rules = policy if isinstance(policy, Policy) else read_policy(Path(policy))
    draft = Draft("check", parameters={"policy": rules.name, "demands": len(rules.demands)})
    store = store or open_store()
    subjects, passport, reference = _passport(package, store, options)
    ancestry = trace_ancestry(passport, lambda digest: read_passport(store, digest)) if rules.looks_up else None
    judgement = evaluate(rules, passport, ancestry=ancestry, now=now, reference=reference)
    draft.subject += subjects
    draft.materials.append(Subject(rules.name, rules.digest))
    draft.materials += [Subject(f"{record.evidence.kind} evidence", record.digest) for record in judgement.used]
    draft.findings += judgement.findings
    outcome = _OUTCOMES[judgement.verdict]
    return draft.finish(outcome=outcome, summary=_summary(rules, judgement), verdict=judgement.verdict)


def _passport(
    package: str | os.PathLike[str] | ModelRef | Package | Passport, store: Store, options: SourceOptions | None
) -> tuple[list[Subject], Passport, str]:
    """The package as a subject, its passport, and the reference by which another verb finds it."""
    if isinstance(package, Passport):
        return [Subject(package.name, package.package, DigestKind.DECLARED)], package, "REF"
    if isinstance(package, str) and (digest := _digest(package)):
        passport = read_passport(store, digest)
        return [Subject(passport.name, digest, DigestKind.DECLARED)], passport, "REF"
    from regraft.package.package import Package, open_package

    opened = open_package(package, options=options)
    try:
        manifest = opened.manifest()
        subjects = opened.subjects(manifest)
    finally:
        if not isinstance(package, Package):
            opened.close()
    return subjects, read_passport(store, manifest.digest), shlex.quote(str(opened.ref))


def _digest(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except ValueError:
        return None


def _summary(policy: Policy, judgement: Judgement) -> str:
    wanting = [finding for finding in judgement.findings if finding.severity is not Severity.INFO]
    reason = next((f for f in wanting if f.severity.verdict is judgement.verdict), None)
    if reason is None:
        return f"every demand of {policy.name} is met"
    more = f", and {len(wanting) - 1} more" if len(wanting) > 1 else ""
    return f"{reason.message}{more} ({policy.name})"
