"""Margins and outcomes."""

from __future__ import annotations

import msgspec
import pytest

from regraft.conceptual.claim import Claim
from regraft.conceptual.judgement import Margin, judge_direct, judge_interval
from regraft.conceptual.metrics import Interval
from regraft.package.reference import ModelRef
from regraft.record.digest import digest_bytes
from regraft.record.evidence import Verdict

CLAIM = Claim(
    "c", digest_bytes(b""), ModelRef("path", "m"), ModelRef("path", "d"), "e", "accuracy", "0.80", 0.80, 0.005
)


@pytest.mark.parametrize(
    ("value", "word", "agreement"),
    [
        (0.80, "reproduced", "to the last printed digit"),
        (0.795, "reproduced", "to the last printed digit"),
        (0.807, "reproduced", "within the margin"),
        (0.793, "reproduced", "within the margin"),
        (0.792, "not_reproduced", "none"),
        (0.81, "better", "none: it is better"),
    ],
)
def test_the_same_data_is_compared_directly(value: float, word: str, agreement: str) -> None:
    outcome = judge_direct(CLAIM, value, Margin(0.005, 0.0025))
    assert (outcome.word, outcome.agreement) == (word, agreement)


def test_a_declared_margin_takes_the_place_of_the_default() -> None:
    assert Margin(0.005, 0.002).size == pytest.approx(0.007)
    assert judge_direct(CLAIM, 0.77, Margin(0.005, 0.002, 0.05)).word == "reproduced"
    assert judge_direct(CLAIM, 0.797, Margin(0.005, 0.0, 0.0)).word == "reproduced"


@pytest.mark.parametrize(
    ("low", "high", "word", "verdict"),
    [
        (0.796, 0.804, "reproduced", Verdict.PASS),
        (0.796, 0.9, "reproduced", Verdict.PASS),
        (0.81, 0.9, "better", Verdict.PASS),
        (0.7, 0.9, "undecided", Verdict.INCONCLUSIVE),
        (0.7, 0.79, "not_reproduced", Verdict.FAIL),
    ],
)
def test_on_another_sample_the_whole_interval_decides(low: float, high: float, word: str, verdict: Verdict) -> None:
    outcome = judge_interval(CLAIM, Interval(low, high, 50), Margin(0.005, 0))
    assert (outcome.word, outcome.verdict) == (word, verdict)


def test_the_uncertainty_that_a_claim_states_counts_on_another_sample_only() -> None:
    unsure = msgspec.structs.replace(CLAIM, uncertainty=0.05)
    assert judge_interval(unsure, Interval(0.75, 0.84, 50), Margin(0.005, 0)).word == "reproduced"
    assert judge_direct(unsure, 0.75, Margin(0.005, 0)).word == "not_reproduced"
