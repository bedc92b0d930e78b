from __future__ import annotations

from regraft.adaptation.constraints import Budget, judge
from regraft.adaptation.features import Candidate, Examined
from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Record, Subject, Verdict
from regraft.record.passport import passport_from_records
from regraft.record.policy import Demand, Policy

DIGEST = digest_bytes(b"package")


def examined(*, size: int | None = 1000, p95: tuple[float, float] | None = None, scanned: bool = False) -> Examined:
    records = []
    if p95 is not None:
        draft = Draft("bench")
        draft.subject.append(Subject("p", DIGEST))
        draft.measure("latency_p95", sum(p95) / 2, "ms", low=p95[0], high=p95[1], n=100, of={"batch": 1})
        draft.measure("latency_p95", 900, "ms", low=800, high=1000, n=100, of={"batch": 32})
        evidence = draft.finish(outcome="measured", summary="")
        records.append(Record(evidence.digest, evidence))
    if scanned:
        draft = Draft("scan")
        draft.subject.append(Subject("p", DIGEST))
        evidence = draft.finish(outcome="clean", summary="")
        records.append(Record(evidence.digest, evidence))
    return Examined(Candidate(ref="p"), Subject("p", DIGEST), size, passport_from_records(DIGEST, records))


def test_size_is_that_of_the_files() -> None:
    (judged,) = judge(examined(size=1500), Budget(size_bytes=1000), None)
    assert judged.verdict is Verdict.FAIL
    assert judged.excess == 0.5
    assert judge(examined(), Budget(size_bytes=1000), None)[0].verdict is Verdict.PASS


def test_latency_is_read_from_the_passport_and_else_left_to_a_later_step() -> None:
    budget = Budget(latency_p95_ms=20)
    verdicts = [judge(examined(p95=p95), budget, None)[0] for p95 in ((10, 15), (15, 25), (25, 30), None)]
    wanted = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.INCONCLUSIVE]
    assert [one.verdict for one in verdicts] == wanted
    assert [one.is_for_later for one in verdicts] == [False, False, False, True]


def test_of_a_policy_only_what_can_be_known_already_counts() -> None:
    demands = (Demand("scan"), Demand("verify"))
    policy = Policy("p", DIGEST, demands)
    (unknown,) = judge(examined(), None, policy)
    assert unknown.verdict is Verdict.INCONCLUSIVE
    assert "scan" in unknown.message
    assert judge(examined(scanned=True), None, policy)[0].verdict is Verdict.PASS
