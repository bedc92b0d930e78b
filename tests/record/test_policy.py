"""Policies: intervals decide, the unknown never passes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Finding, Measurement, Record, Severity, Verdict, Where
from regraft.record.passport import Passport, passport_from_records
from regraft.record.policy import Judgement, evaluate
from regraft.record.policy_file import parse_policy

Make = Callable[..., Record]
_NOW = datetime(2026, 3, 1, tzinfo=UTC)


def judge(text: str, passport: Passport) -> Judgement:
    return evaluate(parse_policy(f"schema: regraft.policy/1\n{text}\n".encode()), passport, now=_NOW)


def wanting(judgement: Judgement) -> list[str]:
    return [finding.rule for finding in judgement.findings if finding.severity is not Severity.INFO]


@pytest.fixture
def passport_of(digest: Callable[[str], Digest]) -> Callable[..., Passport]:
    return lambda *records, damage=(): passport_from_records(digest("model"), records, damage=damage)


@pytest.mark.parametrize(
    ("demand", "record", "verdict", "rule"),
    [
        ("{verdict: pass}", {}, Verdict.PASS, None),
        ("{}", {}, Verdict.PASS, None),
        ("", {}, Verdict.PASS, None),
        ("{verdict: pass}", {"verdict": Verdict.FAIL}, Verdict.FAIL, "RGP-VRD-001"),
        ("{verdict: pass}", {"verdict": Verdict.INCONCLUSIVE}, Verdict.INCONCLUSIVE, "RGP-VRD-001"),
        ("{verdict: [pass, inconclusive]}", {"verdict": Verdict.INCONCLUSIVE}, Verdict.PASS, None),
        ("{}", {"digest": DigestKind.PARTIAL}, Verdict.INCONCLUSIVE, "RGP-DIG-001"),
        ("{}", {"digest": DigestKind.DECLARED}, Verdict.INCONCLUSIVE, "RGP-DIG-001"),
        ("{digest: declared}", {"digest": DigestKind.DECLARED}, Verdict.PASS, None),
        ("{digest: declared}", {"digest": DigestKind.PARTIAL}, Verdict.INCONCLUSIVE, "RGP-DIG-001"),
        ("{digest: partial}", {"digest": DigestKind.PARTIAL}, Verdict.PASS, None),
        ("{max_age: 30 d}", {"started": "2026-02-10T00:00:00.000Z"}, Verdict.PASS, None),
        ("{max_age: 10 d}", {"started": "2026-02-10T00:00:00.000Z"}, Verdict.INCONCLUSIVE, "RGP-AGE-001"),
        ("{max_age: 30 d}", {"started": "2027-02-10T00:00:00.000Z"}, Verdict.INCONCLUSIVE, "RGP-AGE-001"),
        ("{max_age: 30 d}", {"started": "yesterday"}, Verdict.INCONCLUSIVE, "RGP-AGE-001"),
        ("{max_age: 30 d}", {"started": "2026-02-10T00:00:00"}, Verdict.INCONCLUSIVE, "RGP-AGE-001"),
    ],
)
def test_demands_on_one_record(
    demand: str,
    record: dict,
    verdict: Verdict,
    rule: str | None,
    make_record: Make,
    passport_of: Callable[..., Passport],
) -> None:
    judgement = judge(f"evidence:\n  scan: {demand}", passport_of(make_record("scan", **record)))
    assert judgement.verdict is verdict
    assert wanting(judgement) == ([rule] if rule else [])
    assert len(judgement.used) == 1
    assert all(finding.where.line == 3 for finding in judgement.findings)


def test_what_is_missing_is_inconclusive_and_says_how_to_get_it(
    make_record: Make, passport_of: Callable[..., Passport]
) -> None:
    judgement = judge("evidence: {scan: {}, verify: {}}", passport_of(make_record("scan")))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    (missing,) = [finding for finding in judgement.findings if finding.rule == "RGP-EVD-001"]
    assert missing.fix == "regraft verify REF"


def test_a_refusal_outweighs_what_is_unknown(make_record: Make, passport_of: Callable[..., Passport]) -> None:
    failed = make_record("scan", verdict=Verdict.FAIL)
    assert judge("evidence: {scan: {}, verify: {}}", passport_of(failed)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("highest", "found", "verdict"),
    [
        ("medium", Severity.MEDIUM, Verdict.PASS),
        ("medium", Severity.UNKNOWN, Verdict.INCONCLUSIVE),
        ("medium", Severity.HIGH, Verdict.FAIL),
        ("low", Severity.MEDIUM, Verdict.FAIL),
        ("high", Severity.HIGH, Verdict.PASS),
        ("info", Severity.INFO, Verdict.PASS),
    ],
)
def test_severity(
    highest: str, found: Severity, verdict: Verdict, make_record: Make, passport_of: Callable[..., Passport]
) -> None:
    record = make_record("scan", findings=(Finding("RGS-X-001", found, "m"),))
    judgement = judge(f"evidence: {{scan: {{max_severity: {highest}}}}}", passport_of(record))
    assert judgement.verdict is verdict


@pytest.mark.parametrize(
    ("comparison", "verdict", "rule"),
    [
        # the interval is [9.7, 10.4] ms around 9.9
        ("latency_p95.high <= 20 ms", Verdict.PASS, None),
        ("latency_p95.high <= 10.4 ms", Verdict.PASS, None),
        ("latency_p95.high < 10.4 ms", Verdict.FAIL, "RGP-MSR-002"),
        ("latency_p95.high <= 10 ms", Verdict.FAIL, "RGP-MSR-002"),
        ("latency_p95.low <= 10 ms", Verdict.PASS, None),
        ("latency_p95 <= 10.4 ms", Verdict.PASS, None),
        ("latency_p95 <= 10 ms", Verdict.INCONCLUSIVE, "RGP-MSR-003"),
        ("latency_p95 <= 9 ms", Verdict.FAIL, "RGP-MSR-002"),
        ("latency_p95 >= 9 ms", Verdict.PASS, None),
        ("latency_p95 > 0.011 s", Verdict.FAIL, "RGP-MSR-002"),
        ("latency_p95.high <= 0.02 s", Verdict.PASS, None),
        ("latency_p95.high <= 20000 µs", Verdict.PASS, None),
        ("latency_p95.high<=20ms", Verdict.PASS, None),
        ("latency_p95.high <= 20", Verdict.INCONCLUSIVE, "RGP-MSR-004"),
        ("latency_p95.high <= 20 MB", Verdict.INCONCLUSIVE, "RGP-MSR-004"),
        ("latency_p99.high <= 20 ms", Verdict.INCONCLUSIVE, "RGP-MSR-001"),
        ("latency_p50 <= 20 ms", Verdict.INCONCLUSIVE, "RGP-MSR-003"),
        ("latency_p50.low <= 20 ms", Verdict.INCONCLUSIVE, "RGP-MSR-003"),
        ("{that: latency_p95.high <= 20 ms, of: {batch: 1}}", Verdict.PASS, None),
        ("{that: latency_p95.high <= 20 ms, of: {batch: 2}}", Verdict.INCONCLUSIVE, "RGP-MSR-001"),
        ("accuracy.low >= 0.7", Verdict.PASS, None),
        ("accuracy.low >= 70 %", Verdict.PASS, None),
        ("accuracy.low >= 72 %", Verdict.FAIL, "RGP-MSR-002"),
        ("accuracy >= 0.75", Verdict.INCONCLUSIVE, "RGP-MSR-003"),
    ],
)
def test_intervals_are_compared_not_points(
    comparison: str, verdict: Verdict, rule: str | None, make_record: Make, passport_of: Callable[..., Passport]
) -> None:
    measurements = (
        Measurement("latency_p95", 9.9, "ms", low=9.7, high=10.4, n=200, of={"batch": 1}),
        Measurement("latency_p50", 8.0, "ms"),
        Measurement("accuracy", 0.76, "", low=0.71, high=0.81),
    )
    record = make_record("bench", measurements=measurements)
    judgement = judge(f"evidence:\n  bench:\n    measurements:\n      - {comparison}", passport_of(record))
    assert judgement.verdict is verdict
    assert wanting(judgement) == ([rule] if rule else [])
    if rule:
        assert judgement.findings[0].where.line == 5


def test_each_measurement_of_the_name_must_meet_it(make_record: Make, passport_of: Callable[..., Passport]) -> None:
    fast = Measurement("latency", 1, "ms", low=1, high=1, of={"batch": 1})
    slow = Measurement("latency", 9, "ms", low=9, high=9, of={"batch": 8})
    record = make_record("bench", measurements=(fast, slow))
    assert judge("evidence: {bench: {measurements: [latency <= 5 ms]}}", passport_of(record)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        (["MIT"], Verdict.PASS),
        (["mit"], Verdict.PASS),
        (["MIT", "Apache-2.0"], Verdict.PASS),
        (["GPL-3.0-only OR MIT"], Verdict.PASS),
        (["GPL-3.0-only AND MIT"], Verdict.FAIL),
        (["MIT AND Apache-2.0"], Verdict.PASS),
        (["(MIT OR GPL-3.0-only) AND (Apache-2.0)"], Verdict.PASS),
        (["MIT AND (GPL-3.0-only OR (Apache-2.0 AND MIT))"], Verdict.PASS),
        (["MIT AND (GPL-3.0-only OR LGPL-3.0-only)"], Verdict.FAIL),
        (["MIT OR (GPL-3.0-only"], Verdict.PASS),
        (["(MIT"], Verdict.FAIL),
        (["()"], Verdict.FAIL),
        (["M(GPL-3.0-only)IT"], Verdict.FAIL),
        (["GPL-3.0-only (MIT)"], Verdict.FAIL),
        (["\0"], Verdict.FAIL),
        (["MIT", "CC-BY-NC-4.0"], Verdict.FAIL),
        (["free for friends"], Verdict.FAIL),
        ([], Verdict.INCONCLUSIVE),
    ],
)
def test_every_claim_about_the_licence_must_be_allowed(
    claims: list[str], verdict: Verdict, make_record: Make, passport_of: Callable[..., Passport]
) -> None:
    data = {"field": "licence", "value": claims[0] if claims else None, "provenance": [{"value": c} for c in claims]}
    other = {"field": "task", "value": "text-classification", "provenance": []}
    findings = tuple(Finding("RGI-FACT-001", Severity.INFO, "m", Where(), fields) for fields in (data, other))
    record = make_record("inspect", findings=findings)
    assert judge("licences: [MIT, Apache-2.0]", passport_of(record)).verdict is verdict


def test_no_evidence_about_the_licence_is_inconclusive(make_record: Make, passport_of: Callable[..., Passport]) -> None:
    judgement = judge("licences: [MIT]", passport_of(make_record("scan")))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.findings[0].fix == "regraft inspect --digest REF"
    assert judge("licences: [MIT]", passport_of(make_record("inspect"))).verdict is Verdict.INCONCLUSIVE


def test_contradictions_and_damage_are_never_a_pass(make_record: Make, passport_of: Callable[..., Passport]) -> None:
    early = make_record("scan", verdict=Verdict.FAIL, started="2026-01-01T00:00:00.000Z")
    late = make_record("scan", started="2026-02-01T00:00:00.000Z")
    judgement = judge("evidence: {scan: {}}", passport_of(early, late))
    assert (judgement.verdict, wanting(judgement)) == (Verdict.INCONCLUSIVE, ["RGP-CON-001"])
    damaged = judge("evidence: {scan: {}}", passport_of(late, damage=["/s/x.json: changed"]))
    assert (damaged.verdict, wanting(damaged)) == (Verdict.INCONCLUSIVE, ["RGP-STO-001"])
