"""Evidence: what goes in comes out, and nothing that is no number gets in."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.record.digest import Digest
from regraft.record.evidence import (
    Artifact,
    Draft,
    Evidence,
    Finding,
    Severity,
    Subject,
    Verdict,
    Where,
    combine,
    evidence_from_json,
)

_DIGEST = Digest("ab" * 32)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def _has_not_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_not_finite(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_not_finite(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)


@given(_JSON)
def test_any_value_survives_the_round_trip_and_nan_is_a_finding(value: Any) -> None:
    draft = Draft("scan", parameters={"value": value})
    draft.subject.append(Subject("a", _DIGEST))
    draft.find(Finding("X-1", Severity.INFO, "m", Where(), {"value": value}))
    draft.measure("size", 1, "B", of={"value": value})
    evidence = draft.finish(outcome="done", summary="s")
    data = evidence.to_json()
    assert evidence_from_json(data) == evidence
    assert evidence_from_json(data).to_json() == data
    strict = json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert strict["schema"] == "regraft.evidence/1"
    rules = [finding.rule for finding in evidence.findings]
    assert ("RGE-NUM-001" in rules) == _has_not_finite(value)
    assert evidence.verdict is (Verdict.INCONCLUSIVE if _has_not_finite(value) else Verdict.PASS)


def test_a_measurement_that_is_not_finite_is_null_and_inconclusive() -> None:
    draft = Draft("bench")
    draft.measure("latency", math.nan, "ms", low=-math.inf, high=2.0, n=3)
    evidence = draft.finish(outcome="done", summary="s")
    (measurement,) = evidence.measurements
    assert (measurement.value, measurement.low, measurement.high, measurement.n) == (None, None, 2.0, 3)
    assert [finding.rule for finding in evidence.findings] == ["RGE-NUM-001"]
    assert evidence.verdict is Verdict.INCONCLUSIVE


def test_later_changes_do_not_reach_finished_evidence() -> None:
    inner: list[Any] = [1]
    draft = Draft("scan", parameters={"list": inner})
    draft.find(Finding("X-1", Severity.INFO, "m", Where(), {"list": inner}))
    evidence = draft.finish(outcome="done", summary="s")
    before = evidence.to_json()
    inner.append(2)
    draft.parameters["more"] = 1
    draft.find(Finding("X-2", Severity.INFO, "m"))
    assert evidence.to_json() == before
    with pytest.raises(AttributeError):
        evidence.verdict = Verdict.PASS  # type: ignore[misc]


@pytest.mark.parametrize("value", [b"bytes", {1: 2}, {1}, object(), 1j, [{"a": (b"x",)}]])
def test_what_json_has_no_form_for_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"parameters\.value"):
        Draft("scan", parameters={"value": value}).finish(outcome="done", summary="s")


def test_undecodable_names_are_written_out() -> None:
    draft = Draft("scan")
    draft.subject.append(Subject("odd\udcff.bin", _DIGEST))
    draft.artifacts.append(Artifact("x\udc80", _DIGEST))
    draft.find(Finding("X-1", Severity.INFO, "in odd\udcff.bin", Where(file="odd\udcff.bin"), {"k\udcff": "v\udcff"}))
    evidence = draft.finish(outcome="done", summary="odd\udcff.bin")
    assert evidence_from_json(evidence.to_json()) == evidence
    assert evidence.subject[0].name == "odd\\udcff.bin"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "regraft.evidence/2"},
        {"verdict": "maybe"},
        {"subject": [{"name": "a", "sha256": "xyz"}]},
        {"subject": [{"name": "a", "sha256": "AB" * 32}]},
        {"findings": [{"rule": "r", "severity": "awful", "message": "m"}]},
        {"measurements": [{"name": "n", "value": "1", "unit": "s"}]},
        {"measurements": [{"name": "n", "value": 1, "unit": "s", "n": -1}]},
        {"seconds": None},
    ],
)
def test_wrong_fields_are_refused(change: dict[str, Any], make_evidence: Callable[..., Evidence]) -> None:
    fields = json.loads(make_evidence().to_json()) | change
    with pytest.raises(ValueError, match=r"."):
        evidence_from_json(json.dumps(fields).encode())


def test_fields_of_a_later_version_are_ignored(make_evidence: Callable[..., Evidence]) -> None:
    evidence = make_evidence()
    fields = json.loads(evidence.to_json()) | {"new_in_1_1": {"a": 1}}
    assert evidence_from_json(json.dumps(fields).encode()) == evidence


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 255))
def test_damaged_records_raise_value_error_only(noise: bytes, position: int, value: int) -> None:
    draft = Draft("scan", parameters={"a": [1, 2.5, None]})
    draft.subject.append(Subject("a", _DIGEST))
    data = bytearray(draft.finish(outcome="done", summary="s").to_json())
    position %= len(data)
    for damaged in (
        noise,
        bytes(data[:position]),
        bytes(data[:position]) + bytes([value]) + bytes(data[position + 1 :]),
    ):
        with contextlib.suppress(ValueError):
            evidence_from_json(damaged)


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_deep_nesting_is_a_value_error(bracket: bytes) -> None:
    with pytest.raises(ValueError, match="nested"):
        evidence_from_json(b'{"parameters":{"a":' + bracket * 200_000)


def test_fail_outweighs_inconclusive_outweighs_pass() -> None:
    assert combine([]) is Verdict.INCONCLUSIVE
    assert combine([Verdict.PASS]) is Verdict.PASS
    assert combine([Verdict.PASS, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE
    assert combine([Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.PASS]) is Verdict.FAIL
    assert [verdict.exit_code for verdict in Verdict] == [0, 1, 3]
