"""Policies: intervals decide, the unknown never passes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Finding, Measurement, Record, Severity, Verdict, Where
from regraft.record.lineage import Ancestry, trace_ancestry
from regraft.record.passport import Passport, passport_from_records
from regraft.record.policy import Judgement, evaluate
from regraft.record.policy_file import parse_policy

Make = Callable[..., Record]
_NOW = datetime(2026, 3, 1, tzinfo=UTC)


def judge(text: str, passport: Passport, ancestry: Ancestry | None = None) -> Judgement:
    policy = parse_policy(f"schema: regraft.policy/1\n{text}\n".encode())
    return evaluate(policy, passport, ancestry=ancestry, now=_NOW)


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
        ("size <= 100 MB", Verdict.PASS, None),
        ("size.high <= 100 MB", Verdict.PASS, None),
        ("size <= 90 MB", Verdict.FAIL, "RGP-MSR-002"),
        ("decision_flips <= 3", Verdict.PASS, None),
        ("decision_flips < 3", Verdict.FAIL, "RGP-MSR-002"),
        ("log_loss <= 1 nats", Verdict.INCONCLUSIVE, "RGP-MSR-003"),
        ("{that: latency_p95.high <= 20 ms, of: {batch: 1}}", Verdict.PASS, None),
        ("{that: latency_p95.high <= 20 ms, of: {batch: 2}}", Verdict.INCONCLUSIVE, "RGP-MSR-001"),
        ("accuracy.low >= 0.7", Verdict.PASS, None),
        ("accuracy.low >= 70 %", Verdict.PASS, None),
        ("accuracy.low >= 72 %", Verdict.FAIL, "RGP-MSR-002"),
        ("accuracy >= 0.75", Verdict.INCONCLUSIVE, "RGP-MSR-003"),
    ],
)
def test_intervals_are_compared_and_exact_numbers_but_no_estimates_without_interval(
    comparison: str, verdict: Verdict, rule: str | None, make_record: Make, passport_of: Callable[..., Passport]
) -> None:
    measurements = (
        Measurement("latency_p95", 9.9, "ms", low=9.7, high=10.4, n=200, of={"batch": 1}),
        Measurement("latency_p50", 8.0, "ms", n=200),
        Measurement("size", 90_868_376, "bytes"),
        Measurement("decision_flips", 3, "decisions", n=2000),
        Measurement("log_loss", 0.51, "nats", n=2000),
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


_GAIN = "evidence:\n  adapt: {about: lineage, measurements: [accuracy_gain.low > 0 points]}"


@pytest.fixture
def family(make_record: Make, digest: Callable[[str], Digest]) -> Callable[..., tuple[Passport, Ancestry]]:
    """Passport and ancestry of `onnx`, which was converted from `mine`, which was adapted from `base`."""

    def make(*, gain: float = 3.4, verify: Verdict = Verdict.PASS, own: bool = False) -> tuple[Passport, Ancestry]:
        interval = Measurement("accuracy_gain", gain + 2, "points", low=gain, high=gain + 4, n=2000)
        records = [
            make_record("adapt", "mine", materials=["base"], measurements=(interval,)),
            make_record("convert", "onnx", materials=["mine"]),
            make_record("verify", "onnx", materials=["mine"], verdict=verify),
        ]
        if own:
            records.append(make_record("adapt", "onnx", materials=["mine"], verdict=Verdict.INCONCLUSIVE))
        passport = passport_from_records(digest("onnx"), records)
        return passport, trace_ancestry(passport, lambda package: passport_from_records(package, records))

    return make


def test_what_is_known_about_the_parent_holds_for_a_conversion_that_verify_ties_to_it(
    family: Callable[..., tuple[Passport, Ancestry]], digest: Callable[[str], Digest]
) -> None:
    judgement = judge(_GAIN, *family())
    assert (judgement.verdict, wanting(judgement)) == (Verdict.PASS, [])
    (met,) = judgement.findings
    assert "accuracy_gain in [3.4, 7.4] points" in met.message
    assert "it is about mine" in met.message
    assert met.data["about"] == digest("mine")
    assert [record.evidence.kind for record in judgement.used] == ["adapt", "convert", "verify"]
    assert met.data["tied_by"] == [judgement.used[2].digest]


def test_what_the_parent_does_not_meet_is_not_met(family: Callable[..., tuple[Passport, Ancestry]]) -> None:
    judgement = judge(_GAIN, *family(gain=-0.1))
    assert (judgement.verdict, wanting(judgement)) == (Verdict.FAIL, ["RGP-MSR-002"])


@pytest.mark.parametrize("verify", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_nothing_comes_across_a_conversion_whose_verify_did_not_pass(
    verify: Verdict, family: Callable[..., tuple[Passport, Ancestry]]
) -> None:
    judgement = judge(_GAIN, *family(verify=verify))
    assert (judgement.verdict, wanting(judgement)) == (Verdict.INCONCLUSIVE, ["RGP-EVD-001", "RGP-LIN-001"])
    assert f"verify says {verify}" in judgement.findings[1].message
    assert judgement.used == ()


def test_evidence_about_the_package_itself_comes_first(family: Callable[..., tuple[Passport, Ancestry]]) -> None:
    judgement = judge(_GAIN, *family(own=True))
    assert judgement.verdict is Verdict.INCONCLUSIVE, "the parent may not mend what is known about the package itself"
    assert "RGP-VRD-001" in wanting(judgement)


def test_a_demand_is_about_the_package_unless_it_says_otherwise(
    family: Callable[..., tuple[Passport, Ancestry]],
) -> None:
    passport, ancestry = family()
    assert wanting(judge("evidence: {adapt: {}}", passport, ancestry)) == ["RGP-EVD-001"]
    assert wanting(judge(_GAIN, passport)) == ["RGP-EVD-001"], "without an ancestry nothing is known about it"


def test_a_file_that_may_hide_a_failed_comparison_is_never_a_pass(
    family: Callable[..., tuple[Passport, Ancestry]], make_record: Make, digest: Callable[[str], Digest]
) -> None:
    passport, ancestry = family()
    (mine,) = ancestry.ancestors
    hidden = passport_from_records(mine.passport.package, mine.passport.records, damage=["/s/x.json: changed"])
    damaged = trace_ancestry(passport, lambda _: hidden)
    assert wanting(judge(_GAIN, passport, damaged)) == ["RGP-STO-001"]
