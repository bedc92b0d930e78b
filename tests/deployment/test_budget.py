"""Device budgets: parsed with lines in every complaint, judged with the interval."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.deployment.budget import Limit, judge, read_budget
from regraft.errors import UsageError
from regraft.record.evidence import Measurement, Verdict


def budget_file(folder: Path, text: str) -> Path:
    path = folder / "laptop.yaml"
    path.write_text(text)
    return path


def test_a_budget_is_read_in_the_units_of_the_measurements(tmp_path: Path) -> None:
    text = "schema: regraft.device/1\nlatency_p95: 0.02 s\nthroughput: 50 samples/s\nsize: 100 MB\nbatch: 8\n"
    budget = read_budget(budget_file(tmp_path, text))
    assert budget.name == "laptop"
    assert [str(limit) for limit in budget.limits] == [
        "latency_p95 ≤ 20 ms at batch 8",
        "size ≤ 100 MB",
        "throughput ≥ 50 samples/s at batch 8",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: regraft.device/1\nlatency_p59: 2 ms\n", "did you mean .latency_p"),
        ("schema: regraft.device/1\nlatency_p95: 20\n", "the unit is missing"),
        ("schema: regraft.device/1\nlatency_p95: 20 MB\n", "not an amount in ms"),
        ("schema: regraft.device/1\n", "limits nothing"),
        ("latency_p95: 20 ms\n", "the schema is not"),
        ("schema: regraft.device/1\nlatency_p95: 20 ms\nbatch: 0\n", "batch is 0"),
        ("[1, 2", "laptop.yaml"),
    ],
)
def test_a_wrong_budget_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_budget(budget_file(tmp_path, text))
    assert re.search(said, f"{caught.value} {caught.value.hint}")
    assert "laptop.yaml" in caught.value.where


UPPER = Limit("latency_p95", "latency_p95", 20.0, "ms", True, 1)
LOWER = Limit("throughput", "throughput", 50.0, "samples/s", False, 1)


def latency(low: float | None, value: float, high: float | None, *, batch: int = 1) -> Measurement:
    return Measurement("latency_p95", value, "ms", low=low, high=high, n=100, of={"batch": batch})


@pytest.mark.parametrize(
    ("measured", "verdict", "said"),
    [
        (latency(9, 10, 12), Verdict.PASS, "8 ms (40%) to spare"),
        (latency(22, 25, 30), Verdict.FAIL, "missed by 2 ms (10%)"),
        (latency(18, 19, 21), Verdict.INCONCLUSIVE, "straddles"),
        (latency(9, 10, None), Verdict.INCONCLUSIVE, "too few runs"),
        (latency(22, 25, None), Verdict.FAIL, "missed by 2 ms"),
        (latency(9, 10, 12, batch=32), Verdict.INCONCLUSIVE, "not measured"),
    ],
)
def test_the_interval_decides(measured: Measurement, verdict: Verdict, said: str) -> None:
    judgement = judge(UPPER, [measured])
    assert judgement.verdict is verdict
    assert said in judgement.message


def one(name: str, unit: str, value: float) -> Measurement:
    return Measurement(name, value, unit, n=1, of={"batch": 1})


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (one("latency_p95", "ms", 1), Verdict.INCONCLUSIVE),
        (one("predicted_latency_p95", "ms", 1), Verdict.INCONCLUSIVE),
        (one("first_inference", "ms", 1), Verdict.INCONCLUSIVE),
        (one("load_time", "ms", 1), Verdict.INCONCLUSIVE),
        (one("size_on_disk", "bytes", 1), Verdict.PASS),
        (one("peak_memory", "bytes", 1), Verdict.PASS),
    ],
)
def test_one_pass_or_start_bounds_no_time(measured: Measurement, verdict: Verdict) -> None:
    is_predicted = measured.name.startswith("predicted_")
    limit = Limit("some", measured.name.removeprefix("predicted_"), 20.0, measured.unit)
    assert judge(limit, [measured], is_predicted=is_predicted).verdict is verdict


def test_a_lower_limit_is_judged_from_the_other_side() -> None:
    def rate(low: float, high: float) -> Verdict:
        return judge(
            LOWER, [Measurement("throughput", 60, "samples/s", low=low, high=high, n=9, of={"batch": 1})]
        ).verdict

    assert rate(55, 65) is Verdict.PASS
    assert rate(20, 40) is Verdict.FAIL
    assert rate(45, 65) is Verdict.INCONCLUSIVE


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_no_interval_that_reaches_beyond_the_limit_passes(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    verdict = judge(UPPER, [latency(low, value, high)]).verdict
    assert verdict is (Verdict.PASS if high <= 20 else Verdict.FAIL if low > 20 else Verdict.INCONCLUSIVE)
